"""Candidates of requests, with the product's own ranking features (contracts/features.py, jobs/ranker/pool.py).

What a file of interactions does not say is unknown (NaN): plays by day, completion, impressions, age. Of plays there is one
count, of everything that the towers learnt from: equally old wherever the ranker learns and is asked.

Shape suffixes: Q requests, T titles, K candidates.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from bench.retrieval import baselines
from bench.retrieval.data import Dataset
from bench.retrieval.evaluate import SCORES_AT_ONCE, Scores
from bench.retrieval.requests import Requests
from contracts.features import Asker, Candidates, history_facts
from contracts.marts import TITLE_FEATURES
from contracts.query import Context, Profile
from jobs.index.config import IndexConfig
from jobs.ranker.pool import TRANSITION_NEIGHBOURS, Pool, Request

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TASTE_EVENTS = 200
"""Newest plays whose genres are the profile's; as many as serving's history keeps."""


@dataclass(frozen=True)
class Retrieved:
    """What retrieval says of some requests, before the ranker."""

    data: Dataset
    requests: Requests
    towers: Scores
    transitions: Scores
    cowatch: Scores
    size: int  # of a pool

    @classmethod
    def of(cls, data: Dataset, requests: Requests, towers: Scores, ordered: bool, size: int) -> "Retrieved":
        followers_TT, together_TT = baselines.knn_table(data, requests.learns, ordered), baselines.cowatch_table(data, requests.learns, IndexConfig())
        return cls(data, requests, towers, baselines.knn(data, requests, followers_TT, ordered),
                   baselines.cowatch(data, requests, together_TT, ordered), size)

    def pools(self, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Pool]]:
        """(T,) tower scores and pool of each request: the best unseen titles, and those that others watched next."""
        columns = _title_columns(self.data, self.requests.learns)
        for batch in self.requests.batches(rows, SCORES_AT_ONCE):
            yield from self._pools(batch, columns)

    def _pools(self, rows: np.ndarray, columns: dict[str, np.ndarray]) -> Iterator[tuple[np.ndarray, Pool]]:
        seen, relevant = self.requests.seen(rows), self.requests.relevant(rows)
        scores_QT, votes_QT, together_QT = np.array(self.towers(rows), np.float32), self.transitions(rows), self.cowatch(rows)
        hidden_QT = np.zeros(scores_QT.shape, bool)
        hidden_QT[seen.request, seen.title] = True
        wanted = np.split(relevant.title, np.searchsorted(relevant.request, np.arange(1, len(rows))))
        for row, scores_T, votes_T, together_T, hidden_T, titles in zip(rows, scores_QT, votes_QT, together_QT, hidden_QT, wanted, strict=True):
            rows_K = _best(scores_T, votes_T, hidden_T, self.size)
            yield scores_T, self._pool(int(row), rows_K, (scores_T, votes_T, together_T), titles, columns)

    def _pool(self, row: int, rows_K: np.ndarray, scores: tuple[np.ndarray, ...], wanted: np.ndarray, columns: dict) -> Pool:
        data, contents = self.data, self.data.contents
        ids = [data.title_ids[title] for title in rows_K]
        profile_id = data.profile_ids[data.profile[self.requests.first[row]]]
        known = [contents[title] for title in rows_K] if contents else []
        request = Request(profile_id, data.people.get(profile_id, Profile(profile_id, "")), Context(self._moment(row)), {},
                          {data.title_ids[title]: 1 for title in wanted})
        return Pool(request, self._asker(row, request), rows_K, Candidates(
            ids, *(scores_T[rows_K] for scores_T in scores), {name: values_T[rows_K] for name, values_T in columns.items()},
            [c.genres for c in known] or [()] * len(ids), [c.language for c in known] or [""] * len(ids),
            [c.series_id for c in known] or [""] * len(ids),
        ))

    def _moment(self, row: int) -> datetime:
        asked = self.data.seconds[self.requests.first[row] + self.requests.length[row]]
        return EPOCH + timedelta(seconds=float(asked)) if self.data.timed else EPOCH

    def _asker(self, row: int, request: Request) -> Asker:
        newest = self.data.title[self.requests.history(row)][-TASTE_EVENTS:]
        aggregates: dict[str, object] = {"plays_30d": len(newest)}
        if not self.data.contents:
            return Asker(request.profile, request.context, aggregates)
        history = [self.data.contents[title] for title in newest]
        counts = Counter(genre for content in history for genre in content.genres)
        aggregates["top_genres_30d"] = list(counts)
        aggregates["top_genre_shares_30d"] = [count / counts.total() for count in counts.values()]
        genres, series = ({c.title_id: getattr(c, name) for c in history} for name in ("genres", "series_id"))
        return Asker(request.profile, request.context, aggregates, *history_facts([c.title_id for c in history], genres, series))


def _best(scores_T: np.ndarray, votes_T: np.ndarray, hidden_T: np.ndarray, size: int) -> np.ndarray:
    """Rows of the best unseen titles by towers and by transitions, best by towers first."""
    rows = np.flatnonzero(~hidden_T)
    if len(rows) > size:
        nearest = rows[np.argpartition(-scores_T[rows], size)[:size]]
        voted = rows[votes_T[rows] > 0]
        followers = voted[np.argsort(-votes_T[voted], kind="stable")[:TRANSITION_NEIGHBOURS]]
        rows = np.union1d(nearest, followers)
    return rows[np.argsort(-scores_T[rows], kind="stable")]


def _title_columns(data: Dataset, learns_E: np.ndarray) -> dict[str, np.ndarray]:
    """(T,) of each title feature; NaN where the file does not say."""
    titles = len(data.title_ids)
    unknown = np.full(titles, np.nan)
    columns = {name: unknown for name in (*TITLE_FEATURES, "year", "runtime_minutes", "maturity", "age_days")}
    columns["plays_30d"] = np.bincount(data.title[learns_E], minlength=titles).astype(float)
    rated = learns_E & np.isfinite(data.rating)
    if rated.any():
        with np.errstate(invalid="ignore"):
            columns["rating_mean"] = np.bincount(data.title[rated], data.rating[rated], titles) / np.bincount(data.title[rated], minlength=titles)
    for name in ("year", "runtime_minutes", "maturity") if data.contents else ():
        columns[name] = np.array([getattr(content, name) for content in data.contents], float)
    return columns
