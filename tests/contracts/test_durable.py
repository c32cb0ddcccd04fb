"""Publishing: content reaches the disk before its name does, and a name never stands for half a file."""

import os
import re
from pathlib import Path

import pytest

from contracts import durable
from contracts.settings import REPOSITORY


@pytest.fixture
def steps(monkeypatch) -> list[str]:
    """What was asked of the disk, in order."""
    seen: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        seen.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        real_sync(descriptor)

    def replace(source, target) -> None:
        seen.append(f"rename {Path(target).name}")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "rename", replace)
    return seen


def test_a_file_is_on_the_disk_before_its_name_and_its_name_before_we_go_on(tmp_path, steps):
    durable.write(tmp_path / "said.json", "new")
    assert (tmp_path / "said.json").read_text() == "new"
    assert steps == [f"sync .said.json.{os.getpid()}", "rename said.json", f"sync {tmp_path.name}"]


def test_a_folder_is_on_the_disk_with_all_that_is_in_it(tmp_path, steps):
    aside = tmp_path / ".evidence.1"
    (aside / "deep").mkdir(parents=True)
    (aside / "gates.json").write_text("{}")
    (aside / "deep" / "card.md").write_text("yes")
    durable.publish(aside, tmp_path / "evidence")
    before = steps[: steps.index("rename evidence")]
    assert {"sync gates.json", "sync card.md", "sync deep", "sync .evidence.1"} == set(before)
    assert steps[-1] == f"sync {tmp_path.name}"


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "said.json").write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        durable.write(tmp_path / "said.json", "new")
    assert (tmp_path / "said.json").read_text() == "old"


def test_nobody_publishes_without_the_disk():
    """Renames outside contracts/durable.py: only those that put something aside, never those that publish."""
    allowed = {"jobs/evaluation/record.py": ["place.rename(old)"]}
    pattern = re.compile(r"\b\w*(?:aside|temporary|place|path|folder)\w*\.(?:replace|rename)\([\w/ .]+\)|os\.(?:replace|rename)\(.*\)|shutil\.move\(.*\)")
    looked, found = 0, {}
    for top in ("contracts", "jobs", "serving", "ledger", "local", "dags", "feature_repo"):
        for path in (REPOSITORY / top).rglob("*.py"):
            looked += 1
            name = path.relative_to(REPOSITORY).as_posix()
            if name != "contracts/durable.py" and (renames := pattern.findall(path.read_text())):
                found[name] = renames
    assert looked > 100
    assert found == allowed, "publish with contracts.durable, so that content is on the disk before its name"
