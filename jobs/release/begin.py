"""`marquee release begin`: names tonight's candidate from everything that it will be built from."""

import logging
import shutil
from pathlib import Path
from typing import Any

from contracts import durable
from contracts.errors import MarqueeError, UsageError
from contracts.marts import tag_name
from contracts.release import PROVENANCE, Provenance, Refresh, State, file_entry, release_id
from contracts.settings import REPOSITORY, Settings
from contracts.tags import TagRecord, tag_file, training_file
from jobs import runtime
from jobs.recipes import Recipe
from jobs.release import files, inputs, retraining
from ledger import open_ledger

log = logging.getLogger("marquee")


def run(settings: Settings, ds: str, recipe: Recipe) -> dict[str, Any]:
    """Writes `provenance.json` and enters the release in the ledger; a rerun finds itself, whatever became of it. Where
    the night was decided to be an index refresh, the models of its base are copied too.

    UsageError where the tag or the training set of `ds` is not there yet; MarqueeError where the base is torn.
    """
    runtime.require_free_disk(settings)
    tag = _record(settings, tag_file(tag_name(ds)), "warehouse", ds)
    training = _record(settings, training_file(tag_name(ds)), "examples", ds)
    ledger = open_ledger(settings)
    decision = ledger.decision(ds)
    refresh = retraining.refreshed(settings, decision.base) if decision and decision.base else None
    found = name(settings, ds, tag, training, recipe, refresh)
    known = ledger.get(found.release_id)
    if known is None or known.state in (State.BUILDING, State.FAILED):
        _write(settings.releases / found.release_id, found)
        keep_models(settings.releases / found.release_id, found, settings.releases)
    row = ledger.begin(found.release_id, ds, actor="begin")
    return {"release_id": row.release_id, "day": ds, "state": row.state, "code": found.code, "recipe": recipe.name,
            "refresh_of": refresh and refresh.of}


def name(
    settings: Settings, ds: str, tag: TagRecord, training: TagRecord, recipe: Recipe, refresh: Refresh | None = None
) -> Provenance:
    """The provenance, and in it the release id, of tonight's inputs. Snapshot ids are left out of the id: landing the
    same day into a fresh lake gives the same release."""
    code, libraries, device = inputs.code_hash(REPOSITORY), inputs.library_versions(), inputs.device_kind(settings.device)
    identity = {
        "day": ds,
        "interval": [str(tag.first), str(tag.last)],
        "has_impressions": tag.has_impressions,
        "marts": {name: version.logical_hash for name, version in tag.tables.items()},
        "training": {name: version.logical_hash for name, version in training.tables.items()},
        "code": code,
        "recipe": recipe.as_inputs(),
        "libraries": libraries,
        "threads": settings.threads,
        "device": device,
    } | ({"refresh": refresh.model_dump(mode="json")} if refresh else {})
    return Provenance(release_id=release_id(ds, identity), day=ds, tag=tag, training=training, code=code,
                      recipe=recipe.as_inputs(), seed=recipe.towers.seed, libraries=libraries, threads=settings.threads,
                      device=device, refresh=refresh)


def keep_models(folder: Path, found: Provenance, releases: Path) -> None:
    """A refresh's models in `folder`, copied from its base byte by byte; those that are there already stay. MarqueeError where a
    copy is not what the provenance says."""
    if found.refresh is None:
        return
    for model, sha256 in found.refresh.models.items():
        path, source = folder / model, releases / found.refresh.of / model
        if path.is_file() and file_entry(path).sha256 == sha256:
            continue
        aside = path.with_name(f".{path.name}.new")
        shutil.copyfile(source, aside)
        if file_entry(aside).sha256 != sha256:
            raise MarqueeError(f"{source} is not the model that release {found.release_id} refreshes: decide the night anew")
        durable.publish(aside, path)


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
