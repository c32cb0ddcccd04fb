"""When a release can be built again: every reason against, on a real little lake; the build itself in test_rebuild_nano."""

import json
from datetime import date

import pytest

from contracts import release as names
from contracts.errors import MarqueeError
from contracts.marts import tag_name
from contracts.release import Payload, Provenance, payload_digest
from contracts.settings import REPOSITORY
from contracts.tags import tag_file, training_file
from jobs.lake import read
from jobs.recipes import nano
from jobs.release import begin, files, inputs, rebuild
from tests.jobs.ranker.ranker_world import DAY, World

DS = str(DAY)


@pytest.fixture
def made(tmp_path, code) -> tuple:
    """Settings of a home with a release of this code, recipe and lake, as good as sealed."""
    settings = World(profiles=20).write(tmp_path / "home")
    provenance = begin.name(settings, DS, read.tag_record(settings, DS), read.training_record(settings, DS), nano())
    folder = settings.releases / provenance.release_id
    folder.mkdir()
    files.write(folder / names.PROVENANCE, provenance)
    files.write(folder / names.PAYLOAD, Payload(release_id=provenance.release_id, files={}, payload_digest=payload_digest({})))
    return settings, provenance


def test_nothing_stands_against_what_has_not_changed(made):
    settings, provenance = made
    assert rebuild.why_not(settings, provenance) is None
    assert (provenance.threads, provenance.device) == (2, "cpu")


def test_other_code_is_named(made, code):
    settings, provenance = made
    (code / "jobs" / "step.py").write_text("print(2)\n")
    found = rebuild.run(settings, provenance.release_id)
    assert found["outcome"] == "not rebuildable"
    assert found["reason"].startswith(f"it was built by code {provenance.code[:12]}, this is ")
    assert not list(settings.work.glob("rebuild-*"))
    assert "is not rebuildable: it was built by code" in rebuild.as_text(found)


@pytest.mark.parametrize(("changed", "why"), [
    ({"libraries": {"torch": "1.0"}}, "torch 1.0, here"),
    ({"recipe": {"name": "gone"}}, "its recipe 'gone' is not among this code's"),
    ({"recipe": nano().as_inputs() | {"name": "demo"}}, "its recipe 'demo' is not"),
    ({"device": "cuda"}, "on a GPU, and here is none"),
])
def test_other_circumstances_are_named(made, changed, why):
    settings, provenance = made
    if "libraries" in changed:
        changed = {"libraries": provenance.libraries | changed["libraries"]}
    assert why in rebuild.why_not(settings, provenance.model_copy(update=changed))


def test_erased_rows_are_said(made):
    """An erasure tags the night anew, with other hashes."""
    settings, provenance = made
    path = settings.lake / "tags" / tag_file(tag_name(DS))
    record = json.loads(path.read_text())
    record["tables"]["marts.fct_play"]["logical_hash"] = "after an erasure"
    path.write_text(json.dumps(record))
    assert rebuild.why_not(settings, provenance) == f"marts.fct_play of {DS} has changed since: rows were erased or corrected"


@pytest.mark.parametrize("what", ["record", "tag", "training record", "training snapshot"])
def test_a_tag_that_is_gone_is_said(made, what):
    settings, provenance = made
    tags = settings.lake / "tags"
    if what == "record":
        (tags / tag_file(tag_name(DS))).unlink()
    elif what == "training record":
        (tags / training_file(tag_name(DS))).unlink()
    elif what == "tag":
        read.open_table(settings, "marts.fct_play").manage_snapshots().remove_tag(tag_name(DS)).commit()
    else:
        path = tags / training_file(tag_name(DS))
        path.write_text(path.read_text().replace(str(read.open_table(settings, "training.requests").current_snapshot().snapshot_id), "1"))
    said = {"record": "the tag is gone", "training record": "the tag is gone", "tag": f"marts.fct_play at tag nightly_{DS} is gone",
            "training snapshot": f"training.requests at tag nightly_{DS} is gone"}[what]
    assert rebuild.why_not(settings, provenance).startswith(said)


def test_a_refresh_needs_its_bases_models(made):
    settings, provenance = made
    refresh = names.Refresh(of="2026-03-30-base", trained_by="2026-03-30-base", trained_day="2026-03-30", models={names.QUERY_TOWER: "0"},
                            spec=names.ReleaseSpec(release_id="b", day=str(date(2026, 3, 30)), dimension=1, history_length=1, collection="c",
                                                   markets=[], feature_service="f", ranker=names.RankerSpec(kind="blend")))
    assert rebuild.why_not(settings, provenance.model_copy(update={"refresh": refresh})) == \
        "it refreshes 2026-03-30-base, whose query_tower.onnx is gone"


def test_a_release_that_was_never_sealed_has_nothing_to_compare_with(made):
    settings, provenance = made
    (settings.releases / provenance.release_id / names.PAYLOAD).unlink()
    with pytest.raises(MarqueeError, match="marquee release seal"):
        rebuild.run(settings, provenance.release_id)


def test_a_step_that_fails_says_why_and_leaves_nothing(made, monkeypatch):
    """The towers' command runs for real, by the real code, on a lake without profiles."""
    settings, provenance = made
    monkeypatch.setattr(rebuild, "REPOSITORY", REPOSITORY)
    provenance = provenance.model_copy(update={"code": inputs.code_hash(REPOSITORY)})
    files.write(settings.releases / provenance.release_id / names.PROVENANCE, provenance)
    before = {path: path.stat().st_mtime_ns for path in (settings.releases / provenance.release_id).rglob("*")}
    with pytest.raises(MarqueeError, match=r"towers failed: .*no table marts\.dim_profile_version"):
        rebuild.run(settings, provenance.release_id)
    assert not list(settings.work.glob("rebuild-*"))
    assert {path: path.stat().st_mtime_ns for path in (settings.releases / provenance.release_id).rglob("*")} == before


def test_provenance_of_before_reads_as_it_was(made):
    """Releases that were begun before refreshes were."""
    _, provenance = made
    old = {k: v for k, v in json.loads(provenance.model_dump_json()).items() if k not in ("threads", "device", "refresh")}
    found = Provenance.model_validate(old)
    assert (found.trained_by, found.trained_day, found.threads) == (provenance.release_id, DS, None)
