"""The candidates of a request, as serving would retrieve them: eligible, not yet watched, best by the query tower.

Shape suffixes: B requests of a batch, T titles, D vector width, K candidates, R ranking features.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

from contracts import release as names
from contracts.features import Asker, Candidates, history_facts, ranking_features
from contracts.marts import PROFILE_FEATURES
from contracts.neighbours import NeighbourTable, cowatch_scores, transition_scores
from contracts.query import QUERY_INPUTS, QUERY_OUTPUT, Context, History, Profile, query_inputs
from jobs.ranker.asof import EligibleAsOf, Plays, TitleFeaturesAsOf, floats, microseconds

BATCH = 64

TRANSITION_NEIGHBOURS = 50
"""As many as serving adds to what the vector search finds."""


@dataclass(frozen=True)
class Catalogue:
    """The release's titles, in the order of its item vectors."""

    title_ids: np.ndarray  # (T,) object
    index: Mapping[str, int]
    vectors_TD: np.ndarray
    genres: Sequence[Sequence[str]]
    language: Sequence[str]
    series: Sequence[str]
    columns: Mapping[str, np.ndarray]  # year, runtime_minutes, maturity: (T,) NaN unknown
    launched: np.ndarray  # (T,) epoch seconds, NaN unknown
    genres_of: Mapping[str, Sequence[str]]
    series_of: Mapping[str, str]

    @classmethod
    def load(cls, folder: Path) -> "Catalogue":
        titles = pq.read_table(folder / names.TITLES)
        ids = titles["title_id"].to_pylist()
        genres = [value or [] for value in titles["genres"].to_pylist()]
        series = [value or "" for value in titles["series_id"].to_pylist()]
        launched = microseconds(titles["launched_at"], missing=-1).astype(np.float64)
        return cls(
            np.array(ids, dtype=object), {title: i for i, title in enumerate(ids)},
            np.load(folder / names.ITEM_VECTORS), genres, [value or "" for value in titles["language"].to_pylist()], series,
            {name: floats(titles[name]) for name in ("year", "runtime_minutes", "maturity")},
            np.where(launched < 0, np.nan, launched / 1e6), dict(zip(ids, genres)), dict(zip(ids, series)),
        )


@dataclass(frozen=True)
class QueryTower:
    """The release's own ONNX query tower; the same thread count gives the same bytes."""

    session: onnxruntime.InferenceSession
    history_length: int

    @classmethod
    def load(cls, path: Path, threads: int, default_length: int) -> "QueryTower":
        """`default_length` holds where the graph leaves the history's length open."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # cores are shared
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        shape = next(i.shape for i in session.get_inputs() if i.name == QUERY_INPUTS[0])
        return cls(session, shape[1] if isinstance(shape[1], int) else default_length)

    def queries(self, inputs: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """(B,D) of B single-request inputs."""
        stacked = {name: np.concatenate([one[name] for one in inputs]) for name in QUERY_INPUTS}
        return self.session.run([QUERY_OUTPUT], stacked)[0]


@dataclass(frozen=True)
class Request:
    """One row of training.requests."""

    request_id: str
    profile: Profile
    context: Context
    aggregates: Mapping[str, object]
    relevant: Mapping[str, int]

    @property
    def at(self) -> int:
        """Microseconds since the epoch."""
        return round(self.context.moment.timestamp() * 1_000_000)


def requests_from(table: pa.Table) -> list[Request]:
    """training.requests as objects, sorted by request id."""
    rows = sorted(table.to_pylist(), key=lambda row: row["request_id"])
    return [
        Request(
            row["request_id"],
            Profile(row["profile_id"], row["market"] or "", "", bool(row["is_kids"]), row["maturity_limit"] or 0,
                    row["preferred_genres"] or (), row["language"] or "", row["attributes"] or ()),
            Context(_utc(row["event_time"]), row["device"] or "", row["surface"] or "home"),
            {name: row[name] for name in PROFILE_FEATURES} | {"last_play_at": _utc(row["last_play_at"])},
            dict(zip(row["relevant_titles"] or (), row["relevant_gains"] or ())),
        )
        for row in rows
    ]


def _utc(moment: datetime | None) -> datetime | None:
    """A moment without a zone is UTC, as everywhere."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


@dataclass(frozen=True)
class Pool:
    """The candidates of one request, best retrieved first."""

    request: Request
    asker: Asker
    rows_K: np.ndarray  # rows of the catalogue
    candidates: Candidates

    def gains(self) -> np.ndarray:
        """(K,) int64: how much each candidate was engaged with, 0..3."""
        return np.array([self.request.relevant.get(title, 0) for title in self.candidates.title_ids], np.int64)

    def features(self) -> np.ndarray:
        """(K,R) as serving computes them."""
        return ranking_features(self.asker, self.candidates)


@dataclass(frozen=True)
class Pools:
    """Everything that retrieval at a past moment needs."""

    catalogue: Catalogue
    tower: QueryTower
    eligible: EligibleAsOf
    counts: TitleFeaturesAsOf
    counts_lag: timedelta
    plays: Plays
    transitions: NeighbourTable
    cowatch: NeighbourTable
    size: int

    def of(self, requests: Sequence[Request]) -> Iterator[Pool]:
        """The pool of each request that has an eligible title."""
        for start in range(0, len(requests), BATCH):
            batch = requests[start : start + BATCH]
            past = [self.plays.before(request.profile.profile_id, request.at) for request in batch]
            inputs = [self._inputs(request, history) for request, (history, _) in zip(batch, past)]
            scores_BT = self.tower.queries(inputs) @ self.catalogue.vectors_TD.T
            for request, (history, watched), scores_T in zip(batch, past, scores_BT):
                rows_K = self._best(request, history, watched, scores_T)
                if len(rows_K):
                    yield self._pool(request, history, rows_K, scores_T[rows_K])

    def _inputs(self, request: Request, history: History) -> dict[str, np.ndarray]:
        index = self.catalogue.index
        keep = [i for i, title in enumerate(history.title_ids) if title in index][-self.tower.history_length :]
        known = History([history.title_ids[i] for i in keep], np.asarray(history.times)[keep],
                        np.asarray(history.completion)[keep], np.asarray(history.rating)[keep])
        vectors = self.catalogue.vectors_TD[[index[title] for title in known.title_ids]]
        return query_inputs(known, vectors, request.profile, request.context, self.tower.history_length)

    def _best(self, request: Request, history: History, watched: frozenset[str], scores_T: np.ndarray) -> np.ndarray:
        """Rows of the nearest allowed titles, and of allowed ones that others watched next, best retrieved first."""
        allowed = self.eligible.mask(request.profile.market, request.profile.maturity_limit, request.at)
        allowed[self._rows(watched)] = False
        rows = np.flatnonzero(allowed)
        if len(rows) > self.size:
            nearest = rows[np.argpartition(-scores_T[rows], self.size)[: self.size]]
            followers = self._rows(self.transitions.top(history.title_ids, TRANSITION_NEIGHBOURS))
            rows = np.union1d(nearest, followers[allowed[followers]])
        return rows[np.argsort(-scores_T[rows], kind="stable")]

    def _rows(self, titles: Iterable[str]) -> np.ndarray:
        return np.array([self.catalogue.index[t] for t in titles if t in self.catalogue.index], np.int64)

    def _pool(self, request: Request, history: History, rows_K: np.ndarray, scores_K: np.ndarray) -> Pool:
        catalogue = self.catalogue
        titles = list(catalogue.title_ids[rows_K])
        moment = request.context.moment
        columns = self.counts.at(rows_K, request.at - round(self.counts_lag.total_seconds() * 1_000_000))
        columns |= {name: values[rows_K] for name, values in catalogue.columns.items()}
        columns["age_days"] = (moment.timestamp() - catalogue.launched[rows_K]) / 86400.0
        last_genres, series = history_facts(history.title_ids, catalogue.genres_of, catalogue.series_of)
        return Pool(
            request, Asker(request.profile, request.context, request.aggregates, last_genres, series), rows_K,
            Candidates(
                titles, scores_K, transition_scores(history.title_ids, titles, self.transitions),
                cowatch_scores(history.title_ids, titles, self.cowatch), columns,
                [catalogue.genres[i] for i in rows_K], [catalogue.language[i] for i in rows_K],
                [catalogue.series[i] for i in rows_K],
            ),
        )
