"""What was known at a moment: eligible titles, title counts and histories, from the marts at the tag.

Times are int64 microseconds since the epoch, UTC. Shape suffixes: T titles of the release, K candidates, F title features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.marts import TITLE_FEATURES
from contracts.query import History

END_OF_TIME = np.iinfo(np.int64).max

NEWEST_PLAYS = 200
"""As many as serving's history keeps."""


def microseconds(column: pa.ChunkedArray, missing: int = END_OF_TIME) -> np.ndarray:
    """(N,) int64 of a timestamp column."""
    return column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).fill_null(missing).to_numpy()


def floats(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) float64, NaN for null."""
    return column.cast(pa.float64()).fill_null(np.nan).to_numpy()


def rows_of(column: pa.ChunkedArray, index: Mapping[str, int]) -> np.ndarray:
    """(N,) int64 row of each id, -1 where the index lacks it."""
    encoded = column.combine_chunks().dictionary_encode()
    rows = np.array([index.get(value, -1) for value in encoded.dictionary.to_pylist()], np.int64)
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    return np.where(codes >= 0, rows[codes], -1) if len(rows) else np.full(len(column), -1, np.int64)


@dataclass(frozen=True)
class EligibleAsOf:
    """Which titles a profile could be shown at a moment, by what was known at that moment."""

    count: int
    titles: tuple[np.ndarray, ...]  # row, maturity (NaN unknown), from, to: one entry per title version
    windows: Mapping[str, tuple[np.ndarray, ...]]  # market -> row, opens, closes, from, to: one per window version

    @classmethod
    def from_marts(cls, versions: pa.Table, licences: pa.Table, index: Mapping[str, int]) -> "EligibleAsOf":
        """From dim_title_version and dim_licence_window; titles outside `index` are left out."""
        rows = rows_of(versions["title_id"], index)
        known = np.maximum(microseconds(versions["known_at"]), microseconds(versions["valid_from"]))
        titles = (rows, floats(versions["maturity"]), known, microseconds(versions["valid_to"]))
        live = licences.filter(pc.invert(pc.fill_null(licences["revoked"], False)))
        columns = (rows_of(live["title_id"], index), microseconds(live["opens_at"]), microseconds(live["closes_at"]),
                   microseconds(live["known_at"]), microseconds(live["superseded_at"]))
        markets = np.array(live["market"].to_pylist(), dtype=object)
        windows = {}
        for market in sorted(set(markets)):
            here = (markets == market) & (columns[0] >= 0)
            windows[market] = tuple(column[here] for column in columns)
        inside = rows >= 0
        return cls(len(index), tuple(column[inside] for column in titles), windows)

    def mask(self, market: str, maturity_limit: int, at: int) -> np.ndarray:
        """(T,) bool; a title without a known maturity or an open window is not eligible."""
        suits, open_now = np.zeros(self.count, bool), np.zeros(self.count, bool)
        rows, maturity, since, until = self.titles
        suits[rows[(since <= at) & (at < until) & (maturity <= maturity_limit)]] = True
        if market in self.windows:
            rows, opens, closes, since, until = self.windows[market]
            open_now[rows[(opens <= at) & (at < closes) & (since <= at) & (at < until)]] = True
        return suits & open_now


@dataclass(frozen=True)
class TitleFeaturesAsOf:
    """Daily title counts, looked up as they were known at a moment."""

    keys: np.ndarray  # (N,2) title row and available_at, sorted
    values_NF: np.ndarray

    @classmethod
    def from_marts(cls, daily: pa.Table, index: Mapping[str, int]) -> "TitleFeaturesAsOf":
        """From feat_title_daily; a row is available once its window has ended and it was known."""
        rows = rows_of(daily["title_id"], index)
        available = np.maximum(microseconds(daily["feature_time"]), microseconds(daily["known_at"]))
        order = np.lexsort((microseconds(daily["feature_time"]), available, rows))
        order = order[rows[order] >= 0]
        values = np.stack([floats(daily[name]) for name in TITLE_FEATURES], axis=1)
        return cls(np.stack([rows, available], axis=1)[order], values[order])

    def at(self, rows_K: np.ndarray, moment: int) -> dict[str, np.ndarray]:
        """(K,) array per name of TITLE_FEATURES as of `moment` (included); NaN where nothing was known."""
        out_KF = np.full((len(rows_K), len(TITLE_FEATURES)), np.nan)
        if len(self.keys):
            starts = np.searchsorted(self.keys[:, 0], rows_K, "left")
            ends = np.searchsorted(self.keys[:, 0], rows_K, "right")
            known = np.concatenate([[0], np.cumsum(self.keys[:, 1] <= moment)])
            counts = known[ends] - known[starts]  # within a title, rows are in order of availability
            out_KF[counts > 0] = self.values_NF[(starts + counts - 1)[counts > 0]]
        return dict(zip(TITLE_FEATURES, out_KF.T, strict=True))


@dataclass(frozen=True)
class Plays:
    """The plays of many profiles, each profile's in order of (event_time, event_id)."""

    spans: Mapping[str, tuple[int, int]]
    title_ids: np.ndarray
    event_time: np.ndarray
    known_at: np.ndarray
    completion: np.ndarray
    rating: np.ndarray
    engaged: np.ndarray

    COLUMNS = ("profile_id", "title_id", "event_id", "event_time", "known_at", "completion", "rating", "engaged")

    @classmethod
    def from_marts(cls, plays: pa.Table, profiles: Sequence[str]) -> "Plays":
        """From fct_play, of the given profiles only."""
        mine = plays.filter(pc.is_in(plays["profile_id"], pa.array(sorted(set(profiles)), pa.string())))
        mine = mine.sort_by([("profile_id", "ascending"), ("event_time", "ascending"), ("event_id", "ascending")])
        ids = np.array(mine["profile_id"].to_pylist(), dtype=object)
        edges = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])) if len(ids) else np.zeros(0, np.int64)
        ends = np.append(edges[1:], len(ids))
        spans = {ids[start]: (int(start), int(end)) for start, end in zip(edges, ends)}
        return cls(spans, np.array(mine["title_id"].to_pylist(), dtype=object), microseconds(mine["event_time"]),
                   microseconds(mine["known_at"]), floats(mine["completion"]), floats(mine["rating"]),
                   mine["engaged"].fill_null(False).to_numpy(zero_copy_only=False).astype(bool))

    def before(self, profile_id: str, at: int) -> tuple[History, frozenset[str]]:
        """The newest history, oldest first, and every title engaged with: what happened and was known before `at`."""
        start, end = self.spans.get(profile_id, (0, 0))
        part = np.arange(start, end)
        part = part[(self.event_time[part] < at) & (self.known_at[part] < at)]
        watched = frozenset(self.title_ids[part[self.engaged[part]]])
        new = part[-NEWEST_PLAYS:]
        return History(list(self.title_ids[new]), self.event_time[new] / 1e6, self.completion[new], self.rating[new]), watched
