"""Which release computed this answer? Says it from the scores, by computing them again from each release's files.

Reads the files, the overlay's records and `contracts` only: nothing of serving, and not the answer's own label.
Shape suffixes: N titles, D vector width, K candidates.
"""

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import numpy as np
import onnxruntime
import pyarrow.parquet as pq

from contracts import release as names
from contracts.eligibility import Eligibility
from contracts.features import Asker, Candidates, history_facts, ranking_features
from contracts.marts import TITLE_FEATURES
from contracts.overlay import OverlayRecord
from contracts.query import QUERY_OUTPUT, Context, History, Profile, query_inputs

TOLERANCE = 1e-6
NEIGHBOURS, POPULAR = 50, 100


@dataclass(frozen=True)
class Known:
    """What the benchmark itself put into the feature store of a profile; `history` has (title, epoch seconds,
    completion, rating)."""

    profile: Profile
    history: tuple[tuple[str, float, float, float], ...] = ()
    aggregates: Mapping[str, object] = field(default_factory=dict)

    @property
    def watched(self) -> frozenset[str]:
        return frozenset(event[0] for event in self.history)


class Recomputed:
    """The scores that one release gives."""

    def __init__(self, folder: Path):
        self.spec = json.loads((folder / names.SPEC).read_text())
        self.vectors_ND = np.load(folder / names.ITEM_VECTORS)
        self.tower = onnxruntime.InferenceSession(str(folder / names.QUERY_TOWER), providers=["CPUExecutionProvider"])
        self.ranker = lightgbm.Booster(model_file=folder / names.RANKER)
        self.titles = pq.read_table(folder / names.TITLES).to_pylist()
        self.row = {title["title_id"]: i for i, title in enumerate(self.titles)}
        self.follows, self.together = _neighbours(folder / names.TRANSITIONS), _neighbours(folder / names.COWATCH)
        orders = pq.read_table(folder / names.FALLBACK).to_pylist()
        self.popular = {(row["market"], row["cohort"]): [] for row in orders}
        for row in sorted(orders, key=lambda row: row["rank"]):
            self.popular[row["market"], row["cohort"]].append(row["title_id"])

    def beside(self, records: Iterable[OverlayRecord]) -> "Recomputed":
        """The same release with its overlay: arrived titles as further rows, changed ones with their counts kept."""
        newest = {record.title_id: record for record in records}
        other = copy.copy(self)
        other.titles, other.row = list(self.titles), dict(self.row)
        for title_id, record in newest.items():
            known = self.titles[self.row[title_id]] if title_id in self.row else dict.fromkeys(TITLE_FEATURES)
            said = {name: record.content.get(name) for name in ("genres", "language", "series_id", "year", "runtime_minutes", "maturity")}
            launched = record.content.get("launched_at")
            said["launched_at"] = None if launched is None else datetime.fromtimestamp(launched, UTC)
            other.row.setdefault(title_id, len(other.row))
            other.titles[other.row[title_id] : other.row[title_id] + 1] = [{**known, **said, "title_id": title_id}]
        other.vectors_ND = np.zeros((len(other.titles), self.vectors_ND.shape[1]), np.float32)
        other.vectors_ND[: len(self.vectors_ND)] = self.vectors_ND
        for title_id, record in newest.items():
            other.vectors_ND[other.row[title_id]] = record.vector_D
        return other

    def scores(
        self, who: Known, moment: datetime, device: str, eligible: Eligibility, launched: Iterable[str] = ()
    ) -> dict[str, tuple[float, float, float, float]]:
        """title -> (ranking, retrieval, transition, co-watch score) of every candidate, `launched` among them however far they are."""
        seen = [event for event in who.history if event[0] in self.row]
        titles = [event[0] for event in seen]
        history = History(titles, *([event[i] for event in seen] for i in (1, 2, 3)))
        context = Context(moment, device, "home")
        inputs = query_inputs(history, self.vectors_ND[[self.row[t] for t in titles]].reshape(-1, self.vectors_ND.shape[1]), who.profile,
                              context, self.spec["history_length"])
        query_D = self.tower.run([QUERY_OUTPUT], inputs)[0][0]
        # not `@`, whose sums depend on a row's place: equal vectors must tie
        near_N = np.einsum("nd,d->n", self.vectors_ND.astype(np.float64), query_D.astype(np.float64))
        votes, alike = self._votes(titles), self._alike(titles)
        pool = self._pool(who, near_N, votes, int(moment.timestamp()), eligible, launched)
        pool.sort(key=lambda title: -near_N[self.row[title]])
        near_K = np.array([near_N[self.row[title]] for title in pool])
        votes_K, alike_K = (np.array([found.get(title, 0.0) for title in pool], np.float32) for found in (votes, alike))
        candidates = self._candidates(pool, near_K, votes_K, alike_K, moment)
        ranked_K = self.ranker.predict(ranking_features(self._asker(who, context, titles), candidates), num_threads=1)
        return {title: tuple(map(float, scores)) for title, *scores in zip(pool, ranked_K, near_K, votes_K, alike_K)}

    def _pool(
        self, who: Known, near_N: np.ndarray, votes: dict[str, float], at: int, eligible: Eligibility, launched: Iterable[str]
    ) -> list[str]:
        def allowed(title: str) -> bool:
            return title not in who.watched and eligible.why_not(title, who.profile.market, who.profile.maturity_limit, at) is None

        nearest = [title for i in np.argsort(-near_N, kind="stable") if allowed(title := self.titles[i]["title_id"])]
        pool = nearest[: self.spec["pool_size"]]
        pool += [title for title in launched if allowed(title)]
        pool += [title for title in sorted(votes, key=lambda t: (-votes[t], t))[:NEIGHBOURS] if allowed(title)]
        if not who.history:
            first, second = ("kids", "general") if who.profile.is_kids else ("general", "kids")
            order = dict.fromkeys(self.popular.get((who.profile.market, first), []) + self.popular.get((who.profile.market, second), []))
            pool += [title for title in list(order)[:POPULAR] if allowed(title)]
        return list(dict.fromkeys(title for title in pool if title in self.row))

    def _votes(self, titles: list[str]) -> dict[str, float]:
        """Each of the newest ten events votes for what followed it, half as much for every newer event."""
        votes: dict[str, float] = {}
        for age, title in enumerate(reversed(titles[-10:])):
            for to, weight in self.follows.get(title, {}).items():
                votes[to] = votes.get(to, 0.0) + 0.5 ** age * weight
        return votes

    def _alike(self, titles: list[str]) -> dict[str, float]:
        """Each of the newest two hundred titles votes once, for or against what the same profiles watch."""
        votes: dict[str, float] = {}
        for title in list(dict.fromkeys(reversed(titles)))[:200]:
            for to, weight in self.together.get(title, {}).items():
                votes[to] = votes.get(to, 0.0) + weight
        return votes

    def _asker(self, who: Known, context: Context, titles: list[str]) -> Asker:
        genres = {title["title_id"]: tuple(title["genres"] or ()) for title in self.titles}
        series = {title["title_id"]: title["series_id"] or "" for title in self.titles}
        last, in_history = history_facts(titles, genres, series)
        return Asker(profile=who.profile, context=context, aggregates=who.aggregates, last_genres=last, series=in_history)

    def _candidates(self, pool: list[str], near_K: np.ndarray, votes_K: np.ndarray, alike_K: np.ndarray, moment: datetime) -> Candidates:
        rows = [self.titles[self.row[title]] for title in pool]
        columns = {name: np.array([np.nan if row[name] is None else row[name] for row in rows], np.float64)
                   for name in (*TITLE_FEATURES, "year", "runtime_minutes", "maturity")}
        columns["age_days"] = np.array([_age(row["launched_at"], moment) for row in rows])
        return Candidates(title_ids=pool, retrieval_score=near_K, transition_score=votes_K, cowatch_score=alike_K,
                          columns=columns, genres=[tuple(row["genres"] or ()) for row in rows], language=[row["language"] or "" for row in rows],
                          series_id=[row["series_id"] or "" for row in rows])


def _neighbours(path: Path) -> dict[str, dict[str, float]]:
    """From -> to -> weight."""
    found: dict[str, dict[str, float]] = {}
    for pair in pq.read_table(path).to_pylist():
        found.setdefault(pair["from_title"], {})[pair["to_title"]] = pair["weight"]
    return found


def _age(launched: datetime | None, moment: datetime) -> float:
    if launched is None:
        return np.nan
    launched = launched if launched.tzinfo else launched.replace(tzinfo=UTC)
    return (int(moment.timestamp()) - launched.timestamp()) / 86400.0


def computed_by(answer: dict, who: Known, device: str, releases: Mapping[str, Recomputed], eligible: Eligibility) -> list[str]:
    """The releases from whose files every score of the answer comes out; of a whole answer that is its own and no other."""
    said = {title["title_id"]: (title["score"], title["retrieval_score"], title["transition_score"], title["cowatch_score"])
            for title in answer["titles"] if title["score"] is not None}
    return [name for name, release in releases.items() if said and _agree(said, _computed(answer, who, device, release, eligible))]


def difference(answer: dict, who: Known, device: str, release: Recomputed, eligible: Eligibility) -> str:
    """How far an answer is from what one release gives: titles that it has not, and the largest difference of each score."""
    computed = _computed(answer, who, device, release, eligible)
    scored = [title for title in answer["titles"] if title["score"] is not None]
    foreign = [title["title_id"] for title in scored if title["title_id"] not in computed]
    columns = ("score", "retrieval_score", "transition_score", "cowatch_score")
    off = {name: max((abs(title[name] - computed[title["title_id"]][i]) for title in scored if title["title_id"] in computed), default=0.0)
           for i, name in enumerate(columns)}
    return f"foreign titles {foreign}, " + ", ".join(f"{name} off by {value:.2g}" for name, value in off.items())


def _computed(answer: dict, who: Known, device: str, release: Recomputed, eligible: Eligibility) -> dict[str, tuple[float, float, float, float]]:
    launched = [title["title_id"] for title in answer["titles"] if title["source"] == "launch"]
    return release.scores(who, datetime.fromisoformat(answer["generated_at"]), device, eligible, launched)


def _agree(said: dict, computed: dict) -> bool:
    return all(title in computed and np.allclose(scores, computed[title], rtol=0, atol=TOLERANCE) for title, scores in said.items())
