"""A real night's release and an index refresh of it, built again by the real commands: the same digests, and nothing
of theirs touched. In a copy of the session's home, so that no other test sees a live release."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from contracts import release as names
from contracts.release import State
from jobs.release import files
from ledger import open_ledger
from tests.conftest import Nano


@pytest.fixture(scope="module")
def home(nano, tmp_path_factory) -> Nano:
    nano.reach("seal")
    place = tmp_path_factory.mktemp("rebuild") / "home"
    shutil.copytree(nano.home, place, ignore=shutil.ignore_patterns("landing", "warehouse", "work", "logs", "spark*"))
    shutil.copytree(nano.home / "landing", place / "landing", copy_function=shutil.copy2)
    made = Nano(place, nano.environment | {"MARQUEE_HOME": str(place), "MARQUEE_MIN_FREE_GB": "0"})
    made.done = dict(nano.done)
    return made


def entries(home: Nano, release: str) -> dict:
    return {path.name: (names.file_entry(path), path.stat().st_mtime_ns)
            for path in (home.settings.releases / release).iterdir() if path.is_file()}


def rebuilt(home: Nano, release: str) -> dict:
    before = entries(home, release)
    done = home.run("release", "rebuild", release, "--json", check=False)
    assert entries(home, release) == before
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert (done.returncode == 0) == (found["outcome"] == "same"), done.stderr
    return found


def test_a_release_comes_out_the_same_but_for_what_is_not_as_it_was_built(home):
    """The fallback order counts as sealed with other bytes, which no file check can see: only building again can tell."""
    root = home.settings.releases / home.release_id
    payload = files.payload(home.settings, home.release_id)
    changed = payload.files | {names.FALLBACK: payload.files[names.FALLBACK].model_copy(update={"sha256": "0" * 64})}
    files.write(root / names.PAYLOAD, payload.model_copy(update={"files": changed, "payload_digest": names.payload_digest(changed)}))
    try:
        found = rebuilt(home, home.release_id)
    finally:
        files.write(root / names.PAYLOAD, payload)
    assert (found["outcome"], found["differing"]) == ("differs", [names.FALLBACK])
    assert found["rebuilt_digest"] == payload.payload_digest, "every byte is as it was built"
    assert (home.settings.work / f"rebuild-{home.release_id}" / "releases").is_dir(), "the rebuilt files are there to look at"


def test_a_refresh_is_a_release_with_its_bases_models_and_comes_out_the_same(home):
    ledger, base = open_ledger(home.settings), home.release_id
    for state in (State.JUDGED, State.AWAITING_APPROVAL):
        ledger.move(base, state, "test")
    ledger.confirm(ledger.switch(ledger.propose(base, 0).version, datetime.now(UTC) + timedelta(minutes=5)).version)
    decided = home.result("release", "decide", "--ds", home.ds, "--action", "refresh", "--reason", "a test")
    assert (decided["action"], decided["base"]) == ("refresh", base)
    release = home.result("release", "begin", "--ds", home.ds)["release_id"]
    assert release != base
    for step in ("towers", "index", "ranker"):
        said = home.result(step, "--release", release)
        assert step == "index" or said["kept_from"] == base
    home.result("release", "seal", "--release", release)
    ours, theirs = (files.payload(home.settings, one).files for one in (release, base))
    kept = {name for name in ours if ours[name] == theirs.get(name)}
    assert {names.QUERY_TOWER, names.ITEM_TOWER} <= kept
    assert names.SPEC not in kept
    assert ours.get(names.RANKER) == theirs.get(names.RANKER)
    found = rebuilt(home, release)
    assert (found["outcome"], found["rebuilt_digest"]) == ("same", found["payload_digest"])
    assert not (home.settings.work / f"rebuild-{release}").exists()
    assert "kept from" in home.run("release", "show", release).stdout
