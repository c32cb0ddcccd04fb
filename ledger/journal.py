"""Releases and their transitions: the state of a release and the row that says who moved it change together."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from contracts.release import State
from ledger.database import lock_questions
from ledger.errors import ForbiddenTransition, UnknownRelease
from ledger.rows import ReleaseRow, Transition
from ledger.schema import RELEASES, TRANSITIONS
from ledger.states import may_follow


@dataclass(frozen=True)
class By:
    """Who moves, when and why."""

    actor: str
    at: datetime
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def find(connection: Connection, release_id: str) -> ReleaseRow | None:
    row = connection.execute(select(RELEASES).where(RELEASES.c.release_id == release_id)).mappings().first()
    return _release(row) if row else None


def release(connection: Connection, release_id: str) -> ReleaseRow:
    """The release; UnknownRelease where there is none."""
    found = find(connection, release_id)
    if found is None:
        raise UnknownRelease(f"no release {release_id} in the ledger; `marquee release list` shows the ones there are")
    return found


def releases(connection: Connection) -> list[ReleaseRow]:
    """All, oldest day first."""
    order = (RELEASES.c.day, RELEASES.c.created_at, RELEASES.c.release_id)
    return [_release(row) for row in connection.execute(select(RELEASES).order_by(*order)).mappings()]


def transitions(connection: Connection, release_id: str) -> list[Transition]:
    """Oldest first."""
    query = select(TRANSITIONS).where(TRANSITIONS.c.release_id == release_id).order_by(TRANSITIONS.c.number)
    return [_transition(row) for row in connection.execute(query).mappings()]


def last_move(connection: Connection, release_id: str) -> Transition:
    """The newest change of state: notes of what was refused change none."""
    return [t for t in transitions(connection, release_id) if t.from_state != t.to_state][-1]


def arrival(connection: Connection, release_id: str) -> Transition | None:
    """The switch by which the release came to probing last; None where there was none."""
    return next((t for t in reversed(transitions(connection, release_id)) if t.to_state == State.PROBING != t.from_state), None)


def retired(connection: Connection) -> list[str]:
    """Releases that are retired, the one that was live last first. Neither a note nor a roll-back to one that did not
    come through makes it newer."""
    left = func.max(TRANSITIONS.c.number)
    query = (
        select(RELEASES.c.release_id).join(TRANSITIONS, TRANSITIONS.c.release_id == RELEASES.c.release_id)
        .where(RELEASES.c.state == State.RETIRED, TRANSITIONS.c.from_state == State.LIVE, TRANSITIONS.c.to_state == State.RETIRED)
        .group_by(RELEASES.c.release_id).order_by(left.desc())
    )
    return list(connection.execute(query).scalars())


def begin(connection: Connection, release_id: str, day: str, by: By) -> ReleaseRow:
    """Enters the release, or finds it; a failed one may build again."""
    found = find(connection, release_id)
    if found is None:
        connection.execute(insert(RELEASES).values(release_id=release_id, day=day, state=State.BUILDING, created_at=by.at))
        _write_down(connection, release_id, None, State.BUILDING, by)
    elif found.state == State.FAILED:
        move(connection, release_id, State.BUILDING, by)
    return release(connection, release_id)


def move(connection: Connection, release_id: str, to: State, by: By) -> ReleaseRow:
    """Moves the release; nothing where it is there already. The state is compared again as it is written, so that of
    two movers one sees the other's state (ForbiddenTransition)."""
    before = release(connection, release_id)
    if before.state == to:
        return before
    if not may_follow(before.state, to):
        raise ForbiddenTransition(f"release {release_id} is {before.state}: it cannot become {to}")
    done = connection.execute(
        update(RELEASES).where(RELEASES.c.release_id == release_id, RELEASES.c.state == before.state).values(state=to)
    )
    if done.rowcount != 1:
        return move(connection, release_id, to, by)
    _write_down(connection, release_id, before.state, to, by)
    return release(connection, release_id)


def ask(connection: Connection, release_id: str, digests: Mapping[str, str | None], by: By) -> ReleaseRow:
    """One question at a time, the newest candidate's: the release awaits approval with these digests, and older ones that do
    are superseded; where a newer one does, this one is. Returns the one that waits."""
    lock_questions(connection)
    *older, newest = [row for row in releases(connection) if row.state == State.AWAITING_APPROVAL or row.release_id == release_id]
    for row in older:
        move(connection, row.release_id, State.SUPERSEDED, replace(by, reason=f"{newest.release_id} is newer", details={"by": newest.release_id}))
    if newest.release_id == release_id:
        connection.execute(update(RELEASES).where(RELEASES.c.release_id == release_id).values(**digests))
        move(connection, release_id, State.AWAITING_APPROVAL, by)
    return release(connection, newest.release_id)


def note(connection: Connection, release_id: str, by: By) -> None:
    """A row without a change of state: something was tried and refused."""
    state = release(connection, release_id).state
    _write_down(connection, release_id, state, state, by)


def _write_down(connection: Connection, release_id: str, before: State | None, after: State, by: By) -> None:
    connection.execute(insert(TRANSITIONS).values(
        release_id=release_id, at=by.at, actor=by.actor, from_state=before, to_state=after, reason=by.reason,
        details=by.details,
    ))


def _release(row) -> ReleaseRow:
    return ReleaseRow(**{**row, "state": State(row["state"])})


def _transition(row) -> Transition:
    return Transition(row["release_id"], row["at"], row["actor"], State(row["from_state"]) if row["from_state"] else None,
                      State(row["to_state"]), row["reason"], row["details"])
