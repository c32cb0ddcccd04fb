"""`marquee release rebuild`: a release built again from its tag, with its own code, recipe and seed, in a scratch home;
the payload digest must come out the same.

Runs the build's own commands. The release's folder and collection are read at most, never written.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from contracts.errors import MarqueeError, UsageError
from contracts.marts import MARTS, TRAINING, tag_name
from contracts.release import PROVENANCE, SPEC, Provenance, ReleaseSpec, canonical, file_entry, payload_digest
from contracts.settings import REPOSITORY, Settings
from contracts.tags import tag_file, training_file
from jobs import runtime
from jobs.lake import read
from jobs.recipes import recipe
from jobs.release import files, inputs, seal
from jobs.release.begin import keep_models

log = logging.getLogger("marquee")

SAME, DIFFERS, NOT_REBUILDABLE = "same", "differs", "not rebuildable"
STEPS = (("towers",), ("index", "--files-only"), ("ranker",))


def run(settings: Settings, release: str, keep: bool = False) -> dict[str, Any]:
    """`outcome`: the same digest, which files differ, or why it cannot be rebuilt. The scratch home stays where files
    differ, or with `keep`.

    UsageError where there is no such release, MarqueeError where it was never sealed or a step fails.
    """
    runtime.require_free_disk(settings)
    sealed, provenance = files.payload(settings, release), files.provenance(settings, release)
    told = {"release_id": release, "payload_digest": sealed.payload_digest}
    if why := why_not(settings, provenance):
        return told | {"outcome": NOT_REBUILDABLE, "reason": why}
    scratch = settings.work / f"rebuild-{release}"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        _prepare(settings, scratch, provenance)
        for step in STEPS:
            log.info("rebuild of %s: %s", release, step[0])
            _step(settings, scratch, provenance, step)
        root = scratch / "releases" / release
        spec = files.read(root / SPEC, ReleaseSpec, "the ranker's step did not write it")
        rebuilt = {name: file_entry(root / name) for name in seal.needed(spec)}
        differing = sorted(name for name in {*rebuilt, *sealed.files} if rebuilt.get(name) != sealed.files.get(name))
        keep = keep or bool(differing)
    finally:
        if not keep:
            shutil.rmtree(scratch, ignore_errors=True)
    return told | {"outcome": DIFFERS if differing else SAME, "rebuilt_digest": payload_digest(rebuilt), "differing": differing,
                   "scratch": str(scratch) if keep else None}


def as_text(found: dict[str, Any]) -> str:
    """One line for a person."""
    release, outcome = found["release_id"], found["outcome"]
    if outcome == NOT_REBUILDABLE:
        return f"{release} is not rebuildable: {found['reason']}"
    if outcome == SAME:
        return f"{release} rebuilt: same payload digest {found['payload_digest']}"
    return f"{release} rebuilt: {', '.join(found['differing'])} differ; digest {found['rebuilt_digest']} in place of " \
           f"{found['payload_digest']}. Rebuilt files: {found['scratch']}"


def why_not(settings: Settings, provenance: Provenance) -> str | None:
    """What is missing or has changed since, so that the same bytes cannot come out; None where nothing has."""
    if provenance.code != (now := inputs.code_hash(REPOSITORY)):
        return f"it was built by code {provenance.code[:12]}, this is {now[:12]}: check that revision out and try again"
    here = inputs.library_versions()
    if other := sorted(name for name in here if provenance.libraries.get(name) != here[name]):
        return "libraries differ: " + ", ".join(f"{name} {provenance.libraries.get(name, 'absent')}, here {here[name]}" for name in other)
    try:
        same_recipe = canonical(recipe(provenance.recipe.get("name", "")).as_inputs()) == canonical(provenance.recipe)
    except UsageError:
        same_recipe = False
    if not same_recipe:
        return f"its recipe {provenance.recipe.get('name')!r} is not among this code's"
    if provenance.device == "cuda" != inputs.device_kind("auto"):
        return "it was built on a GPU, and here is none"
    return _data_gone(settings, provenance) or _models_gone(settings, provenance)


def _data_gone(settings: Settings, provenance: Provenance) -> str | None:
    """The tag's tables must be those that the release was built from: by their hashes, at snapshots that still exist."""
    day = provenance.day
    try:
        now = {MARTS: read.tag_record(settings, day), TRAINING: read.training_record(settings, day)}
        for namespace, was in ((MARTS, provenance.tag), (TRAINING, provenance.training)):
            for name, version in sorted(was.tables.items()):
                there, table = now[namespace].tables.get(name), f"{namespace}.{name.removeprefix(f'{namespace}.')}"
                if there is None or there.logical_hash != version.logical_hash:
                    return f"{table} of {day} has changed since: rows were erased or corrected"
                if not _is_pinned(settings, table, day, there.snapshot_id):
                    return f"{table} at tag {tag_name(day)} is gone: snapshots were expired"
    except UsageError as error:
        return f"the tag is gone: {error}"
    return None


def _is_pinned(settings: Settings, name: str, day: str, snapshot: int) -> bool:
    """The marts are held by the night's tag, training tables by a snapshot that has not been expired."""
    table = read.open_table(settings, name)
    if name.startswith(f"{MARTS}."):
        pinned = table.refs().get(tag_name(day))
        return pinned is not None and pinned.snapshot_id == snapshot
    return table.snapshot_by_id(snapshot) is not None


def _models_gone(settings: Settings, provenance: Provenance) -> str | None:
    """A refresh is rebuilt from the models of its base."""
    if provenance.refresh is None:
        return None
    base = settings.releases / provenance.refresh.of
    for model, sha256 in provenance.refresh.models.items():
        if not (base / model).is_file() or file_entry(base / model).sha256 != sha256:
            return f"it refreshes {provenance.refresh.of}, whose {model} is gone"
    return None


def _prepare(settings: Settings, scratch: Path, provenance: Provenance) -> None:
    """A home with the release's provenance and the tag's records; the lake itself is the real one, read."""
    root, tags = scratch / "releases" / provenance.release_id, scratch / "lake" / "tags"
    for folder in (root, tags):
        folder.mkdir(parents=True)
    tag = tag_name(provenance.day)
    for name in (tag_file(tag), training_file(tag)):
        shutil.copyfile(settings.lake / "tags" / name, tags / name)
    files.write(root / PROVENANCE, provenance)
    keep_models(root, provenance, settings.releases)


def _step(settings: Settings, scratch: Path, provenance: Provenance, step: tuple[str, ...]) -> None:
    """One command of the build in the scratch home; MarqueeError with its last words where it fails."""
    command = [sys.executable, "-m", "jobs.cli", step[0], "--release", provenance.release_id, *step[1:]]
    with (scratch / f"{step[0]}.log").open("w+") as said:
        done = subprocess.run(command, cwd=REPOSITORY, env=_environment(settings, scratch, provenance), stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=said)
        said.seek(0)
        lines = said.read().strip().splitlines()
    if done.returncode:
        raise MarqueeError(f"rebuild of {provenance.release_id}: {step[0]} failed: {lines[-1] if lines else done.returncode}")


def _environment(settings: Settings, scratch: Path, provenance: Provenance) -> dict[str, str]:
    """This process's settings, but everything that is written goes to the scratch home."""
    said = {f"MARQUEE_{name.upper()}": str(value) for name, value in json.loads(settings.model_dump_json()).items()}
    return os.environ | said | {
        "MARQUEE_HOME": str(scratch), "MARQUEE_CATALOG_URI": settings.catalog_address(),
        "MARQUEE_WAREHOUSE": settings.warehouse_address(), "MARQUEE_DATABASE_URL": f"sqlite:///{scratch / 'ledger.db'}",
        "MARQUEE_MLFLOW_URI": f"sqlite:///{scratch / 'mlflow.db'}", "MARQUEE_RECIPE": provenance.recipe["name"],
        "MARQUEE_THREADS": str(provenance.threads or settings.threads), "MARQUEE_DEVICE": provenance.device or settings.device,
    }
