"""The name of a release: everything that decides its bytes, and nothing else."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from contracts.errors import UsageError
from contracts.release import PROVENANCE, Provenance, State
from contracts.tags import TableVersion, TagRecord, tag_file, training_file
from jobs.recipes import nano
from jobs.release import begin, inputs
from tests.jobs.release.conftest import DAY

TAG = f"nightly_{DAY}"


def record(snapshot: int = 1, rows_hash: str = "h") -> TagRecord:
    table = TableVersion(snapshot_id=snapshot, rows=3, logical_hash=rows_hash)
    return TagRecord(ds=DAY, first=date(2026, 3, 31), last=date(2026, 3, 31), has_impressions=True, tables={"fct_play": table})


def land(settings, snapshot: int = 1, rows_hash: str = "h") -> None:
    folder = settings.lake / "tags"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (tag_file(TAG), training_file(TAG)):
        (folder / name).write_text(record(snapshot, rows_hash).model_dump_json())


@pytest.fixture(autouse=True)
def code(monkeypatch, tmp_path) -> Path:
    """A source tree of the test's own: the real one changes while people work on it."""
    root = tmp_path / "repository"
    for folder in inputs.CODE:
        (root / folder).mkdir(parents=True)
    (root / "jobs" / "step.py").write_text("print(1)\n")
    monkeypatch.setattr(begin, "REPOSITORY", root)
    return root


def test_a_rerun_finds_itself(settings, ledger):
    land(settings)
    first = begin.run(settings, DAY, nano())
    assert first["release_id"].startswith(f"{DAY}-")
    written = (settings.releases / first["release_id"] / PROVENANCE).read_bytes()
    assert Provenance.model_validate_json(written).seed == nano().towers.seed
    assert begin.run(settings, DAY, nano()) == first
    assert (settings.releases / first["release_id"] / PROVENANCE).read_bytes() == written
    ledger.move(first["release_id"], State.BUILT, "seal")
    assert begin.run(settings, DAY, nano()) == first | {"state": State.BUILT}


def test_a_failed_one_builds_again(settings, ledger):
    land(settings)
    first = begin.run(settings, DAY, nano())
    ledger.move(first["release_id"], State.FAILED, "towers")
    assert begin.run(settings, DAY, nano())["state"] == State.BUILDING


def test_snapshot_ids_are_annotations(settings):
    land(settings, snapshot=1)
    first = begin.run(settings, DAY, nano())["release_id"]
    land(settings, snapshot=2)
    assert begin.run(settings, DAY, nano())["release_id"] == first
    written = json.loads((settings.releases / first / PROVENANCE).read_text())
    assert written["tag"]["tables"]["fct_play"]["snapshot_id"] == 2, "readers go to the snapshot that is there"


def test_every_input_changes_the_name(settings, code):
    land(settings)
    names = {begin.run(settings, DAY, nano())["release_id"]}

    def another(recipe=None, using=settings) -> None:
        names.add(begin.run(using, DAY, recipe or nano())["release_id"])

    another(replace(nano(), towers=replace(nano().towers, seed=8)))
    another(replace(nano(), towers=replace(nano().towers, epochs=99)))
    another(using=settings.model_copy(update={"threads": 7}))
    another(using=settings.model_copy(update={"device": "cuda"}))
    land(settings, rows_hash="other rows")
    another()
    (code / "jobs" / "step.py").write_text("print(2)\n")
    another()
    (code / "jobs" / "step.py").rename(code / "jobs" / "renamed.py")
    another()
    (code / "requirements" / "dev.txt").write_text("numpy==1\n")
    another()
    assert len(names) == 9


def test_what_tools_leave_behind_is_no_code(settings, code):
    before = inputs.code_hash(code)
    for left in ("jobs/__pycache__/step.pyc", "dbt/target/manifest.json", "dbt/logs/dbt.log", "jobs/.hidden", "docs/page.md"):
        path = code / left
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert inputs.code_hash(code) == before
    (code / "dbt" / "model.sql").write_text("select 1")
    assert inputs.code_hash(code) != before


def test_a_night_that_has_not_come_so_far_is_told_what_to_run(settings):
    with pytest.raises(UsageError, match=f"marquee warehouse --ds {DAY}"):
        begin.run(settings, DAY, nano())
    land(settings)
    (settings.lake / "tags" / training_file(TAG)).unlink()
    with pytest.raises(UsageError, match=f"marquee examples --ds {DAY}"):
        begin.run(settings, DAY, nano())
    assert not settings.releases.exists()


def test_too_little_disk_is_said_before_anything_is_written(settings):
    land(settings)
    with pytest.raises(UsageError, match="GB free"):
        begin.run(settings.model_copy(update={"min_free_gb": 1e9}), DAY, nano())
    assert not settings.releases.exists()
