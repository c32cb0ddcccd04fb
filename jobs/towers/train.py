"""`marquee towers`: plays at the release's lake tag -> query_tower.onnx and item_tower.onnx in the release folder."""

import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts import durable
from contracts.content import Content, content_matrix, in_force
from contracts.errors import MarqueeError, UsageError
from contracts.marts import tag_name
from contracts.query import DEVICES, Profile, profile_features
from contracts.release import ITEM_TOWER, PROVENANCE, QUERY_TOWER, Provenance, canonical, digest, file_entry
from contracts.settings import Settings
from contracts.split import TimeSplit
from jobs import receipts, text
from jobs.runtime import log, progress_visible, require_free_disk
from jobs.towers.config import TowersConfig
from jobs.towers.dataset import MICROSECONDS, UNKNOWN_DEVICE, Plays, ProfileVersions

MARKER = "towers.json"
CHECKPOINT = "towers.pt"
"""Beside the marker while a training runs; the release's id stands for data and code."""
HOLDOUT_SHARES = 0.02, 0.2
"""At least and at most this share of the labels is held out, however empty the last block or short the history."""

PLAY_COLUMNS = ("event_id", "profile_id", "title_id", "event_time", "known_at", "completion", "rating", "engaged", "device")
PROFILE_COLUMNS = ("profile_id", "known_at", "market", "household_id", "is_kids", "maturity_limit", "preferred_genres",
                   "language", "attributes")
TITLE_COLUMNS = ("title_id", "known_at", "valid_from", "name", "kind", "synopsis", "genres", "credits", "language",
                 "year", "runtime_minutes", "maturity", "series_id")


def run(settings: Settings, release_id: str, config: TowersConfig, force: bool = False) -> dict:
    """Trains both towers of a release, unless they are there already for this configuration (or `force`).

    Raises UsageError where the release was not begun, MarqueeError where there is nothing to learn from or ONNX and
    torch disagree.
    """
    folder = settings.releases / release_id
    provenance = read_provenance(folder)
    if provenance.refresh:
        return _kept(folder, provenance)
    marker = settings.work / release_id / MARKER
    done = None if force else _finished(marker, folder, config)
    if done:
        receipts.write(settings, release_id, "towers", (QUERY_TOWER, ITEM_TOWER))
        return done | {"skipped": True}
    require_free_disk(settings)

    from jobs.towers.export import export
    from jobs.towers.fit import Trainer, choose_device, low_precision
    from jobs.towers.progress import Checkpoint

    data, encoder = training_data(settings, provenance, config)
    log.info("towers: %d plays of %d titles", len(data.plays), len(data.title_ids))
    device = choose_device(settings.device)
    begin = time.monotonic()
    named = {"config": asdict(config), "device": device.type, "threads": settings.threads}
    checkpoint = Checkpoint(marker.with_name(CHECKPOINT), digest(named))
    if force:
        checkpoint.done()
    fitted = Trainer(data, config, device, settings.threads).run(_watch, checkpoint)
    trained = time.monotonic() - begin
    differences = export(fitted.towers, fitted.id_titles, config, folder, encoder)
    result = {
        "release_id": release_id, "plays": len(data.plays), "titles": len(data.title_ids),
        "id_titles": len(fitted.id_titles), "labels": fitted.labels, "validation_labels": fitted.validation_labels,
        "epochs": config.epochs, "best_epoch": fitted.best + 1, "loss": fitted.curve[fitted.best].loss,
        "recall": fitted.curve[fitted.best].recall, "recall_at": config.recall_at,
        "popularity_recall": fitted.popularity_recall, "parity": differences, "device": device.type,
        "precision": "bfloat16" if low_precision(config, device) else "float32", "training_seconds": round(trained, 1),
    }
    files = {name: file_entry(folder / name).sha256 for name in (QUERY_TOWER, ITEM_TOWER)}
    receipts.write(settings, release_id, "towers", (QUERY_TOWER, ITEM_TOWER))
    _write_marker(marker, {"config": digest(asdict(config)), "files": files, "result": result})
    checkpoint.done()
    from jobs.towers.tracking import record

    result["mlflow_run"] = record(
        settings, release_id, {**asdict(config), "device": device.type, "precision": result["precision"], "threads": settings.threads},
        {"lake_tag": tag_name(provenance.tag.ds), "code": provenance.code}, [asdict(point) for point in fitted.curve],
        {"popularity_recall": fitted.popularity_recall, "best_epoch": fitted.best + 1, "training_seconds": trained},
        [folder / QUERY_TOWER, folder / ITEM_TOWER],
    )
    return result


def _kept(folder: Path, provenance: Provenance) -> dict:
    """An index refresh trains nothing. Raises MarqueeError where its towers are not those of its base."""
    wrong = [name for name in (QUERY_TOWER, ITEM_TOWER)
             if not (folder / name).is_file() or file_entry(folder / name).sha256 != provenance.refresh.models.get(name)]
    if wrong:
        raise MarqueeError(f"{folder}: {', '.join(wrong)} are not those of {provenance.refresh.of}: run `marquee release begin` again")
    log.info("towers: kept from release %s, trained on %s", provenance.refresh.of, provenance.trained_day)
    return {"release_id": provenance.release_id, "kept_from": provenance.refresh.of, "trained_day": provenance.trained_day}


def read_provenance(folder: Path) -> Provenance:
    """Raises UsageError where the release was never begun."""
    try:
        return Provenance.model_validate_json((folder / PROVENANCE).read_text())
    except FileNotFoundError as error:
        raise UsageError(f"no release at {folder}: run `marquee release begin --ds <night>` first") from error


def training_data(settings: Settings, provenance: Provenance, config: TowersConfig):
    """Everything known and done before the retriever's end, in arrays, and the text encoder that learnt from it. Raises
    UsageError where the text encoder is not to be had."""
    from jobs.lake.read import table
    from jobs.towers.fit import TrainingData

    tag, split = tag_name(provenance.tag.ds), provenance.tag.split
    before = f"known_at < '{split.retriever_end.isoformat()}'"
    titles = table(settings, "marts.dim_title_version", tag, TITLE_COLUMNS, before)
    profiles = table(settings, "marts.dim_profile_version", tag, PROFILE_COLUMNS, before)
    plays = table(settings, "marts.fct_play", tag, PLAY_COLUMNS,
                  f"{before} and event_time < '{split.retriever_end.isoformat()}'")
    title_ids, contents = catalogue(titles, split.retriever_end)
    plays_E, versions = arrays(plays, profiles, title_ids)
    encoder = text.fit(config.text_encoder, [content.text for content in contents])
    return TrainingData.until(title_ids, content_matrix(contents, encoder), plays_E, versions, holdout_start(plays_E, split)), encoder


def catalogue(titles: pa.Table, at: datetime) -> tuple[list[str], list[Content]]:
    """The version of each title that holds at the end of what is learned from, sorted by title id."""
    chosen = in_force(titles.to_pylist(), at)
    return list(chosen), [Content.of(row) for row in chosen.values()]


def arrays(plays: pa.Table, profiles: pa.Table, title_ids: list[str]) -> tuple[Plays, ProfileVersions]:
    """Lake rows as sorted arrays; plays of titles outside the catalogue are left out, as serving leaves them out."""
    known_title = pc.is_in(plays["title_id"], pa.array(title_ids, pa.string()))
    dropped = len(plays) - (pc.sum(known_title).as_py() or 0)
    if dropped:
        log.warning("towers: %d plays of titles that were not known yet are left out", dropped)
    plays = plays.filter(known_title).sort_by([(name, "ascending") for name in ("profile_id", "event_time", "event_id")])
    everyone = pa.array(pc.unique(plays["profile_id"]).to_pylist(), pa.string())
    profile = _codes(plays["profile_id"], everyone)
    play_arrays = Plays(
        profile=profile,
        title=_codes(plays["title_id"], pa.array(title_ids, pa.string())),
        time=_micros(plays["event_time"]),
        known=_micros(plays["known_at"]),
        completion=_floats(plays["completion"]),
        rating=_floats(plays["rating"]),
        engaged=pc.fill_null(plays["engaged"], False).to_numpy(),
        device=pc.fill_null(pc.index_in(plays["device"], pa.array(DEVICES)), UNKNOWN_DEVICE).to_numpy().astype(np.int64),
    )
    watching = pc.is_in(profiles["profile_id"], everyone)
    profiles = profiles.filter(watching).sort_by([("profile_id", "ascending"), ("known_at", "ascending")])
    features = [profile_features(profile_of(row)) for row in profiles.to_pylist()]
    features.append(profile_features(Profile("", "")))
    return play_arrays, ProfileVersions(_codes(profiles["profile_id"], everyone), _micros(profiles["known_at"]), np.stack(features))


def profile_of(row: dict) -> Profile:
    """A row of dim_profile_version as the contract's profile; nulls keep the contract's defaults."""
    names = ("profile_id", "market", "household_id", "is_kids", "maturity_limit", "preferred_genres", "language", "attributes")
    given = {name: row[name] for name in names if row.get(name) is not None}
    return Profile(**({"market": ""} | given))


def holdout_start(plays: Plays, split: TimeSplit) -> int:
    """Epoch microseconds: the last block before the retriever's end, or what HOLDOUT_SHARES make of it."""
    block = _micro(split.retriever_end - split.block)
    labels = np.sort(plays.time[plays.engaged])
    if not len(labels):
        return block
    latest, earliest = (int(labels[int((1 - share) * (len(labels) - 1))]) for share in HOLDOUT_SHARES)
    return min(max(block, earliest), latest)


def _micro(moment: datetime) -> int:
    return int(moment.timestamp()) * MICROSECONDS


def _codes(column, values) -> np.ndarray:
    return pc.index_in(column, values).to_numpy().astype(np.int64)


def _micros(column) -> np.ndarray:
    return column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()


def _floats(column) -> np.ndarray:
    return pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()


def _finished(marker: Path, folder: Path, config: TowersConfig) -> dict | None:
    """The result of an earlier run whose configuration and files are these; None where there is none."""
    try:
        said = json.loads(marker.read_text())
        same = said["config"] == digest(asdict(config)) and all(
            file_entry(folder / name).sha256 == sha for name, sha in said["files"].items())
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return said["result"] if same else None


def _write_marker(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, canonical(content))


def _watch(steps: Iterable, what: str) -> Iterable:
    """A progress bar where a person watches."""
    if not progress_visible():
        return steps
    from rich.console import Console
    from rich.progress import track

    return track(list(steps), description=f"towers {what}", console=Console(stderr=True), transient=True)
