"""Every compare-and-swap, guard and sync of the ledger, of garbage collection and of publishing is there for a reason: each
is taken out of the running code once, and the test that watches it must turn red.

A watch is a function that passes on the code as it is, and fails on the mutant.
"""

import contextlib
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import text

from contracts import durable
from contracts.eligibility import Record
from contracts.release import State
from contracts.settings import REPOSITORY, Settings
from jobs.release import collect, files
from ledger import ForbiddenTransition, Ledger, StaleVersion, database, eligibility, journal, open_ledger, pointer
from ledger import ledger as interface
from ledger.journal import By
from tests.ledger.mutants import mutant

BY = By("test", datetime(2026, 4, 1, tzinfo=UTC))
WAY = (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL)


@dataclass
class Place:
    """A home with a ledger: `a` is live, `z` was before it, `b` and `c` are approved, `o` is superseded."""

    settings: Settings
    ledger: Ledger
    patch: pytest.MonkeyPatch

    def version(self) -> int:
        return self.ledger.pointer().version

    def soon(self, seconds: float = 600) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=seconds)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    settings = Settings(_env_file=None, home=tmp_path, milvus_url="http://127.0.0.1:9")
    place = Place(settings, open_ledger(settings), monkeypatch)
    for release in ("z", "a", "b", "c", "o"):
        place.ledger.begin(release, "2026-03-31", "test")
        for state in WAY:
            place.ledger.move(release, state, "test")
    place.ledger.move("o", State.SUPERSEDED, "test")
    for release in ("z", "a"):
        version = place.ledger.propose(release, place.version() if place.ledger.pointer() else 0).version
        place.ledger.confirm(place.ledger.switch(version, place.soon()).version)
    yield place
    place.ledger.close()


# --- watches ------------------------------------------------------------------------------------------------------------

def refuses_a_stale_version(place: Place) -> None:
    old = place.version()
    place.ledger.propose("b", old)
    with pytest.raises(StaleVersion):
        place.ledger.propose("c", old)
    with pytest.raises(StaleVersion):
        place.ledger.withdraw(old)


def refuses_another_phase(place: Place) -> None:
    with pytest.raises(StaleVersion):
        place.ledger.confirm(place.version())
    place.ledger.switch(place.ledger.propose("b", place.version()).version, place.soon())
    with pytest.raises(StaleVersion):
        place.ledger.propose("c", place.version())


def has_one_first_proposal(place: Place) -> None:
    assert place.ledger.propose("b", 0, arm="new").candidate == "b"
    with pytest.raises(StaleVersion):
        place.ledger.propose("c", 0, arm="new")


def refuses_what_no_state_allows(place: Place) -> None:
    with pytest.raises(ForbiddenTransition):
        place.ledger.move("o", State.PROBING, "test")


def sees_a_state_that_moved_meanwhile(place: Place) -> None:
    """The mover read `b` before another one rejected it."""
    with database.writing(place.ledger.engine) as connection:
        stale = journal.release(connection, "b")
        journal.move(connection, "b", State.REJECTED, BY)
        real, first = journal.release, [stale]
        place.patch.setattr(journal, "release", lambda connection, name: first.pop() if first else real(connection, name))
        with pytest.raises(ForbiddenTransition):
            journal.move(connection, "b", State.PROBING, BY)
        place.patch.setattr(journal, "release", real)
    assert place.ledger.get("b").state == State.REJECTED


def moves_pointer_and_state_together(place: Place) -> None:
    """A candidate that was rejected meanwhile is not switched to, and the pointer has not moved either."""
    before = place.ledger.propose("b", place.version())
    place.ledger.move("b", State.REJECTED, "test")
    with pytest.raises(ForbiddenTransition):
        place.ledger.switch(before.version, place.soon())
    assert place.ledger.pointer() == before


def switches_only_what_was_approved(place: Place) -> None:
    before = place.ledger.propose("b", place.version())
    place.ledger.set_digests("b", "p", "new", compared_with="a")
    with pytest.raises(ForbiddenTransition, match="judged again"):
        place.ledger.switch(before.version, place.soon(), evidence_digest="old")
    assert place.ledger.pointer() == before


def a_switch_needs_a_candidate(place: Place) -> None:
    with pytest.raises(StaleVersion, match="no candidate"):
        place.ledger.switch(place.version(), place.soon())


def refuses_to_replace_another_live(place: Place) -> None:
    place.ledger.set_digests("b", "p", "e", compared_with="z")
    with pytest.raises(StaleVersion, match="live moved"):
        place.ledger.propose("b", place.version())


def refuses_to_propose_what_was_collected(place: Place) -> None:
    place.ledger.collect("o", "test", "old")
    with pytest.raises(ForbiddenTransition, match="collected"):
        place.ledger.propose("o", place.version())


def leaves_what_is_needed(place: Place) -> None:
    assert place.ledger.in_use().keys() == {"a", "z"}
    assert not place.ledger.collect("z", "test", "the way back")
    place.ledger.heartbeat("r", "http://here", ["o"], None)
    assert not place.ledger.collect("o", "test", "loaded")
    place.ledger.leave("r")
    assert place.ledger.collect("o", "test", "old")
    assert not place.ledger.collect("b", "test", "awaits approval")


def counts_leases_only_while_they_last(place: Place) -> None:
    place.ledger.heartbeat("r", "http://here", ["o"], None, lease_seconds=-1)
    assert place.ledger.replicas() == []
    assert "o" not in place.ledger.in_use()
    assert place.ledger.expired_leases(timedelta(hours=1)) == []


def leaves_a_probe_its_time(place: Place) -> None:
    place.ledger.switch(place.ledger.propose("b", place.version()).version, place.soon())
    assert place.ledger.resolve_overdue("test") is None
    assert place.ledger.pointer().phase == "probing"


def resolves_an_overdue_probe_once(place: Place) -> None:
    probing = place.ledger.switch(place.ledger.propose("b", place.version()).version, place.soon(-1))
    real = place.ledger.pointer
    place.ledger.revert(probing.version)
    place.patch.setattr(place.ledger, "pointer", lambda arm="control": probing)
    assert place.ledger.resolve_overdue("the second") is None
    place.patch.setattr(place.ledger, "pointer", real)


def has_each_record_once(place: Place) -> None:
    records = [Record(0, "title", "t1", maturity=7, key="k")]
    assert [place.ledger.append_eligibility(records) for _ in range(2)] == [1, 0]


def waits_for_another_writer(place: Place) -> None:
    """Both read, then write: with a lock taken only at the write, one of them would be thrown out."""
    read, errors = threading.Barrier(2, timeout=1), []

    def write(name: str) -> None:
        try:
            with database.writing(place.ledger.engine) as connection:
                journal.releases(connection)
                with contextlib.suppress(threading.BrokenBarrierError):  # as it should be: the other one has not begun
                    read.wait()
                connection.execute(text("UPDATE releases SET day = :name WHERE release_id = 'b'"), {"name": name})
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in ("2026-04-01", "2026-04-02")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert errors == []


def commits_reach_the_disk(place: Place) -> None:
    engine = database.connect(place.settings.database_address())
    with engine.connect() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode", "foreign_keys")]
    engine.dispose()
    assert pragmas == [2, "wal", 1]


def migrates_one_at_a_time(place: Place) -> None:
    import fcntl

    held: list[int] = []
    real = fcntl.flock
    place.patch.setattr(database.fcntl, "flock", lambda file, how: (held.append(how), real(file, how)))
    with database._one_at_a_time(place.ledger.engine):
        pass
    assert held == [fcntl.LOCK_EX]


def collects_in_the_ledger_first(place: Place) -> None:
    """What the ledger refuses keeps its files, however the choice was made."""
    place.patch.setattr(collect, "choose", lambda ledger, keep: (["a", "b", "o"], {}))
    for release in ("a", "b", "o"):
        (place.settings.releases / release).mkdir(parents=True)
        (place.settings.releases / release / "item_vectors.npy").write_text("x")
    collect.run(place.settings, keep=0)
    left = [release for release in ("a", "b", "o") if (place.settings.releases / release / "item_vectors.npy").exists()]
    assert left == ["a", "b"]


def _steps(place: Place, act: Callable[[Path], None]) -> list[str]:
    seen: list[str] = []
    real_sync, real_replace = os.fsync, os.replace
    place.patch.setattr(os, "fsync", lambda fd: (seen.append(f"sync {Path(os.readlink(f'/proc/self/fd/{fd}')).name}"), real_sync(fd)))
    place.patch.setattr(os, "replace", lambda a, b: (seen.append(f"name {Path(b).name}"), real_replace(a, b)))
    folder = place.settings.home / "published"
    folder.mkdir()
    act(folder)
    return seen


def content_before_its_name(place: Place) -> None:
    steps = _steps(place, lambda folder: durable.write(folder / "said", "x"))
    assert steps.index(f"sync .said.{os.getpid()}") < steps.index("name said")


def a_name_before_we_go_on(place: Place) -> None:
    assert _steps(place, lambda folder: durable.write(folder / "said", "x"))[-1] == "sync published"


def a_folder_with_all_that_is_in_it(place: Place) -> None:
    def publish(folder: Path) -> None:
        (folder / ".aside").mkdir()
        (folder / ".aside" / "inside").write_text("x")
        durable.publish(folder / ".aside", folder / "final")

    steps = _steps(place, publish)
    assert steps.index("sync inside") < steps.index("name final")


def written_aside(place: Place) -> None:
    """A reader sees the old file until the new one is whole."""
    path = place.settings.home / "said"
    path.write_text("old")
    place.patch.setattr(durable, "publish", lambda aside, final: None)
    durable.write(path, "new")
    assert path.read_text() == "old"


def json_files_are_durable(place: Place) -> None:
    from contracts.release import FileEntry

    steps = _steps(place, lambda folder: files.write(folder / "manifest.json", FileEntry(size=1, sha256="x")))
    assert [step.partition(" ")[0] for step in steps] == ["sync", "name", "sync"]


# --- mutants ------------------------------------------------------------------------------------------------------------

MUTANTS: list[tuple[ModuleType, str, str, Callable[[Place], None]]] = [
    (pointer, "POINTER.c.version == expected_version, ", "", refuses_a_stale_version),
    (pointer, ", POINTER.c.phase == expected_phase", "", refuses_another_phase),
    (pointer, "    if done.rowcount != 1:\n        raise _stale(connection, arm, expected_version)\n", "", refuses_a_stale_version),
    (pointer, "raise _stale(connection, arm, expected_version) from None", "pass", has_one_first_proposal),
    (pointer, "    if before.candidate is None:\n", "    if False:\n", a_switch_needs_a_candidate),
    (pointer, "    journal.move(connection, before.candidate, State.PROBING, by)\n", "", moves_pointer_and_state_together),
    (pointer, "    if evidence_digest and ", "    if False and ", switches_only_what_was_approved),
    (pointer, "    if row.state == State.COLLECTED:\n", "    if False:\n", refuses_to_propose_what_was_collected),
    (pointer, " and row.compared_with != pointer.release_id:", " and False:", refuses_to_replace_another_live),
    (journal, ", RELEASES.c.state == before.state", "", sees_a_state_that_moved_meanwhile),
    (journal, "    if done.rowcount != 1:\n        return move(connection, release_id, to, by)\n", "", sees_a_state_that_moved_meanwhile),
    (journal, "    if not may_follow(before.state, to):\n", "    if False:\n", refuses_what_no_state_allows),
    (interface, "row.state not in COLLECTABLE or ", "", leaves_what_is_needed),
    (interface, " or release_id in _in_use(connection, lock=True)", "", leaves_what_is_needed),
    (interface, "            users.setdefault(release_id, f\"loaded by replica {row['replica_id']}\")\n", "            pass\n", leaves_what_is_needed),
    (interface, "    held = select(REPLICAS).where(REPLICAS.c.expires_at > database.wall(connection))", "    held = select(REPLICAS)", counts_leases_only_while_they_last),
    (interface, "        query = select(REPLICAS).where(REPLICAS.c.expires_at > database.wall(connection))", "        query = select(REPLICAS)", counts_leases_only_while_they_last),
    (interface, "pointer.phase != \"probing\" or pointer.deadline > self.wall()", "pointer.phase != \"probing\"", leaves_a_probe_its_time),
    (interface, "        except StaleVersion:\n            return None\n", "        except ZeroDivisionError:\n            return None\n", resolves_an_overdue_probe_once),
    (eligibility, "dialect.insert(ELIGIBILITY).on_conflict_do_nothing(index_elements=[\"record_key\"])", "dialect.insert(ELIGIBILITY)", has_each_record_once),
    (database, "\"BEGIN IMMEDIATE\" if writes else \"BEGIN\"", "\"BEGIN\"", waits_for_another_writer),
    (database, ", \"synchronous=FULL\"", ", \"synchronous=OFF\"", commits_reach_the_disk),
    (database, "        fcntl.flock(file, fcntl.LOCK_EX)\n", "", migrates_one_at_a_time),
    (collect, " if ledger.collect(release, ACTOR, f\"not among the newest {keep}, and not in use\")]", "]", collects_in_the_ledger_first),
    (durable, "    sync_tree(aside)\n", "", content_before_its_name),
    (durable, "    sync(final.parent)\n", "", a_name_before_we_go_on),
    (durable, "        sync(inside)\n", "        pass\n", a_folder_with_all_that_is_in_it),
    (durable, "        os.fsync(descriptor)\n", "        pass\n", content_before_its_name),
    (durable, "    publish(aside, path)\n", "    aside.replace(path)\n", content_before_its_name),
    (durable, "    aside = path.with_name(f\".{path.name}.{os.getpid()}\")\n", "    aside = path\n", written_aside),
    (files, "    durable.write(path, model.model_dump_json(indent=1) + \"\\n\")\n", "    path.write_text(model.model_dump_json(indent=1))\n", json_files_are_durable),
]

WATCHES = sorted({watch for *_, watch in MUTANTS}, key=lambda watch: watch.__name__)


@pytest.mark.parametrize("watch", WATCHES, ids=lambda watch: watch.__name__)
def test_the_code_as_it_is(place, watch):
    watch(place)


@pytest.mark.parametrize(("module", "old", "new", "watch"), MUTANTS, ids=[f"{m.__name__}-{i}-{w.__name__}" for i, (m, _, _, w) in enumerate(MUTANTS)])
def test_without_it_a_test_is_red(place, module, old, new, watch):
    if watch in (commits_reach_the_disk, collects_in_the_ledger_first) and module is database:
        place.ledger.engine.dispose()
    with mutant(module, old, new), pytest.raises(BaseException) as caught:  # noqa: PT011
        watch(place)
    assert not isinstance(caught.value, KeyboardInterrupt | SyntaxError | NameError)


SITES = re.compile(r"\.rowcount\b|on_conflict_do_nothing\(|os\.fsync\(|fcntl\.flock\(|BEGIN IMMEDIATE|synchronous=FULL|expires_at > database")


def test_no_site_is_forgotten():
    """As many compare-and-swaps and syncs as there are mutants of them: a new one wants a mutant of its own."""
    found = {}
    for module in (pointer, journal, interface, eligibility, database, durable, collect, files):
        source = Path(module.__file__).read_text()
        for match in SITES.finditer(source):
            line = source.count("\n", 0, match.start())
            found[f"{Path(module.__file__).relative_to(REPOSITORY)}:{line + 1}"] = (module, match.group())
    assert len(found) >= 8
    for where, (module, what) in found.items():
        assert any(m is module and (what in old or what in new or _same_statement(module, what, old)) for m, old, new, _ in MUTANTS), where


def _same_statement(module: ModuleType, what: str, old: str) -> bool:
    """The mutant takes out the condition that `what` then compares."""
    source = Path(module.__file__).read_text()
    at, site = source.find(old), source.find(what)
    return 0 <= site - at < 400
