"""What other processes do in these tests; imports little, since each process starts anew."""

import multiprocessing
from collections.abc import Callable, Sequence

from contracts.settings import Settings
from ledger import StaleVersion, open_ledger


def open_once(home: Settings) -> None:
    open_ledger(home).releases()


def count_up(home: Settings, name: str, times: int) -> None:
    """Proposes again and again until it has won so many times."""
    ledger, won = open_ledger(home), 0
    while won < times:
        try:
            ledger.propose(name, ledger.pointer().version)
            won += 1
        except StaleVersion:
            pass


def at_once(function: Callable, arguments: Sequence[tuple], seconds: float = 120) -> list[int | None]:
    """Exit codes of one process for each of the arguments, started together."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=function, args=args) for args in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(seconds)
    return [worker.exitcode for worker in workers]
