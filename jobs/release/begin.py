"""`marquee release begin`: names tonight's candidate from everything that it will be built from."""

import hashlib
import logging
import platform
from collections.abc import Iterator
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

from contracts.errors import MarqueeError, UsageError
from contracts.marts import tag_name
from contracts.release import PROVENANCE, Provenance, State, release_id
from contracts.settings import REPOSITORY, Settings
from contracts.tags import TagRecord, tag_file, training_file
from jobs import runtime
from jobs.recipes import Recipe
from jobs.release import files
from ledger import open_ledger

log = logging.getLogger("marquee")

CODE = ("contracts", "jobs", "dbt", "feature_repo", "serving", "requirements")
"""Folders whose content decides what a release is; not git's HEAD, so that an edited or exported tree names itself."""

NOT_CODE = frozenset({"__pycache__", "target", "logs", "dbt_packages", "node_modules"})

LIBRARIES = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "lightgbm", "pyarrow", "pandas", "pyspark",
             "dbt-core", "dbt-spark", "feast", "pyiceberg")
"""Libraries that can change the bytes of a release."""


def run(settings: Settings, ds: str, recipe: Recipe) -> dict[str, Any]:
    """Writes `provenance.json` and enters the release in the ledger; a rerun finds itself, whatever became of it.

    UsageError where `ds` is no date, or its tag or training set is not there yet.
    """
    runtime.require_free_disk(settings)
    _check_day(ds)
    tag = _record(settings, tag_file(tag_name(ds)), "warehouse", ds)
    training = _record(settings, training_file(tag_name(ds)), "examples", ds)
    found = name(settings, ds, tag, training, recipe)
    ledger = open_ledger(settings)
    known = ledger.get(found.release_id)
    if known is None or known.state in (State.BUILDING, State.FAILED):
        _write(settings.releases / found.release_id, found)
    row = ledger.begin(found.release_id, ds, actor="begin")
    return {"release_id": row.release_id, "day": ds, "state": row.state, "code": found.code, "recipe": recipe.name}


def name(settings: Settings, ds: str, tag: TagRecord, training: TagRecord, recipe: Recipe) -> Provenance:
    """The provenance, and in it the release id, of tonight's inputs. Snapshot ids are left out of the id: landing the
    same day into a fresh lake gives the same release."""
    code, libraries, inputs = code_hash(REPOSITORY), library_versions(), recipe.as_inputs()
    identity = {
        "day": ds,
        "interval": [str(tag.first), str(tag.last)],
        "has_impressions": tag.has_impressions,
        "marts": {name: version.logical_hash for name, version in tag.tables.items()},
        "training": {name: version.logical_hash for name, version in training.tables.items()},
        "code": code,
        "recipe": inputs,
        "libraries": libraries,
        "threads": settings.threads,
        "device": device_kind(settings.device),
    }
    return Provenance(release_id=release_id(ds, identity), day=ds, tag=tag, training=training, code=code, recipe=inputs,
                      seed=recipe.towers.seed, libraries=libraries)


def code_hash(root: Path) -> str:
    """SHA-256 over names and contents of the source files under `CODE`, in order of name."""
    total = hashlib.sha256()
    for path in sorted(source_files(root), key=lambda p: p.relative_to(root).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(root).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def source_files(root: Path) -> Iterator[Path]:
    """Files that are code: none hidden, none that a tool made."""
    for folder in CODE:
        for path in (root / folder).rglob("*"):
            parts = path.relative_to(root).parts
            if path.is_file() and not any(p in NOT_CODE or p.startswith(".") for p in parts) and path.suffix != ".pyc":
                yield path


def library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "absent"
    return versions


def device_kind(device: str) -> str:
    """`cpu` or `cuda`; `auto` asks torch only where a driver is there."""
    if device != "auto":
        return device
    if not Path("/dev/nvidiactl").exists():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _check_day(ds: str) -> None:
    try:
        if str(date.fromisoformat(ds)) == ds:
            return
    except ValueError:
        pass
    raise UsageError(f"--ds {ds!r} is not a day like 2026-03-31")


def _record(settings: Settings, file: str, step: str, ds: str) -> TagRecord:
    path = settings.lake / "tags" / file
    if not path.is_file():
        raise UsageError(f"{path} is missing: run `marquee {step} --ds {ds}` first")
    return files.read(path, TagRecord, f"run `marquee {step} --ds {ds}`")


def _write(folder: Path, found: Provenance) -> None:
    """An existing one stays, unless the night was tagged anew: its snapshot ids would lead nowhere."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PROVENANCE
    try:
        if files.read(path, Provenance, "") == found:
            return
        log.warning("release %s: the night was tagged anew with the same content", found.release_id)
    except MarqueeError:
        pass
    files.write(path, found)
