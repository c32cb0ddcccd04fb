"""Hydrate: who is asking. Two sources of the same member: Feast's online rows, and in shadow mode a folder that the
judge wrote, read as of a moment.
"""

import logging
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.errors import UsageError
from contracts.marts import PROFILE_FEATURES
from contracts.query import History, Profile
from contracts.settings import Settings
from serving.member import Ask, Member, strictest_known

log = logging.getLogger("marquee.serving")

NEWEST_PLAYS = 200
"""As many as profile_history keeps."""

REFRESH_SECONDS = 20.0
"""Well below the registry's own time to live (feature_repo.store.REGISTRY_SECONDS)."""
RETRY_SECONDS = 1.0
FIRST_TRY_SECONDS = 5.0

PROFILES, PLAYS = "profiles.parquet", "plays.parquet"


class Hydrator(Protocol):
    def start(self) -> None: ...

    def hydrate(self, ask: Ask) -> Member:
        """The member at `ask.moment`; a profile without rows is not `known`. Raises what its source raises."""

    def close(self) -> None: ...


class FeastHydrator:
    """Feast's online rows of one profile, in one read. A thread opens the store and keeps its copy of the registry
    young: whoever reads with one that is too old waits for the registry's database."""

    def __init__(self, settings: Settings, budget_seconds: float):
        from feature_repo.feature_services import ONLINE_REFERENCES
        from feature_repo.feature_views import VALIDITY
        from feature_repo.store import open_store

        self._open = lambda: open_store(settings, offline=False)
        self._references, self._validity, self._budget = ONLINE_REFERENCES, VALIDITY, budget_seconds
        self._store: Any = None
        self._readers = ThreadPoolExecutor(4, "feast")
        self._stop, self._tried = Event(), Event()
        self._keeper = Thread(target=self._keep, name="feast-registry", daemon=True)

    def start(self) -> None:
        """Waits a little for the first attempt, so that the first members are not hydrated too late."""
        self._keeper.start()
        self._tried.wait(FIRST_TRY_SECONDS)

    def hydrate(self, ask: Ask) -> Member:
        """Raises TimeoutError where the store takes longer than the budget."""
        row = self._readers.submit(self._read, ask.profile_id).result(self._budget)
        return member_of(row, ask, self._validity)

    def close(self) -> None:
        self._stop.set()
        self._readers.shutdown(wait=False, cancel_futures=True)

    def refresh(self) -> None:
        """Opens the store where it is not, reads the registry and one row, so that no request need."""
        if self._store is None:
            self._store = self._open()
        self._store.refresh_registry()
        self._read("")

    def _keep(self) -> None:
        said = ""
        while not self._stop.is_set():
            try:
                self.refresh()
                error = ""
            except Exception as failure:
                error = f"{type(failure).__name__}: {failure}"
            if error and error != said:
                log.warning("the feature store does not answer: %s", error)
            said = error
            self._tried.set()
            self._stop.wait(RETRY_SECONDS if error else REFRESH_SECONDS)

    def _read(self, profile_id: str) -> dict[str, Any]:
        if self._store is None:
            raise ConnectionError("the feature store is not open yet")
        found = self._store.get_online_features(self._references, [{"profile_id": profile_id}]).to_dict()
        return {name: values[0] for name, values in found.items()}


def member_of(row: Mapping[str, Any], ask: Ask, validity: timedelta) -> Member:
    """A member from one profile's online rows; Feast does not enforce a row's age, so it is checked here."""
    declared = row.get("market") is not None
    limit = ask.maturity_limit(row.get("maturity_limit") if declared else None)
    profile = Profile(
        profile_id=ask.profile_id, market=ask.market or row.get("market") or "",
        household_id=row.get("household_id") or "", is_kids=bool(row.get("is_kids")), maturity_limit=limit,
        preferred_genres=row.get("preferred_genres") or (), language=row.get("language") or "",
        attributes=row.get("attributes") or (),
    )
    titles = row.get("history_title_ids") or []
    history = History(titles, *(row.get(f"history_{name}") or [] for name in ("times", "completion", "rating")))
    stamp = row.get("profile_features_at")
    fresh = stamp is not None and as_utc(stamp) + validity >= ask.moment
    return Member(
        profile=profile, history=before(history, ask.moment), watched=frozenset(row.get("watched_title_ids") or ()),
        aggregates=_aggregates(row) if fresh else {}, known=declared or bool(titles),
    )


def before(history: History, moment: datetime) -> History:
    """The plays before a moment; the newest NEWEST_PLAYS of them."""
    end = int(np.searchsorted(np.asarray(history.times, np.float64), moment.timestamp(), side="left"))
    kept = slice(max(0, end - NEWEST_PLAYS), end)
    return History(history.title_ids[kept], history.times[kept], history.completion[kept], history.rating[kept])


def as_utc(moment: datetime) -> datetime:
    """Feast and Parquet hand out moments without a zone, in UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _aggregates(row: Mapping[str, Any]) -> dict[str, Any]:
    last_play = row.get("last_play_at")
    return {name: row.get(name) for name in PROFILE_FEATURES} | {"last_play_at": last_play and as_utc(last_play)}


class FolderHydrator:
    """The judge's member state: each profile's rows of training.requests, and plays with the time when each was known."""

    def __init__(self, folder: Path):
        profiles, plays = (_read_parquet(folder / name) for name in (PROFILES, PLAYS))
        self._rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in profiles.sort_by("event_time").to_pylist():
            self._rows[row["profile_id"]].append(row)
        self._plays = _by_profile(plays)

    def start(self) -> None: ...

    def hydrate(self, ask: Ask) -> Member:
        """The newest of the profile's rows at or before the moment, and the plays that had happened and were known."""
        rows = [row for row in self._rows.get(ask.profile_id, ()) if as_utc(row["event_time"]) <= ask.moment]
        history, watched = self._history(ask.profile_id, ask.moment.timestamp())
        if not rows:
            return Member(Profile(ask.profile_id, ask.market or ""), history, watched)
        row = rows[-1]
        profile = Profile(
            profile_id=ask.profile_id, market=row["market"] or "", is_kids=bool(row["is_kids"]),
            maturity_limit=strictest_known(row["maturity_limit"]), preferred_genres=row["preferred_genres"] or (),
            language=row["language"] or "", attributes=row["attributes"] or (),
        )
        return Member(profile, history, watched, _aggregates(row), known=True)

    def close(self) -> None: ...

    def _history(self, profile_id: str, moment: float) -> tuple[History, frozenset[str]]:
        plays = self._plays.get(profile_id)
        if plays is None:
            return History(), frozenset()
        then = np.flatnonzero((plays["event_time"] < moment) & (plays["known_at"] < moment))
        watched = frozenset(plays["title_id"][then[plays["engaged"][then]]].tolist())
        newest = then[-NEWEST_PLAYS:]
        columns = (plays[name][newest].tolist() for name in ("title_id", "event_time", "completion", "rating"))
        return History(*columns), watched


def _read_parquet(path: Path) -> pa.Table:
    if not path.is_file():
        raise UsageError(f"{path}: missing; the shadow server reads member state from this folder")
    return pq.read_table(path)


def _by_profile(plays: pa.Table) -> dict[str, dict[str, np.ndarray]]:
    """Each profile's plays as columns, oldest first (equal times in the file's order), times in epoch seconds."""
    columns = {
        "title_id": plays["title_id"].to_numpy(), "event_time": _seconds(plays["event_time"]),
        "known_at": _seconds(plays["known_at"]), "completion": _floats(plays["completion"]),
        "rating": _floats(plays["rating"]), "engaged": plays["engaged"].to_numpy().astype(bool),
    }
    names, codes = np.unique(np.asarray(plays["profile_id"].to_numpy(), str), return_inverse=True)
    order = np.lexsort((columns["event_time"], codes))
    starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
    return {
        str(name): {column: values[order[starts[i]:starts[i + 1]]] for column, values in columns.items()}
        for i, name in enumerate(names)
    }


def _seconds(column: pa.ChunkedArray) -> np.ndarray:
    return pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64()).to_numpy() / 1e6


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return pc.cast(column, pa.float64()).fill_null(float("nan")).to_numpy()
