"""The ledger's interface: every method is one transaction."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import Engine, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from contracts import clock
from contracts.eligibility import Record
from contracts.overlay import OverlayRecord, overlay_cursor
from contracts.release import CONTROL_ARM, State
from contracts.settings import Settings
from ledger import database, eligibility, journal, nights, overlay
from ledger import pointer as pointers
from ledger.database import reading, writing
from ledger.errors import StaleVersion
from ledger.journal import By
from ledger.rows import Decision, LiveQuality, Pointer, ReleaseRow, Replica, Transition
from ledger.schema import CURSORS, RELEASES, REPLICAS
from ledger.states import COLLECTABLE


def open_ledger(settings: Settings) -> "Ledger":
    """The ledger of this home, migrated. Times in it are the home's present (contracts.clock); leases and deadlines
    are wall time by the database's clock."""
    engine = database.connect(settings.database_address())
    database.migrate(engine)
    return Ledger(engine, lambda: clock.now(settings.home))


class Ledger:
    """States, history, pointer, leases, eligibility. Safe to share between threads and to open in many processes."""

    def __init__(self, engine: Engine, now: Callable[[], datetime] = lambda: datetime.now(UTC)):
        self.engine = engine
        self._now = now

    def close(self) -> None:
        self.engine.dispose()

    # --- releases -----------------------------------------------------------------------------------------------

    def begin(self, release_id: str, day: str, actor: str) -> ReleaseRow:
        """Enters a release as building, or finds it as it is; a failed one builds again."""
        with writing(self.engine) as connection:
            return journal.begin(connection, release_id, day, self._by(actor))

    def get(self, release_id: str) -> ReleaseRow | None:
        with reading(self.engine) as connection:
            return journal.find(connection, release_id)

    def releases(self) -> list[ReleaseRow]:
        """All, oldest day first."""
        with reading(self.engine) as connection:
            return journal.releases(connection)

    def transitions(self, release_id: str) -> list[Transition]:
        """What happened to a release, oldest first."""
        with reading(self.engine) as connection:
            return journal.transitions(connection, release_id)

    def last_move(self, release_id: str) -> Transition:
        """The newest change of state of a release, whatever was noted since."""
        with reading(self.engine) as connection:
            return journal.last_move(connection, release_id)

    def arrival(self, release_id: str) -> Transition | None:
        """The switch by which a release came to probing last; None where there was none."""
        with reading(self.engine) as connection:
            return journal.arrival(connection, release_id)

    def retired(self) -> list[str]:
        """Where a roll-back may go: releases that were live and left in good order, the last one first."""
        with reading(self.engine) as connection:
            return journal.retired(connection)

    def move(self, release_id: str, to: State, actor: str, reason: str = "", details: dict[str, Any] | None = None) -> ReleaseRow:
        """Moves a release to another state; ForbiddenTransition where it may not, nothing where it is there already."""
        with writing(self.engine) as connection:
            return journal.move(connection, release_id, State(to), self._by(actor, reason, details))

    def note(self, release_id: str, actor: str, reason: str, details: dict[str, Any] | None = None) -> None:
        """Writes down what was tried and refused, without a change of state."""
        with writing(self.engine) as connection:
            journal.note(connection, release_id, self._by(actor, reason, details))

    def set_digests(self, release_id: str, payload_digest: str | None = None, evidence_digest: str | None = None,
                    compared_with: str | None = None) -> None:
        """Sets what is given. With an evidence digest, `compared_with` is set as given: None is "compared with nothing"."""
        values = {"payload_digest": payload_digest, "evidence_digest": evidence_digest, "compared_with": compared_with}
        values = {k: v for k, v in values.items() if v is not None or (k == "compared_with" and evidence_digest)}
        with writing(self.engine) as connection:
            journal.release(connection, release_id)
            if values:
                connection.execute(update(RELEASES).where(RELEASES.c.release_id == release_id).values(**values))

    def ask(self, release_id: str, payload_digest: str, evidence_digest: str, compared_with: str | None, reason: str,
            details: dict[str, Any]) -> ReleaseRow:
        """The release awaits approval with these digests, and older questions are superseded; or is superseded itself, where a
        newer one waits. Returns the one that waits."""
        digests = {"payload_digest": payload_digest, "evidence_digest": evidence_digest, "compared_with": compared_with}
        with writing(self.engine) as connection:
            return journal.ask(connection, release_id, digests, self._by("ask", reason, details))

    # --- the live pointer ---------------------------------------------------------------------------------------

    def pointer(self, arm: str = CONTROL_ARM) -> Pointer | None:
        """What the arm serves; None before the first release was proposed."""
        with reading(self.engine) as connection:
            return pointers.read(connection, arm)

    def arms(self) -> list[str]:
        """Every arm that has a pointer."""
        with reading(self.engine) as connection:
            return pointers.arms(connection)

    def propose(self, candidate: str, expected_version: int, arm: str = CONTROL_ARM) -> Pointer:
        """Asks every replica to load `candidate`; version 0 where the arm has no pointer yet."""
        with writing(self.engine) as connection:
            return pointers.propose(connection, candidate, expected_version, arm)

    def withdraw(self, expected_version: int, arm: str = CONTROL_ARM) -> Pointer:
        """Takes the proposal back."""
        with writing(self.engine) as connection:
            return pointers.withdraw(connection, expected_version, arm)

    def switch(self, expected_version: int, deadline: datetime, arm: str = CONTROL_ARM, actor: str = "swap",
               reason: str = "", details: dict[str, Any] | None = None, evidence_digest: str | None = None) -> Pointer:
        """The candidate serves and becomes `probing` until `deadline` (wall time). It must await approval or have
        been live before, and its evidence still be what was approved, where that is given (ForbiddenTransition)."""
        with writing(self.engine) as connection:
            return pointers.switch(connection, expected_version, deadline, arm, self._by(actor, reason, details), evidence_digest)

    def confirm(self, expected_version: int, arm: str = CONTROL_ARM, actor: str = "probe", reason: str = "",
                details: dict[str, Any] | None = None) -> Pointer:
        """The probe passed: the release becomes `live`, the one before `retired` (or `rolled_back`)."""
        with writing(self.engine) as connection:
            return pointers.confirm(connection, expected_version, arm, self._by(actor, reason, details))

    def revert(self, expected_version: int, arm: str = CONTROL_ARM, actor: str = "probe", reason: str = "",
               details: dict[str, Any] | None = None) -> Pointer:
        """The probe failed or is overdue: the release before serves again, the candidate is `rolled_back`, and the newest
        retired release is the way back again."""
        with writing(self.engine) as connection:
            return pointers.revert(connection, expected_version, arm, self._by(actor, reason, details))

    def resolve_overdue(self, actor: str, arm: str = CONTROL_ARM) -> Pointer | None:
        """Returns to the release before where a probe's deadline has passed (whoever made it is gone); the pointer
        after it, or None where nothing was overdue. Safe for many callers at once: one of them does it."""
        pointer = self.pointer(arm)
        if pointer is None or pointer.phase != "probing" or pointer.deadline > self.wall():
            return None
        try:
            return self.revert(pointer.version, arm, actor, f"the probe did not end by {pointer.deadline:%H:%M:%S} UTC")
        except StaleVersion:
            return None

    def wall(self) -> datetime:
        """The present by the database's clock: what leases and deadlines go by."""
        with reading(self.engine) as connection:
            return database.wall(connection)

    # --- replicas -----------------------------------------------------------------------------------------------

    def heartbeat(self, replica_id: str, address: str, loaded: list[str], serving: str | None, lease_seconds: float = 10) -> None:
        """A replica says what it has loaded and what it serves, and holds its lease for so many seconds more."""
        dialect = postgresql if self.engine.dialect.name == "postgresql" else sqlite
        with writing(self.engine) as connection:
            values = {"address": address, "loaded": list(loaded), "serving": serving,
                      "expires_at": database.wall(connection) + timedelta(seconds=lease_seconds)}
            statement = dialect.insert(REPLICAS).values(replica_id=replica_id, **values)
            connection.execute(statement.on_conflict_do_update(index_elements=["replica_id"], set_=values))

    def replicas(self) -> list[Replica]:
        """Those whose lease has not run out."""
        with reading(self.engine) as connection:
            query = select(REPLICAS).where(REPLICAS.c.expires_at > database.wall(connection)).order_by(REPLICAS.c.replica_id)
            return [Replica(**row) for row in connection.execute(query).mappings()]

    def leave(self, replica_id: str) -> None:
        """A replica stops: nobody waits for it."""
        with writing(self.engine) as connection:
            connection.execute(delete(REPLICAS).where(REPLICAS.c.replica_id == replica_id))

    def expired_leases(self, older_than: timedelta) -> list[tuple[str, datetime]]:
        """(replica, when its lease ran out), of those that ran out so long ago."""
        with reading(self.engine) as connection:
            query = select(REPLICAS.c.replica_id, REPLICAS.c.expires_at).where(REPLICAS.c.expires_at < database.wall(connection) - older_than)
            return [tuple(row) for row in connection.execute(query.order_by(REPLICAS.c.replica_id))]

    def forget_expired(self, older_than: timedelta) -> None:
        """Deletes leases that ran out so long ago."""
        with writing(self.engine) as connection:
            connection.execute(delete(REPLICAS).where(REPLICAS.c.expires_at < database.wall(connection) - older_than))

    # --- nights -------------------------------------------------------------------------------------------------

    def keep_live_quality(self, release_id: str, ds: str, arm: str, figures: dict[str, Any]) -> LiveQuality:
        """Keeps the figures of a night; those that are there already stay, and are returned."""
        with writing(self.engine) as connection:
            journal.release(connection, release_id)
            return nights.keep_quality(connection, release_id, ds, arm, self._now(), figures)

    def live_quality(self, release_id: str | None = None) -> list[LiveQuality]:
        """Of a release, or of all; oldest night first."""
        with reading(self.engine) as connection:
            return nights.quality(connection, release_id)

    def decision(self, ds: str) -> Decision | None:
        """Whether night `ds` trains or refreshes; None where nobody has decided yet."""
        with reading(self.engine) as connection:
            return nights.decision(connection, ds)

    def decide(self, ds: str, action: Literal["retrain", "refresh"], base: str | None, reason: str, actor: str) -> Decision:
        """Keeps the decision, in place of an earlier one for the same night."""
        with writing(self.engine) as connection:
            return nights.decide(connection, Decision(ds, action, base, reason, actor, self._now()))

    # --- garbage ------------------------------------------------------------------------------------------------

    def in_use(self) -> dict[str, str]:
        """release -> who needs it: a pointer or a replica. Every other one may be collected, if its state allows it."""
        with reading(self.engine) as connection:
            return _in_use(connection)

    def collect(self, release_id: str, actor: str, reason: str) -> bool:
        """Moves a release to `collected`, after which nobody can propose it and its files may go. False where a pointer
        names it, a replica reports it, or something may still be done with it."""
        with writing(self.engine) as connection:
            row = journal.release(connection, release_id)
            if row.state not in COLLECTABLE or release_id in _in_use(connection, lock=True):
                return False
            journal.move(connection, release_id, State.COLLECTED, self._by(actor, reason))
            return True

    # --- eligibility --------------------------------------------------------------------------------------------

    def append_eligibility(self, records: Iterable[Record], cursor: tuple[str, Any] | None = None) -> int:
        """Appends in order what the log does not have (by `key`) and what is not older than what it has, and moves the
        reader's cursor (name, position) with it. Returns how many were added."""
        with writing(self.engine) as connection:
            added = eligibility.append(connection, records)
            if cursor:
                _set_cursor(connection, *cursor)
            return added

    def eligibility_since(self, seq: int, limit: int = 50_000) -> list[Record]:
        """Entries after `seq`, in order."""
        with reading(self.engine) as connection:
            return eligibility.since(connection, seq, limit)

    def eligibility_head(self) -> int:
        """The newest number; 0 for an empty log."""
        with reading(self.engine) as connection:
            return eligibility.head(connection)

    def eligibility_of(self, title_ids: Sequence[str]) -> list[Record]:
        """All entries of these titles, in order."""
        with reading(self.engine) as connection:
            return eligibility.of_titles(connection, title_ids)

    def titles_since(self, seq: int) -> list[str]:
        """The titles that entries after `seq` speak of."""
        with reading(self.engine) as connection:
            return eligibility.titles_since(connection, seq)

    def title_contents(self, title_ids: Sequence[str]) -> dict[str, tuple[int, dict[str, Any]]]:
        """title -> (number in the log, content) of its newest version; titles whose newest one has no content are left out."""
        with reading(self.engine) as connection:
            return eligibility.contents(connection, title_ids)

    # --- overlay ------------------------------------------------------------------------------------------------

    def append_overlay(self, release_id: str, records: Iterable[OverlayRecord], through: int) -> int:
        """Appends records of a release (their `seq` is not read) and says that its overlay was made up to number
        `through` of the eligibility log. Versions not newer than what is there are left out; returns how many were added."""
        with writing(self.engine) as connection:
            added = overlay.append(connection, release_id, records)
            _set_cursor(connection, overlay_cursor(release_id), through)
            return added

    def overlay_since(self, release_id: str, seq: int) -> list[OverlayRecord]:
        """The release's records after `seq`, in order."""
        with reading(self.engine) as connection:
            return overlay.since(connection, release_id, seq)

    def overlay_titles(self, release_id: str) -> dict[str, dict[str, Any]]:
        """title -> content of its newest version in the release's overlay."""
        with reading(self.engine) as connection:
            return overlay.titles(connection, release_id)

    def overlay_head(self, release_id: str) -> int:
        """The newest number of the release's records; 0 where it has none."""
        with reading(self.engine) as connection:
            return overlay.head(connection, release_id)

    def overlay_through(self, release_id: str) -> int:
        """Up to which number of the eligibility log the release's overlay was made; 0: not yet."""
        with reading(self.engine) as connection:
            query = select(CURSORS.c.position).where(CURSORS.c.name == overlay_cursor(release_id))
            return connection.execute(query).scalar() or 0

    def cursors(self) -> dict[str, Any]:
        """How far readers of landed folders and of the log have come, by name."""
        with reading(self.engine) as connection:
            return {row.name: row.position for row in connection.execute(select(CURSORS))}

    def _by(self, actor: str, reason: str = "", details: dict[str, Any] | None = None) -> By:
        return By(actor, self._now(), reason, details or {})


def _in_use(connection, lock: bool = False) -> dict[str, str]:
    users: dict[str, str] = {}
    for pointer in pointers.read_all(connection, lock):
        for role, release_id in (("live", pointer.release_id), ("candidate", pointer.candidate), ("previous", pointer.previous)):
            if release_id:
                users.setdefault(release_id, f"{role} of arm {pointer.arm}")
    held = select(REPLICAS).where(REPLICAS.c.expires_at > database.wall(connection)).order_by(REPLICAS.c.replica_id)
    for row in connection.execute(held).mappings():
        for release_id in filter(None, (*row["loaded"], row["serving"])):
            users.setdefault(release_id, f"loaded by replica {row['replica_id']}")
    return users


def _set_cursor(connection, name: str, position: Any) -> None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(CURSORS).values(name=name, position=position)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"position": position}))
