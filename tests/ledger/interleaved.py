"""Actors that run the real jobs' code against the real ledger, one database transaction at a time, in an order that a test
chooses; after every transaction the invariants of docs/architecture.md are looked at.

Two promoters, a roll-back, launches, somebody who resolves an expired probe, garbage collection, and a replica.
"""

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event

from contracts.eligibility import Record
from contracts.errors import MarqueeError
from contracts.release import State
from contracts.settings import Settings
from jobs.release import collect, probe, rollback, swap
from ledger import Ledger, database, open_ledger
from ledger import ledger as interface

LIVE, BEFORE, OLD, ONE, OTHER = "2026-03-05-live000000", "2026-03-04-before0000", "2026-03-01-old0000000", "2026-03-06-one0000000", "2026-03-07-other00000"
WEIGHT = "item_vectors.npy"
TURN_SECONDS = 20.0
ACTORS = ("one", "other", "rollback", "launch", "resolver", "collect", "replica")


class Broken(AssertionError):
    """An invariant does not hold."""


class Ended(BaseException):
    """The run is over: the actor's thread unwinds."""


@dataclass(frozen=True)
class Choice:
    """What a run leaves open: who comes next, whether probes pass, and whether their time is up at once."""

    turns: tuple[int, ...]
    passes: tuple[bool, bool, bool] = (True, True, True)
    expired: tuple[bool, bool, bool] = (False, False, False)


def template(folder: Path) -> Path:
    """A home with a live release, two before it, and two that were approved."""
    settings = Settings(_env_file=None, home=folder)
    ledger = open_ledger(settings)
    for release in (OLD, BEFORE, LIVE, ONE, OTHER):
        (settings.releases / release).mkdir(parents=True)
        (settings.releases / release / WEIGHT).write_text("vectors")
        ledger.begin(release, release[:10], "test")
        for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
            ledger.move(release, state, "test")
    for release in (OLD, BEFORE, LIVE):
        pointer = ledger.pointer()
        proposed = ledger.propose(release, pointer.version if pointer else 0)
        ledger.confirm(ledger.switch(proposed.version, datetime.now(UTC) + timedelta(hours=1), details={"release": release}).version)
    for release in (ONE, OTHER):
        ledger.set_digests(release, "p", "e", compared_with=LIVE)
    ledger.close()
    with closing(sqlite3.connect(folder / "ledger.db")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return folder


@dataclass
class Stage:
    """Threads, of which one runs at a time, from one transaction to the next."""

    home: Path
    actors: dict[str, Callable[[], None]] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    examined: list[str] = field(default_factory=list)
    over: bool = False

    def __post_init__(self) -> None:
        self._go = {name: threading.Semaphore(0) for name in ACTORS}
        self._back = threading.Semaphore(0)
        self._me = threading.local()
        self._alive: dict[str, threading.Thread] = {}

    def wait_for_turn(self) -> None:
        """Called where a transaction begins; the test's own thread never waits."""
        name = getattr(self._me, "name", None)
        if name is None:
            return
        self._back.release()
        self._go[name].acquire()
        if self.over:
            raise Ended

    def _run(self, name: str, actor: Callable[[], None]) -> None:
        self._me.name = name
        self._go[name].acquire()
        try:
            if not self.over:
                actor()
        except (MarqueeError, Ended):
            pass  # refused: another was first
        except BaseException as error:
            self.errors[name] = error
        finally:
            del self._alive[name]
            self._back.release()

    def play(self, turns: tuple[int, ...], look: Callable[[str], None]) -> None:
        """Gives turns until all but the replica have ended; when the choice is used up, everybody in turn."""
        for name, actor in self.actors.items():
            self._alive[name] = threading.Thread(target=self._run, args=(name, actor), daemon=True)
        for thread in list(self._alive.values()):
            thread.start()
        number = 0
        try:
            while set(self._alive) - {"replica"}:
                names = [name for name in ACTORS if name in self._alive]
                self._turn(names[(turns[number] if number < len(turns) else number) % len(names)], look)
                number += 1
                if number > 2000:
                    raise Broken("nobody gets on")
        finally:
            self._end()
        for name, error in self.errors.items():
            raise Broken(f"{name} ended with {error!r}") from error

    def _turn(self, name: str, look: Callable[[str], None]) -> None:
        self._go[name].release()
        if not self._back.acquire(timeout=TURN_SECONDS):
            raise Broken(f"{name} hangs")
        look(name)

    def _end(self) -> None:
        self.over = True
        for name, thread in list(self._alive.items()):
            self._go[name].release()
            thread.join(5)


def play(home: Path, copy: Path, choice: Choice, patch) -> None:
    """One run on a copy of `home`. `patch` is a pytest MonkeyPatch. Raises Broken."""
    shutil.copytree(home, copy)
    settings = Settings(_env_file=None, home=copy)
    ledger = Ledger(database.connect(settings.database_address()))
    event.listen(ledger.engine, "connect", lambda connection, _record: connection.execute("PRAGMA synchronous=OFF"))
    stage = Stage(copy)
    _patch(patch, stage, ledger, choice)
    stage.actors = _actors(settings, ledger, stage, choice)
    look = Invariants(copy, stage)
    try:
        stage.play(choice.turns, look)
        stage._me.name = None
        ledger.resolve_overdue("end")
        look("end")
        pointer = ledger.pointer()
        if pointer.phase != "live":
            raise Broken(f"in the end the pointer is {pointer}")
    finally:
        ledger.close()
        shutil.rmtree(copy)


def _patch(patch, stage: Stage, ledger: Ledger, choice: Choice) -> None:
    for name in ("reading", "writing"):
        real = getattr(database, name)
        patch.setattr(interface, name, _in_turn(stage, real))
    for module in (rollback, probe, collect, swap):
        if hasattr(module, "open_ledger"):
            patch.setattr(module, "open_ledger", lambda _settings: ledger)
        if hasattr(module, "time"):
            patch.setattr(module, "time", _Clock())
    patch.setattr(rollback, "move_alias", lambda *_: None)
    patch.setattr(rollback.files, "verify_entered", lambda settings, row: _weight(settings, row.release_id))
    patch.setattr(rollback.launches, "bring_up", lambda _settings, ledger, _releases: {"head": ledger.eligibility_head()})
    patch.setattr(collect, "drop_collections", lambda *_: ([], []))

    def examine(_settings, _ledger, release: str) -> int:
        who = ACTORS.index(stage._me.name)
        if not choice.passes[who]:
            raise MarqueeError("the API answered 500")
        stage.examined.append(release)
        return 1

    patch.setattr(probe, "examine", examine)


@contextmanager
def _held(stage: Stage, real, engine) -> Iterator[Any]:
    stage.wait_for_turn()
    with real(engine) as connection:
        yield connection


def _in_turn(stage: Stage, real):
    return lambda engine: _held(stage, real, engine)


class _Clock:
    """Time passes with every look at it, and nobody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now

    def sleep(self, _seconds: float) -> None: ...


def _weight(settings: Settings, release: str) -> None:
    if not (settings.releases / release / WEIGHT).exists():
        raise MarqueeError(f"{release} is torn")


def _actors(settings: Settings, ledger: Ledger, stage: Stage, choice: Choice) -> dict[str, Callable[[], None]]:
    def promote(release: str, who: int) -> None:
        swap_seconds = -1.0 if choice.expired[who] else 3600.0
        swap.PROBE_SECONDS = swap_seconds
        pointer = swap.two_phases(ledger, release, 30, f"promoter of {release}", "better", {"release": release}, on_timeout=State.FAILED)
        probe.confirm_or_revert(settings, ledger, pointer, 3)

    def roll_back() -> None:
        swap.PROBE_SECONDS = -1.0 if choice.expired[2] else 3600.0
        rollback.rollback(settings, None, "worse", "a person")

    def launch() -> None:
        ledger.resolve_overdue("launches")
        for number in range(2):
            ledger.append_eligibility([Record(0, "title", f"t{i}", maturity=7, key=f"{number}:{i}", known_at=1) for i in range(2)], ("landing", number))

    def garbage() -> None:
        collect.run(settings, keep=0)
        collect.run(settings, keep=0)

    def replica() -> None:
        loaded: list[str] = []
        while True:
            pointer = ledger.pointer()
            wanted = list(filter(None, (pointer.release_id, pointer.candidate, pointer.previous)))
            loaded = sorted({*loaded, *(r for r in wanted if (settings.releases / r / WEIGHT).exists())})
            ledger.heartbeat("replica", "http://here", loaded, pointer.release_id if pointer.release_id in loaded else None)

    return {"one": lambda: promote(ONE, 0), "other": lambda: promote(OTHER, 1), "rollback": roll_back, "launch": launch,
            "resolver": lambda: [ledger.resolve_overdue("doctor") for _ in range(3)], "collect": garbage, "replica": replica}


class Invariants:
    """Looks at the database after every transaction, with a connection of its own."""

    def __init__(self, home: Path, stage: Stage):
        self.home, self.stage = home, stage
        self.pointer: dict[str, Any] | None = None
        self.awaiting: set[str] = set()

    def __call__(self, who: str) -> None:
        with closing(sqlite3.connect(self.home / "ledger.db")) as db:
            db.row_factory = sqlite3.Row
            states = {row["release_id"]: row["state"] for row in db.execute("SELECT release_id, state FROM releases")}
            history = [dict(row) for row in db.execute("SELECT * FROM transitions ORDER BY number")]
            pointer = dict(db.execute("SELECT * FROM pointer").fetchone())
            log = [tuple(row) for row in db.execute("SELECT seq, record_key FROM eligibility_log ORDER BY seq")]
            replicas = [dict(row) for row in db.execute("SELECT * FROM replicas")]
        try:
            self._pointer(pointer, states)
            self._history(history, states)
            self._files(pointer, states, replicas)
            self._log(log)
        except Broken as error:
            raise Broken(f"after {who}: {error}") from None
        self.pointer = pointer
        self.awaiting = {release for release, state in states.items() if state == State.AWAITING_APPROVAL}

    def _pointer(self, now: dict, states: dict[str, str]) -> None:
        live = {release for release, state in states.items() if state == State.LIVE}
        probing = {release for release, state in states.items() if state == State.PROBING}
        if now["phase"] == "live" and (live != {now["release_id"]} or probing):
            raise Broken(f"{now['release_id']} serves, but live are {live} and probing {probing}")
        if now["phase"] == "probing" and (probing != {now["release_id"]} or live != {now["previous"]}):
            raise Broken(f"{now['release_id']} is probed and {now['previous']} the way back, but live are {live} and probing {probing}")
        if (now["phase"] == "probing") != (now["deadline"] is not None):
            raise Broken("a deadline without a probe, or a probe without one")
        before = self.pointer
        if before and now != before:
            if now["phase"] == "probing" and now["release_id"] in (ONE, OTHER) and before["phase"] == "live" and (
                    now["release_id"] in self.awaiting and now["previous"] != LIVE):
                raise Broken(f"{now['release_id']} was approved in place of {LIVE}, and replaces {now['previous']}")
            if now["version"] != before["version"] + 1:
                raise Broken(f"the pointer went from version {before['version']} to {now['version']}")
            if now["release_id"] not in (before["release_id"], before["candidate"], before["previous"]):
                raise Broken(f"{now['release_id']} serves, and was neither candidate nor the one before")
            if now["candidate"] and before["phase"] == "probing" and now["phase"] == "probing":
                raise Broken("a candidate was proposed during a probe")

    def _history(self, history: list[dict], states: dict[str, str]) -> None:
        at: dict[str, str | None] = {}
        for row in history:
            release = row["release_id"]
            if row["from_state"] != at.get(release):
                raise Broken(f"{release} went to {row['to_state']} from {row['from_state']}, but was {at.get(release)}")
            at[release] = row["to_state"]
            if row["to_state"] == State.PROBING:
                said = json.loads(row["details"])
                if said.get("release", release) != release:
                    raise Broken(f"{release} was switched to by the promoter of {said['release']}")
        if at != states:
            raise Broken(f"the history says {at}, the releases {states}")
        lives = [row["release_id"] for row in history if row["to_state"] == State.LIVE]
        seen = [OLD, BEFORE, LIVE, *self.stage.examined]
        for release in set(lives):
            if lives.count(release) > seen.count(release):
                raise Broken(f"{release} became live without a probe that passed")

    def _files(self, pointer: dict, states: dict[str, str], replicas: list[dict]) -> None:
        needed = {pointer[name]: name for name in ("release_id", "candidate", "previous") if pointer[name]}
        for replica in replicas:
            needed |= dict.fromkeys(json.loads(replica["loaded"]), "loaded")
        for release, why in needed.items():
            gone = not (self.home / "releases" / release / WEIGHT).exists()
            if states[release] == State.COLLECTED or gone:
                raise Broken(f"{release} is {why}, and it is {states[release]}, its files {'gone' if gone else 'there'}")
        for release, state in states.items():
            if state != State.COLLECTED and not (self.home / "releases" / release / WEIGHT).exists():
                raise Broken(f"the files of {release} are gone, and it is {state}")

    def _log(self, log: list[tuple[int, str]]) -> None:
        keys = [key for _, key in log]
        if len(set(keys)) != len(keys) or [seq for seq, _ in log] != list(range(1, len(log) + 1)):
            raise Broken(f"the eligibility log has {log}")
