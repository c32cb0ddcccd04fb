"""A folder becomes a release in memory: verified against its digests, read into columns, warmed up.

Shape suffixes: N titles, D vector width.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnxruntime as ort
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from contracts import release as files
from contracts.content import epoch_seconds
from contracts.errors import MarqueeError
from contracts.features import Asker, Candidates, history_facts
from contracts.marts import TITLE_FEATURES
from contracts.neighbours import NO_NEIGHBOURS, NeighbourTable, cowatch_scores, transition_scores
from contracts.query import QUERY_INPUTS, QUERY_OUTPUT, Context, History, Profile, query_inputs
from contracts.release import Manifest, Payload, ReleaseSpec, evidence_digest, file_entry, payload_digest
from serving.score import Ranker, open_ranker

Model = TypeVar("Model", bound=BaseModel)
GENERAL, KIDS = "general", "kids"


class ReleaseError(MarqueeError):
    """A release folder that must not serve; the message names the file and what is wrong with it."""


@dataclass(frozen=True, eq=False)
class Titles:
    """titles.parquet as columns, and the overlay's titles after them; row i belongs to row i of the vectors."""

    ids: list[str]
    row: dict[str, int]
    names: list[str]
    genres: list[tuple[str, ...]]
    language: list[str]
    series_id: list[str]
    launched_N: np.ndarray  # epoch seconds, NaN unknown
    columns: dict[str, np.ndarray]  # (N,) float64, NaN unknown: TITLE_FEATURES, year, runtime_minutes, maturity

    @cached_property
    def genres_of(self) -> dict[str, tuple[str, ...]]:
        return dict(zip(self.ids, self.genres, strict=True))

    @cached_property
    def series_of(self) -> dict[str, str]:
        return dict(zip(self.ids, self.series_id, strict=True))

    def rows(self, title_ids: Iterable[str]) -> np.ndarray:
        """(K,) row numbers of those of the titles that the release has, in the given order."""
        return np.fromiter((row for t in title_ids if (row := self.row.get(t)) is not None), np.int64)

    def name(self, title_id: str) -> str:
        """What a person reads; a title that is newer than the release has only its id."""
        row = self.row.get(title_id)
        return title_id if row is None else self.names[row]


@dataclass(frozen=True, eq=False)
class Overlay:
    """Which rows did not come with the release's files (serving/overlay.py): those of titles that arrived since, from row
    `base` on in order of arrival, and those of titles that changed. The vector collection does not speak for `ids`."""

    seq: int
    base: int
    rows_O: np.ndarray  # (O,) int64, sorted
    ids: frozenset[str] = frozenset()
    hash_A: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint32))  # of the A titles that arrived
    last: tuple[str, int] | None = None  # title and its number, of record `seq`

    @property
    def changed(self) -> int:
        """How many of the release's own titles are in the overlay."""
        return len(self.rows_O) - len(self.hash_A)


@dataclass(frozen=True, eq=False)
class Release:
    """Everything that must agree at request time, read-only. A request holds one and ends on it."""

    spec: ReleaseSpec
    payload_digest: str
    evidence_digest: str | None  # None in shadow mode
    titles: Titles
    vectors_ND: np.ndarray
    tower: ort.InferenceSession
    ranker: Ranker
    transitions: NeighbourTable
    cowatch: NeighbourTable
    fallback: dict[tuple[str, str], list[str]]  # (market, cohort) -> title ids, best first
    overlay: Overlay

    @property
    def collections(self) -> dict[str, int]:
        """Its physical collections, and how many titles each must hold."""
        return dict.fromkeys(self.spec.collections, self.overlay.base)

    @property
    def release_id(self) -> str:
        return self.spec.release_id

    def query_D(self, history: History, profile: Profile, context: Context) -> np.ndarray:
        """(D,) float32 query vector from the newest events whose titles have a vector."""
        length = self.spec.history_length
        known = [i for i, title in enumerate(history.title_ids) if title in self.titles.row][-length:]
        seen = History(
            [history.title_ids[i] for i in known], [history.times[i] for i in known],
            [history.completion[i] for i in known], [history.rating[i] for i in known],
        )
        vectors = self.vectors_ND[self.titles.rows(seen.title_ids)]
        inputs = query_inputs(seen, vectors, profile, context, length)
        read = {given.name for given in self.tower.get_inputs()}
        return self.tower.run([QUERY_OUTPUT], {name: rows for name, rows in inputs.items() if name in read})[0][0]

    def scores_K(self, query_D: np.ndarray, rows_K: np.ndarray) -> np.ndarray:
        """(K,) float64 retrieval scores. Always from the release's own vectors, whoever found the candidates, so that
        a shelf does not depend on the search engine's arithmetic."""
        return np.einsum("kd,d->k", self.vectors_ND[rows_K].astype(np.float64), query_D.astype(np.float64))

    def candidates(self, rows_K: np.ndarray, retrieval_K: np.ndarray, history: History, at: int) -> Candidates:
        """The ranking function's view of K titles at `at` (epoch seconds), after a history."""
        titles = self.titles
        ids = [titles.ids[i] for i in rows_K]
        columns = {name: values[rows_K] for name, values in titles.columns.items()}
        columns["age_days"] = (at - titles.launched_N[rows_K]) / 86400.0
        return Candidates(
            title_ids=ids, retrieval_score=retrieval_K,
            transition_score=transition_scores(history.title_ids, ids, self.transitions),
            cowatch_score=cowatch_scores(history.title_ids, ids, self.cowatch),
            columns=columns, genres=[titles.genres[i] for i in rows_K],
            language=[titles.language[i] for i in rows_K], series_id=[titles.series_id[i] for i in rows_K],
        )

    def asker(self, profile: Profile, context: Context, history: History, aggregates) -> Asker:
        """The ranking function's view of who asks."""
        last_genres, series = history_facts(history.title_ids, self.titles.genres_of, self.titles.series_of)
        return Asker(profile=profile, context=context, aggregates=aggregates, last_genres=last_genres, series=series)


def load(folder: Path, judged: bool = True, threads: int = 1) -> Release:
    """The release in `folder`, all of it in memory: what becomes of the files afterwards changes nothing. `judged=False`
    (shadow mode) does without the manifest, which is written last.

    Raises ReleaseError where a file is missing, altered, or does not fit the others.
    """
    payload, evidence = _verified(folder, judged)
    spec = _read(ReleaseSpec, folder / files.SPEC)
    titles = _titles(folder / files.TITLES)
    vectors = np.load(folder / files.ITEM_VECTORS)
    if vectors.shape != (len(titles.ids), spec.dimension):
        raise ReleaseError(f"{folder / files.ITEM_VECTORS}: shape {vectors.shape}, expected {(len(titles.ids), spec.dimension)}")
    release = Release(
        spec=spec, payload_digest=payload.payload_digest, evidence_digest=evidence, titles=titles, vectors_ND=vectors,
        tower=_tower(folder / files.QUERY_TOWER, threads),
        ranker=open_ranker(spec.ranker, folder / files.RANKER),
        transitions=_neighbours(folder, files.TRANSITIONS, payload), cowatch=_neighbours(folder, files.COWATCH, payload),
        fallback=_fallback(folder / files.FALLBACK),
        overlay=Overlay(0, len(titles.ids), np.zeros(0, np.int64)),
    )
    _warm_up(release)
    return release


def _verified(folder: Path, judged: bool) -> Payload:
    """payload.json and the evidence digest, after every file it names was found as it says, and the manifest says the same."""
    payload = _read(Payload, folder / files.PAYLOAD)
    _check_files(folder, payload.files)
    if payload_digest(payload.files) != payload.payload_digest:
        raise ReleaseError(f"{folder / files.PAYLOAD}: payload_digest does not cover its files")
    manifest = None
    if judged:
        path = folder / files.MANIFEST
        manifest = _read(Manifest, path)
        if manifest.payload != payload:
            raise ReleaseError(f"{path}: speaks of another payload than {files.PAYLOAD}")
        if evidence_digest(manifest.evidence, payload.payload_digest, manifest.compared_with) != manifest.evidence_digest:
            raise ReleaseError(f"{path}: evidence_digest does not cover what it names")
    return payload, manifest and manifest.evidence_digest


def as_entered(release: Release, payload_digest: str | None, evidence_digest: str | None) -> Release:
    """The release, where its digests are those that the ledger has (None: it has none yet). A folder that agrees with
    itself may be a copy of other files than were approved."""
    entered = {"payload": (payload_digest, release.payload_digest), "evidence": (evidence_digest, release.evidence_digest)}
    for name, (said, there) in entered.items():
        if said and said != there:
            raise ReleaseError(f"{release.release_id}: its {name} digest is not the ledger's: these are other files than were approved")
    return release


def _check_files(folder: Path, entries: dict[str, files.FileEntry]) -> None:
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            raise ReleaseError(f"{path}: missing")
        if file_entry(path) != entry:
            raise ReleaseError(f"{path}: is not what {files.PAYLOAD} says (size or SHA-256 differ)")


def _read(model: type[Model], path: Path) -> Model:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ReleaseError(f"{path}: missing") from None
    except ValidationError as error:
        raise ReleaseError(f"{path}: {error.error_count()} wrong fields, first {error.errors()[0]['loc']}") from error


def _titles(path: Path) -> Titles:
    table = pq.read_table(path)
    ids = table["title_id"].to_pylist()
    names = (*TITLE_FEATURES, "year", "runtime_minutes", "maturity")
    launched = table["launched_at"].to_pylist()
    return Titles(
        ids=ids, row={title: i for i, title in enumerate(ids)}, names=table["name"].to_pylist(),
        genres=[tuple(genres or ()) for genres in table["genres"].to_pylist()],
        language=[value or "" for value in table["language"].to_pylist()],
        series_id=[value or "" for value in table["series_id"].to_pylist()],
        launched_N=np.array([_epoch(moment) for moment in launched], np.float64),
        columns={name: _numbers(table[name].to_pylist()) for name in names},
    )


def _epoch(moment: datetime | None) -> float:
    seconds = epoch_seconds(moment)
    return np.nan if seconds is None else seconds


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _tower(path: Path, threads: int) -> ort.InferenceSession:
    """One thread a request: requests run beside each other already."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    tower = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {given.name for given in tower.get_inputs()}
    if names - set(QUERY_INPUTS) or QUERY_OUTPUT not in {out.name for out in tower.get_outputs()}:
        raise ReleaseError(f"{path}: inputs {sorted(names)}, expected of {list(QUERY_INPUTS)} and output {QUERY_OUTPUT}")
    return tower


def _neighbours(folder: Path, name: str, payload: Payload) -> NeighbourTable:
    """Releases of before there was such a table do without: their payload does not list it."""
    if name not in payload.files:
        return NO_NEIGHBOURS
    table = pq.read_table(folder / name, columns=["from_title", "to_title", "weight"])
    return NeighbourTable.from_arrays(
        table["from_title"].to_pylist(), table["to_title"].to_pylist(), table["weight"].to_numpy())


def _fallback(path: Path) -> dict[tuple[str, str], list[str]]:
    table = pq.read_table(path, columns=["market", "cohort", "rank", "title_id"])
    orders: dict[tuple[str, str], list[str]] = {}
    for row in table.sort_by([("market", "ascending"), ("cohort", "ascending"), ("rank", "ascending")]).to_pylist():
        orders.setdefault((row["market"], row["cohort"]), []).append(row["title_id"])
    return orders


def _warm_up(release: Release) -> None:
    """First runs allocate; let them happen before the first request."""
    profile = Profile("", release.spec.markets[0] if release.spec.markets else "")
    context = Context(datetime(2026, 1, 1, tzinfo=UTC))
    history = History(release.titles.ids[:1], [0.0], [1.0], [np.nan])
    rows = np.arange(min(2, len(release.titles.ids)))
    query = release.query_D(history, profile, context)
    release.ranker.score(release.asker(profile, context, history, {}),
                         release.candidates(rows, release.scores_K(query, rows), history, 0))
