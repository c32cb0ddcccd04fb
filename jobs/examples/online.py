"""The night's online rows: nothing goes where members see it before it was compared with what the live release was
trained beside. Either every view passes and is written, or yesterday's rows stay.
"""

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pandas as pd
import pyarrow as pa
from feast import FeatureStore

from contracts import durable
from contracts.errors import MarqueeError
from contracts.marts import FEATURE_SERVICE
from contracts.release import PROVENANCE, Provenance
from contracts.settings import Settings
from feature_repo.store import apply, open_store
from jobs import distribution, runtime
from jobs.distribution import LIMITS, Distribution, Limits
from jobs.examples.population import described, online_rows, profile_path
from jobs.lake import read
from ledger import ReleaseRow, open_ledger

CHUNK = 10_000
"""Profiles a write: one transaction on SQLite, one pipeline on Redis."""


def run(settings: Settings, ds: str, limits: Limits = LIMITS) -> dict:
    """Writes the newest row of every profile for each online view. Rerun, it writes the same rows; an older night
    than the one online is left alone (a backfill). Raises MarqueeError where the rows are unlike the live release's."""
    runtime.require_free_disk(settings)
    online = _materialised(settings)
    if online and date.fromisoformat(online) > date.fromisoformat(ds):
        return {"ds": ds, "written": {}, "note": f"night {online} is online already; an older night is not written"}
    rows = online_rows(settings, read.tag_record(settings, ds))
    release_id = _guard(settings, rows, limits)
    store = open_store(settings, offline=False)
    apply(store, always=True)
    _prepare(settings)
    written = {name: _write(store, name, table) for name, table in rows.items()}
    _mark(settings, ds)
    note = f"compared with live release {release_id}" if release_id else "no live release to compare with"
    return {"ds": ds, "written": written, "service": FEATURE_SERVICE, "compared_with": release_id, "note": note}


def _guard(settings: Settings, rows: dict[str, pa.Table], limits: Limits) -> str | None:
    """The live release that the rows were compared with; None where none is live. Raises MarqueeError on a breach."""
    reference = _live_distributions(settings)
    if reference is None:
        return None
    release_id, was = reference
    now = described(rows, was)
    found = [breach for name in was for breach in distribution.breaches(name, was[name], now[name], limits)]
    if found:
        raise MarqueeError(
            f"online rows kept as they were: {len(found)} features are unlike what release {release_id} was trained on: "
            + "; ".join(map(str, found[:8])))
    return release_id


def _live_distributions(settings: Settings) -> tuple[str, dict[str, Distribution]] | None:
    ledger = open_ledger(settings)
    pointer = ledger.pointer()
    if pointer is None or pointer.release_id is None:
        return None
    day = _trained_day(settings, ledger.get(pointer.release_id))
    path = profile_path(settings, day)
    try:
        return pointer.release_id, distribution.load(path)
    except FileNotFoundError as error:
        raise MarqueeError(
            f"online rows kept as they were: live release {pointer.release_id} has no {path.name} to compare with; "
            f"run `marquee examples --ds {day}`") from error


def _trained_day(settings: Settings, release: ReleaseRow) -> str:
    """The night whose rows the release's models were trained beside; an index refresh has those of an earlier one."""
    path = settings.releases / release.release_id / PROVENANCE
    return Provenance.model_validate_json(path.read_text()).trained_day if path.is_file() else release.day


def _write(store: FeatureStore, view: str, table: pa.Table) -> int:
    for frame in _chunks(table):
        store.write_to_online_store(view, frame)
    return table.num_rows


def _chunks(table: pa.Table) -> Iterator[pd.DataFrame]:
    """Lists are NumPy arrays here, in which NaN stays; of a Python list of nothing but NaN, Feast makes zeros."""
    for start in range(0, table.num_rows, CHUNK):
        yield table.slice(start, CHUNK).to_pandas()


def _prepare(settings: Settings) -> None:
    """Lets serving read SQLite while a chunk is written."""
    if settings.feast_redis:
        return
    import sqlite3

    with sqlite3.connect(settings.home / "feast" / "online.db") as database:
        database.execute("pragma journal_mode = wal")


def _marker(settings: Settings) -> Path:
    return settings.home / "feast" / "materialised.json"


def _materialised(settings: Settings) -> str | None:
    """The newest night that is online as a whole."""
    try:
        return json.loads(_marker(settings).read_text())["ds"]
    except FileNotFoundError:
        return None


def _mark(settings: Settings, ds: str) -> None:
    durable.write(_marker(settings), json.dumps({"ds": ds}))
