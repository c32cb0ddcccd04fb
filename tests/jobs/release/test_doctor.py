"""The doctor: every kind of leftover is found, said and mended once; nothing that is needed is touched."""

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from pymilvus import MilvusClient

from contracts.errors import UsageError
from contracts.release import EVIDENCE, ITEM_VECTORS, MANIFEST, PROVENANCE, SPEC, Provenance, State, collection_name
from contracts.settings import REPOSITORY, Settings
from jobs.index import rebuild
from jobs.release import doctor
from jobs.release.probe import ALIAS
from ledger import open_ledger
from ledger.schema import REPLICAS
from tests.jobs.release.conftest import DAY, tag
from tests.serving.tiny_world import Catalogue, build_release

LIVE, NEXT = "2026-03-31-d0c70d0001", "2026-03-31-d0c70d0002"
CATALOGUE = Catalogue(30, seed=3)
DEAD_PID = 2 ** 22 - 7  # above any that this machine gives (pid_max is 2 ** 22)


@pytest.fixture
def settings(tmp_path, milvus_port) -> Settings:
    """Milvus by its address: it is shared with other tests, as it may be with another home."""
    return Settings(_env_file=None, home=tmp_path, milvus_url=f"http://127.0.0.1:{milvus_port}")


@pytest.fixture
def ledger(settings):
    ledger = open_ledger(settings)
    ledger.append_eligibility(CATALOGUE.log)
    for seed, release in enumerate((LIVE, NEXT)):
        folder = build_release(settings, CATALOGUE, release, seed)
        said = Provenance(release_id=release, day=DAY, tag=tag(), training=tag(), code="c", recipe={"name": "nano"}, seed=7, libraries={})
        (folder / PROVENANCE).write_text(said.model_dump_json())
        ledger.begin(release, DAY, "test")
        for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
            ledger.move(release, state, "test")
    ledger.confirm(ledger.switch(ledger.propose(LIVE, 0).version, datetime.now(UTC) + timedelta(hours=1)).version)
    with closing(MilvusClient(**settings.milvus_connection())) as client:
        for name in client.list_collections():
            if ALIAS in client.list_aliases(name)["aliases"]:
                client.drop_alias(ALIAS)
        client.create_alias(collection_name(LIVE), ALIAS)
        yield ledger
        client.drop_alias(ALIAS)
    ledger.close()


def ours(settings, fix: bool = False) -> list[doctor.Finding]:
    """What is found, but for other tests' collections."""
    return [one for one in doctor.run(settings, fix, rebuild.run) if one.kind != "orphan_collection" or "d0c70d" in one.where]


def mended(settings, kind: str) -> doctor.Finding:
    """The one finding, fixed; afterwards all is well."""
    (found,) = ours(settings)
    assert (found.kind, found.fixed) == (kind, False)
    (fixed,) = ours(settings, fix=True)
    assert fixed.fixed, fixed.failed
    assert ours(settings) == []
    return fixed


def old(path: Path, days: float = 3) -> Path:
    for inside in (*path.rglob("*"), path):
        os.utime(inside, (time.time() - days * 86400,) * 2)
    return path


def test_all_is_well(settings, ledger):
    assert ours(settings) == []
    assert doctor.as_text([]) == "all is well"


def test_an_overdue_probe_is_returned_from(settings, ledger):
    ledger.switch(ledger.propose(NEXT, ledger.pointer().version).version, datetime.now(UTC) - timedelta(seconds=1))
    found = mended(settings, "overdue_probe")
    assert LIVE in found.then
    assert (ledger.pointer().release_id, ledger.pointer().phase) == (LIVE, "live")


def test_a_lost_collection_is_made_again(settings, ledger):
    with closing(MilvusClient(**settings.milvus_connection())) as client:
        before = client.query(collection_name(NEXT), filter="", limit=100, output_fields=["*"])
        client.drop_collection(collection_name(NEXT))
        mended(settings, "lost_collection")
        after = client.query(collection_name(NEXT), filter="", limit=100, output_fields=["*"])
    assert [row["title_id"] for row in after] == [row["title_id"] for row in before]
    assert all(a["maturity"] == b["maturity"] and a["vector"] == b["vector"] for a, b in zip(before, after, strict=True))


def test_a_lost_alias_is_moved(settings, ledger):
    with closing(MilvusClient(**settings.milvus_connection())) as client:
        client.alter_alias(collection_name(NEXT), ALIAS)
    mended(settings, "lost_alias")


def test_files_of_dead_writers_go_and_those_of_living_ones_stay(settings, ledger):
    folder = settings.releases / NEXT
    (folder / f".{EVIDENCE}.{DEAD_PID}").mkdir()
    (folder / f".manifest.json.{os.getpid()}").write_text("half")
    (folder / ".item_vectors.npy.new").write_text("being written")
    assert ours(settings) == [], "a process that is unknown here may run in another pod"
    old(folder / f".{EVIDENCE}.{DEAD_PID}")
    mended(settings, "staging")
    assert (folder / f".manifest.json.{os.getpid()}").exists()
    assert (folder / ".item_vectors.npy.new").exists()
    old(folder / ".item_vectors.npy.new")
    mended(settings, "staging")


def test_a_stuck_build_fails_and_a_young_one_goes_on(settings, ledger):
    release = "2026-04-01-d0c70d0003"
    (settings.releases / release).mkdir()
    ledger.begin(release, DAY, "test")
    assert ours(settings) == []
    old(settings.releases / release)
    assert "begin --ds" in mended(settings, "stuck_build").then
    assert ledger.get(release).state == State.FAILED


def test_half_written_evidence_goes(settings, ledger):
    release = "2026-04-01-d0c70d0004"
    evidence = settings.releases / release / EVIDENCE
    evidence.mkdir(parents=True)
    (evidence / "card.md").write_text("half")
    ledger.begin(release, DAY, "test")
    ledger.move(release, State.BUILT, "test")
    old(evidence)
    mended(settings, "half_evidence")
    assert not evidence.exists()


def test_pid_files_of_dead_processes_go(settings, ledger):
    (settings.home / "run").mkdir()
    me = {"pid": os.getpid(), "started": psutil.Process().create_time()}
    (settings.home / "run" / "serving.pid").write_text(json.dumps(me))
    (settings.home / "run" / "milvus.pid").write_text(json.dumps({"pid": DEAD_PID, "started": 1.0}))
    mended(settings, "dead_pid_file")
    assert (settings.home / "run" / "serving.pid").exists()


def test_leases_that_ran_out_long_ago_go(settings, ledger):
    ledger.heartbeat("gone", "http://there", [], None)
    ledger.heartbeat("here", "http://here", [LIVE], LIVE)
    with ledger.engine.begin() as connection:
        connection.execute(REPLICAS.update().where(REPLICAS.c.replica_id == "gone").values(expires_at=datetime.now(UTC) - timedelta(hours=2)))
    mended(settings, "expired_lease")
    assert [replica.replica_id for replica in ledger.replicas()] == ["here"]


def test_an_interrupted_collection_is_ended(settings, ledger):
    ledger.move(NEXT, State.REJECTED, "test")
    ledger.collect(NEXT, "collect", "old")
    assert {one.kind for one in ours(settings)} == {"collected_files", "orphan_collection"}
    assert all(one.fixed for one in ours(settings, fix=True))
    assert ours(settings) == []
    assert (settings.releases / NEXT / MANIFEST).exists()
    with closing(MilvusClient(**settings.milvus_connection())) as client:
        assert not client.has_collection(collection_name(NEXT))


def test_a_collection_that_a_replica_reports_stays(settings, ledger):
    ledger.move(NEXT, State.REJECTED, "test")
    ledger.collect(NEXT, "collect", "old")
    ledger.heartbeat("r", "http://here", [NEXT], LIVE)
    assert "orphan_collection" not in {one.kind for one in ours(settings, fix=True)}
    with closing(MilvusClient(**settings.milvus_connection())) as client:
        assert client.has_collection(collection_name(NEXT))
    ledger.leave("r")
    mended(settings, "orphan_collection")


def test_a_home_that_never_was_is_not_made(tmp_path):
    with pytest.raises(UsageError, match="no such home"):
        doctor.run(Settings(_env_file=None, home=tmp_path / "mistyped"), False, rebuild.run)
    assert not (tmp_path / "mistyped").exists()


def test_a_torn_release_is_for_a_person(settings, ledger):
    (settings.releases / LIVE / ITEM_VECTORS).write_bytes(b"torn")
    (found,) = ours(settings, fix=True)
    assert (found.kind, found.fixed, found.fix) == ("torn_release", False, None)
    assert "roll" in found.then
    assert "by hand" in doctor.as_text([found])


def test_a_collection_of_nobody_in_a_shared_milvus_is_only_named(settings, ledger):
    stranger = "titles_2026_01_01_d0c70dffff"
    with closing(MilvusClient(**settings.milvus_connection())) as client:
        client.create_collection(stranger, dimension=4)
        try:
            (found,) = ours(settings, fix=True)
            assert (found.where, found.fixed) == (stranger, False)
            own = settings.model_copy(update={"milvus_url": "", "milvus_port": int(settings.milvus_url.rpartition(":")[2])})
            (found,) = [one for one in doctor.run(own, False, rebuild.run) if one.where == stranger]
            assert found.fix is None, "another home's server may answer at the default port"
            (settings.home / "run").mkdir()
            me = {"pid": os.getpid(), "started": psutil.Process().create_time()}
            (settings.home / "run" / "milvus.pid").write_text(json.dumps(me))
            (found,) = [one for one in doctor.run(own, False, rebuild.run) if one.where == stranger]
            assert found.fix is not None
        finally:
            client.drop_collection(stranger)


def test_the_command_ends_with_1_while_something_is_left(settings, ledger):
    (settings.releases / LIVE / ITEM_VECTORS).write_bytes(b"torn")
    environment = {"PATH": os.environ["PATH"], "MARQUEE_HOME": str(settings.home), "MARQUEE_MILVUS_URL": settings.milvus_url}
    done = subprocess.run([sys.executable, "-m", "jobs.cli", "doctor", "--json"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert "torn_release" in [one["kind"] for one in said["findings"]]
    assert "left to do" in done.stderr


def test_a_proposal_that_came_to_nothing_is_withdrawn(settings, ledger):
    ledger.propose(NEXT, ledger.pointer().version)
    assert ours(settings) == [], "a swap may be under way"
    ledger.move(NEXT, State.REJECTED, "test")
    mended(settings, "dead_proposal")
    assert ledger.pointer().candidate is None


def test_a_collection_that_lost_titles_is_made_again_alias_and_all(settings, ledger):
    with closing(MilvusClient(**settings.milvus_connection())) as client:
        before = client.query(collection_name(LIVE), filter="", limit=100, output_fields=["title_id"])
        client.delete(collection_name(LIVE), ids=[row["title_id"] for row in before[1:]])
        assert f"1 of release {LIVE}'s {len(before)} titles" in mended(settings, "short_collection").why
        after = client.query(collection_name(LIVE), filter="", limit=100, output_fields=["title_id"])
        assert (after, client.list_aliases(collection_name(LIVE))["aliases"]) == (before, [ALIAS])


def test_what_is_damaged_keeps_no_other_check_from_looking(settings, ledger):
    (settings.releases / LIVE / SPEC).write_text('{"release_id": ')
    (settings.home / "run").mkdir()
    (settings.home / "run" / "x.pid").write_bytes(b"\xff\xfe")
    ledger.heartbeat("replica", "http://here", ["2026-01-01-unknown"], None)
    assert {one.kind for one in ours(settings)} == {"torn_release", "unknown_release", "dead_pid_file"}


def test_a_check_that_fails_is_a_finding(settings, ledger, monkeypatch):
    monkeypatch.setattr(doctor.collect, "heavy_files", lambda folder: 1 / 0)
    ledger.move(NEXT, State.REJECTED, "test")
    ledger.collect(NEXT, "collect", "old")
    assert ("failed_check", "collected_files") in {(one.kind, one.where) for one in ours(settings)}


def test_what_a_source_uploads_is_its_own(settings, ledger):
    for name in (".upload.20260402", ".20260402.part", ".acme.new"):
        (settings.landing / name).mkdir(parents=True)
        old(settings.landing / name)
    assert ours(settings) == []
    (settings.landing / f".2026-04-02.{DEAD_PID}").mkdir()
    old(settings.landing / f".2026-04-02.{DEAD_PID}")
    mended(settings, "staging")
