"""Garbage collection: what goes, what stays and why, on a real Milvus."""

from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from pymilvus import MilvusClient

from contracts.errors import MarqueeError
from contracts.release import ITEM_VECTORS, MANIFEST, State, collection_name
from contracts.settings import Settings
from jobs.release import collect
from ledger import open_ledger
from tests.serving.tiny_world import Catalogue, build_release

NAMES = {name: f"2026-03-31-c0ffee000{i}" for i, name in enumerate(("old", "before", "live", "refused", "waits", "next"))}
CATALOGUE = Catalogue(20, seed=3)


@pytest.fixture
def settings(tmp_path, milvus_port) -> Settings:
    return Settings(_env_file=None, home=tmp_path, milvus_port=milvus_port)


@pytest.fixture
def ledger(settings):
    """old, before, live were live in this order; refused was rejected; waits awaits approval; next is proposed."""
    ledger = open_ledger(settings)
    for seed, release in enumerate(NAMES.values()):
        build_release(settings, CATALOGUE, release, seed)
        ledger.begin(release, "2026-03-31", "test")
        for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
            ledger.move(release, state, "test")
    for name in ("old", "before", "live"):
        pointer = ledger.pointer()
        proposed = ledger.propose(NAMES[name], pointer.version if pointer else 0)
        ledger.confirm(ledger.switch(proposed.version, datetime.now(UTC) + timedelta(hours=1)).version)
    ledger.move(NAMES["refused"], State.REJECTED, "test")
    ledger.propose(NAMES["next"], ledger.pointer().version)
    yield ledger
    ledger.close()


@pytest.fixture
def milvus(settings):
    with closing(MilvusClient(**settings.milvus_connection())) as client:
        yield client


def there(settings, milvus, name: str) -> tuple[bool, bool]:
    """(files, collection)."""
    return (settings.releases / NAMES[name] / ITEM_VECTORS).exists(), milvus.has_collection(collection_name(NAMES[name]))


def test_what_nobody_needs_goes_and_its_manifest_stays(settings, ledger, milvus):
    done = collect.run(settings, keep=0)
    assert done["collected"] == sorted([NAMES["old"], NAMES["refused"]])
    for name in NAMES:
        gone = name in ("old", "refused")
        assert there(settings, milvus, name) == (not gone, not gone), name
        assert (settings.releases / NAMES[name] / MANIFEST).exists()
    assert done["kept"] == {NAMES["live"]: "live of arm control", NAMES["next"]: "candidate of arm control",
                            NAMES["before"]: "previous of arm control", NAMES["waits"]: "awaiting_approval"}
    assert collect.run(settings, keep=0) | {"kept": {}} == {
        "collected": [], "kept": {}, "collections": [], "collections_waiting": [], "files": 0, "bytes": 0}


def test_the_newest_few_stay(settings, ledger):
    assert collect.run(settings, keep=1)["collected"] == []
    assert collect.run(settings, keep=0, dry_run=True)["would_collect"] == sorted([NAMES["old"], NAMES["refused"]])
    assert ledger.get(NAMES["old"]).state == State.RETIRED


def test_candidates_that_fail_one_after_the_other_leave_the_way_back(tmp_path):
    """y, z, a were live; b to e failed their probes."""
    ledger = open_ledger(Settings(_env_file=None, home=tmp_path))
    for name in "yzabcde":
        ledger.begin(name, "2026-03-31", "test")
        for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
            ledger.move(name, state, "test")
        pointer = ledger.pointer()
        proposed = ledger.propose(name, pointer.version if pointer else 0)
        probing = ledger.switch(proposed.version, datetime.now(UTC) + timedelta(hours=1))
        (ledger.confirm if name in "yza" else ledger.revert)(probing.version)
    gone, kept = collect.choose(ledger, 3)
    assert (gone, kept["y"], kept["z"]) == (["b"], "can be returned to", "previous of arm control")
    assert [name for name in "yz" if name in collect.choose(ledger, 0)[0]] == ["y"]
    ledger.close()


def test_the_newest_that_was_live_stays_where_no_pointer_names_it(settings, ledger):
    """After a roll-back the pointer's `previous` is what was left."""
    proposed = ledger.propose(NAMES["before"], ledger.pointer().version)
    ledger.confirm(ledger.switch(proposed.version, datetime.now(UTC) + timedelta(hours=1)).version)
    assert ledger.pointer().previous == NAMES["live"]
    gone, kept = collect.choose(ledger, 0)
    assert NAMES["old"] not in gone
    assert kept[NAMES["old"]] == "can be returned to"


def test_what_a_replica_reports_stays_until_it_reports_it_no_more(settings, ledger, milvus):
    ledger.heartbeat("r", "http://here", [NAMES["old"]], NAMES["live"])
    assert collect.run(settings, keep=0)["collected"] == [NAMES["refused"]]
    assert there(settings, milvus, "old") == (True, True)
    ledger.leave("r")
    assert collect.run(settings, keep=0)["collected"] == [NAMES["old"]]


def test_a_collection_with_an_alias_waits(settings, ledger, milvus):
    milvus.create_alias(collection_name(NAMES["old"]), "somebody_s_tool")
    try:
        assert collect.run(settings, keep=0)["collections_waiting"] == [collection_name(NAMES["old"])]
        assert there(settings, milvus, "old") == (False, True)
    finally:
        milvus.drop_alias("somebody_s_tool")
    assert collect.run(settings, keep=0)["collections"] == [collection_name(NAMES["old"])]


def test_a_kill_between_ledger_and_files_is_made_good(settings, ledger, milvus):
    ledger.collect(NAMES["old"], "collect", "killed right after")
    assert there(settings, milvus, "old") == (True, True)
    collect.run(settings, keep=0)
    assert there(settings, milvus, "old") == (False, False)


def test_without_milvus_files_go_and_the_collection_later(settings, ledger, milvus):
    collect.run(settings.model_copy(update={"milvus_url": "http://127.0.0.1:9"}), keep=0)
    assert there(settings, milvus, "old") == (False, True)
    collect.run(settings, keep=0)
    assert there(settings, milvus, "old") == (False, False)


def test_nobody_goes_back_to_what_was_collected(settings, ledger):
    collect.run(settings, keep=0)
    with pytest.raises(MarqueeError, match="was collected"):
        ledger.propose(NAMES["old"], ledger.pointer().version)


def test_groups_of_markets_belong_to_their_release():
    names = ["titles_2026_03_31_c0ffee0001", "titles_2026_03_31_c0ffee0001_2", "titles_2026_03_31_c0ffee00012", "titles_live"]
    assert list(collect.of_releases(names, [names[0]])) == names[:2]
