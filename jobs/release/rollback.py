"""`marquee release rollback`: an earlier release live again, whole, in the same two phases as a swap; no question asked."""

import logging
from typing import Any
from uuid import uuid4

from contracts.errors import MarqueeError, UsageError
from contracts.release import State
from contracts.settings import Settings
from jobs.release import files, launches
from jobs.release.probe import LATE, confirm_or_revert, move_alias
from jobs.release.refusals import says_something
from jobs.release.swap import two_phases
from ledger import Ledger, Pointer, StaleVersion, open_ledger

log = logging.getLogger("marquee")

WAS_LIVE = (State.RETIRED, State.ROLLED_BACK)

RUN = "rollback_run"
"""Which run of the DAG, or which command, it was: what a retry is known by."""

LOAD_SECONDS = 15.0
TRY_SECONDS = 13.0
"""Longer than a lease (10 s), so that a replica that died is waited for no more. Both together leave a roll-back under
30 s; replicas keep the previous release loaded."""


def rollback(settings: Settings, to: str | None, reason: str, actor: str, run: str | None = None) -> dict[str, Any]:
    """Makes release `to` live (default: the one that was live before). A release that is still probing is simply
    reverted; a roll-back that is, is seen through. Again with the same `run` (default: a fresh one) it finds what was done
    and changes nothing.

    UsageError without a reason, or where there is nothing to return to; MarqueeError where the earlier release's files
    changed, no replica can load it or the probe fails: live is then as it was. A replica that alone cannot load it holds
    nobody up: the result names it as late.
    """
    if not says_something(reason):
        raise UsageError("--reason: say why; it is kept with the release")
    ledger, run = open_ledger(settings), run or uuid4().hex
    ledger.resolve_overdue("rollback")
    pointer = ledger.pointer()
    if pointer is None or pointer.release_id is None:
        raise UsageError("no release is live, so there is nothing to roll back")
    if _is_done(ledger, pointer, to, run):
        return _result(settings, ledger, changed=False)
    if pointer.phase == "probing" and to in (None, pointer.release_id) and ledger.arrival(pointer.release_id).from_state in WAS_LIVE:
        confirm_or_revert(settings, ledger, pointer, TRY_SECONDS)
        return _result(settings, ledger, changed=False)
    if pointer.phase == "probing":
        return _revert(settings, ledger, pointer, to, reason, actor, run)
    target = to or previous_live(ledger, pointer)
    try:
        return _go_back(settings, ledger, pointer, target, reason, actor, run)
    except StaleVersion:
        pointer = ledger.pointer()
        if target not in (pointer.release_id, pointer.candidate):
            raise
        log.info("somebody else is rolling back to %s at this moment: seen through together", target)
        return rollback(settings, target, reason, actor, run)


def previous_live(ledger: Ledger, pointer: Pointer) -> str:
    """The release that was live before this one and left in good order; UsageError where there is none."""
    for release in ledger.retired():
        return release
    raise UsageError(f"release {pointer.release_id} is live, and none before it is there to return to; name one with --to")


def _go_back(settings: Settings, ledger: Ledger, pointer: Pointer, target: str, reason: str, actor: str, run: str) -> dict[str, Any]:
    row = ledger.get(target)
    if row is None or row.state not in WAS_LIVE:
        raise UsageError(f"--to {target}: it is {row.state if row else 'unknown'}, and only a release that was live can return")
    files.verify_entered(settings, row)
    try:
        launches.bring_up(settings, ledger, [target])
    except (MarqueeError, OSError) as error:  # an incident is no time to insist on readable landing files
        log.warning("the eligibility log and the overlay were not brought up to date: %s", error)
    details = {"rollback": True, "from": pointer.release_id, RUN: run}
    probing = two_phases(ledger, target, LOAD_SECONDS, actor, reason, details, on_timeout=None, without_late=True)
    confirm_or_revert(settings, ledger, probing, TRY_SECONDS)
    return _result(settings, ledger, changed=True)


def _revert(settings: Settings, ledger: Ledger, pointer: Pointer, to: str | None, reason: str, actor: str, run: str) -> dict[str, Any]:
    if to not in (None, pointer.previous):
        raise MarqueeError(f"release {pointer.release_id} is being probed: roll it back first, without --to")
    ledger.revert(pointer.version, actor=actor, reason=reason, details={RUN: run})
    return _result(settings, ledger, changed=True)


def _is_done(ledger: Ledger, pointer: Pointer, to: str | None, run: str) -> bool:
    """This very run made what is live live, or took back what was probing."""
    if pointer.phase == "live" and (to == pointer.release_id or ledger.arrival(pointer.release_id).details.get(RUN) == run):
        return True
    return any(t.from_state == State.PROBING != t.to_state and t.details.get(RUN) == run for row in ledger.releases() for t in ledger.transitions(row.release_id))


def _result(settings: Settings, ledger: Ledger, changed: bool) -> dict[str, Any]:
    live = ledger.pointer().release_id
    if live:
        move_alias(settings, live)
    late = ledger.arrival(live).details.get(LATE, []) if live else []
    return {"release_id": live, "state": ledger.get(live).state if live else None, "changed": changed} | ({LATE: late} if late else {})
