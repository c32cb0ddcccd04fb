"""Moves of the live pointer. Each is one compare-and-swap on `version`, and takes the states of the releases that it
concerns along in the same transaction: a kill leaves both or neither.
"""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from contracts.release import CONTROL_ARM, State
from ledger import journal
from ledger.errors import ForbiddenTransition, StaleVersion
from ledger.journal import By
from ledger.rows import Pointer
from ledger.schema import POINTER
from ledger.states import ROLLED_BACK_TO


def read(connection: Connection, arm: str) -> Pointer | None:
    row = connection.execute(select(POINTER).where(POINTER.c.arm == arm)).mappings().first()
    return Pointer(**row) if row else None


def arms(connection: Connection) -> list[str]:
    return list(connection.execute(select(POINTER.c.arm).order_by(POINTER.c.arm)).scalars())


def read_all(connection: Connection, lock: bool = False) -> list[Pointer]:
    """Of every arm; `lock`: nobody moves one before this transaction ends (SQLite has one writer anyway)."""
    query = select(POINTER).order_by(POINTER.c.arm)
    return [Pointer(**row) for row in connection.execute(query.with_for_update() if lock else query).mappings()]


def propose(connection: Connection, candidate: str, expected_version: int, arm: str = CONTROL_ARM) -> Pointer:
    """Asks replicas to load `candidate`. Version 0 stands for an arm that has no pointer yet."""
    journal.release(connection, candidate)
    if expected_version > 0:
        after = _swap(connection, expected_version, arm, "live", candidate=candidate)
        _refuse_unfit(connection, after)
        return after
    first = {"arm": arm, "phase": "live", "candidate": candidate, "version": 1}
    try:
        with connection.begin_nested():
            connection.execute(insert(POINTER).values(first))
    except IntegrityError:
        raise _stale(connection, arm, expected_version) from None
    return read(connection, arm)


def withdraw(connection: Connection, expected_version: int, arm: str) -> Pointer:
    """Nobody need load the candidate any more."""
    return _swap(connection, expected_version, arm, "live", candidate=None)


def switch(connection: Connection, expected_version: int, deadline: datetime, arm: str, by: By,
           evidence_digest: str | None = None) -> Pointer:
    """The candidate serves, on probation until `deadline`. Only a release that awaits approval, or that was live
    before, may come here, and none whose evidence is other than the given (ForbiddenTransition)."""
    before = _expect(connection, arm, expected_version)
    if before.candidate is None:
        raise StaleVersion(f"arm {arm} has no candidate to switch to")
    if evidence_digest and journal.release(connection, before.candidate).evidence_digest != evidence_digest:
        raise ForbiddenTransition(f"release {before.candidate} was judged again: its approval was for other evidence")
    after = _swap(connection, expected_version, arm, "live", release_id=before.candidate, previous=before.release_id,
                  candidate=None, phase="probing", deadline=deadline)
    journal.move(connection, before.candidate, State.PROBING, by)
    return after


def confirm(connection: Connection, expected_version: int, arm: str, by: By) -> Pointer:
    """The probe passed: live. The release before is retired, or rolled back where it makes room for an earlier one: by
    whoever wanted that, and for their reason."""
    after = _swap(connection, expected_version, arm, "probing", phase="live", deadline=None)
    arrival = journal.arrival(connection, after.release_id)
    journal.move(connection, after.release_id, State.LIVE, by)
    if after.previous and journal.release(connection, after.previous).state == State.LIVE:
        if arrival and arrival.from_state in ROLLED_BACK_TO:
            journal.move(connection, after.previous, State.ROLLED_BACK, replace(by, actor=arrival.actor, reason=arrival.reason))
        else:
            journal.move(connection, after.previous, State.RETIRED, by)
    return after


def revert(connection: Connection, expected_version: int, arm: str, by: By) -> Pointer:
    """The probe failed or is overdue: the release before serves again. Replicas keep the newest retired one loaded, as
    they did before the switch."""
    before = _expect(connection, arm, expected_version)
    after = _swap(connection, expected_version, arm, "probing", release_id=before.previous, previous=None,
                  phase="live", deadline=None)
    retired = _came_from(connection, before.release_id) == State.RETIRED
    journal.move(connection, before.release_id, State.RETIRED if retired else State.ROLLED_BACK, by)
    way_back = next(iter(journal.retired(connection)), None)
    connection.execute(update(POINTER).where(POINTER.c.arm == arm).values(previous=way_back))
    return replace(after, previous=way_back)


def _refuse_unfit(connection: Connection, pointer: Pointer) -> None:
    """Looked at while the pointer is held, as `collect` holds it: one of the two sees the other. Live cannot move between
    here and the switch, which expects this very version."""
    row = journal.release(connection, pointer.candidate)
    if row.release_id == pointer.release_id:
        raise StaleVersion(f"live moved: release {row.release_id} serves already")
    if row.state == State.COLLECTED:
        raise ForbiddenTransition(f"release {row.release_id} was collected: its files are gone")
    if row.state == State.AWAITING_APPROVAL and row.evidence_digest and row.compared_with != pointer.release_id:
        raise StaleVersion(f"live moved: release {row.release_id} was judged against {row.compared_with or 'nothing'}, and "
                           f"{pointer.release_id or 'nothing'} is live")


def _came_from(connection: Connection, release_id: str) -> State | None:
    """The state from which the release came to probing last."""
    arrival = journal.arrival(connection, release_id)
    return arrival and arrival.from_state


def _expect(connection: Connection, arm: str, version: int) -> Pointer:
    pointer = read(connection, arm)
    if pointer is None or pointer.version != version:
        raise _stale(connection, arm, version)
    return pointer


def _swap(connection: Connection, expected_version: int, arm: str, expected_phase: str, **values) -> Pointer:
    done = connection.execute(
        update(POINTER)
        .where(POINTER.c.arm == arm, POINTER.c.version == expected_version, POINTER.c.phase == expected_phase)
        .values(version=expected_version + 1, **values)
    )
    if done.rowcount != 1:
        raise _stale(connection, arm, expected_version)
    return read(connection, arm)


def _stale(connection: Connection, arm: str, expected: int) -> StaleVersion:
    now = read(connection, arm)
    found = f"version {now.version}, phase {now.phase}" if now else "no pointer"
    return StaleVersion(f"the live pointer of arm {arm} moved: expected version {expected}, found {found}")
