"""What bench/kills.py kills: the real commands' functions, each in a process of its own that may end at a chosen event.

An event is something that changes state: a file opened for writing, renamed or removed, a sync, an SQL statement or
commit, a call that changes Milvus. Before the chosen one happens the process sends itself SIGKILL.
Imported by a fork server once, so that a point costs no imports.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

from contracts.eligibility import Record
from contracts.errors import MarqueeError
from contracts.release import State
from contracts.settings import Settings, load
from jobs.evaluation import judge
from jobs.index import build as index
from jobs.ranker import train as ranker
from jobs.recipes import recipe
from jobs.release import collect, launches, rollback, seal
from jobs.towers import train as towers
from ledger import open_ledger

CHANGES_MILVUS = ("create_collection", "insert", "flush", "load_collection", "drop_collection", "create_alias", "alter_alias")


class Killer:
    """Counts events, and ends this very process before number `at` (0: never)."""

    def __init__(self, at: int, home: Path):
        self.at, self.home, self.seen = at, str(home), 0

    def count(self, *_arguments: Any, **_more: Any) -> None:
        self.seen += 1
        if self.seen == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        sys.addaudithook(self._audit)
        event.listen(Engine, "before_cursor_execute", self.count)
        event.listen(Engine, "commit", self.count)
        os.fsync = self._counted(os.fsync)
        for name in CHANGES_MILVUS:
            setattr(MilvusClient, name, self._counted(getattr(MilvusClient, name)))

    def _counted(self, function: Callable) -> Callable:
        def counted(*arguments, **more):
            self.count()
            return function(*arguments, **more)
        return counted

    def _audit(self, name: str, arguments: tuple) -> None:
        if name in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or (name == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR) and str(arguments[0]).startswith(self.home)):
            self.count()


def child(stage: str, environment: dict[str, str], arguments: dict[str, Any], kill_at: int, said: Path) -> None:
    """Runs one task; writes how many events it had."""
    os.environ.clear()
    os.environ.update(environment)
    settings = load()
    killer = Killer(kill_at, settings.home)
    killer.install()
    try:
        TASKS[stage](settings, **arguments)
    except MarqueeError as error:
        print(f"{stage}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    events = killer.seen
    killer.at = 0
    said.write_text(json.dumps({"events": events}))
    os._exit(0)


def run_towers(settings: Settings, release: str) -> None:
    """Training of one epoch: the same path in less time."""
    towers.run(settings, release, replace(recipe("nano").towers, epochs=1), force=False)


def run_index(settings: Settings, release: str) -> None:
    index.run(settings, release, recipe("nano").index)


def run_ranker(settings: Settings, release: str) -> None:
    ranker.run(settings, release, recipe("nano").ranker)


def run_seal(settings: Settings, release: str) -> None:
    seal.run(settings, release)


def run_manifest(settings: Settings, release: str) -> None:
    """The whole judge, on few requests."""
    judge.run(settings, release, replace(recipe("nano").judge, max_requests=20, bootstrap_samples=50))


def run_ledger(settings: Settings, release: str) -> None:
    """A candidate's way through the ledger, and a few entries of the eligibility log."""
    ledger = open_ledger(settings)
    ledger.begin(release, "2026-03-31", "bench")
    for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL, State.REJECTED):
        row = ledger.get(release)
        if list(State).index(row.state) < list(State).index(state) and row.state != State.REJECTED:
            ledger.move(release, state, "bench")
    records = [Record(0, "title", f"x{i}", maturity=7, key=f"{release}:{i}", known_at=1) for i in range(20)]
    for i in range(0, 20, 5):
        ledger.append_eligibility(records[i:i + 5], cursor=(f"bench/{release}", i))


def run_swap(settings: Settings, to: str, reason: str) -> None:
    rollback.rollback(settings, to, reason, "bench")


def run_launch(settings: Settings) -> None:
    launches.run(settings)


def run_collect(settings: Settings) -> None:
    collect.run(settings, keep=0)


TASKS: dict[str, Callable] = {
    "towers": run_towers, "index": run_index, "ranker": run_ranker, "seal": run_seal, "manifest": run_manifest,
    "ledger": run_ledger, "swap": run_swap, "launch": run_launch, "collect": run_collect,
}
