"""All figures of one judgement: systems side by side, paired differences with bounds, slices.

A system is a list a request: the candidate's funnel, the live release's, popularity, the candidate's retrieval order.
Shape suffix: N requests.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.evaluation import metrics
from jobs.evaluation.config import JudgeConfig
from jobs.evaluation.gates import Difference
from jobs.evaluation.requests import Judged

CANDIDATE, LIVE, POPULARITY, RETRIEVAL = "candidate", "live", "popularity", "retrieval order"
NDCG = "ndcg_at_10"
METRICS: dict[str, Callable[["Lists", Mapping[str, int]], float]] = {
    "hr_at_10": lambda lists, relevant: metrics.hit_rate(lists.shelf, relevant),
    NDCG: lambda lists, relevant: metrics.ndcg(lists.shelf, relevant),
    "mrr_at_10": lambda lists, relevant: metrics.reciprocal_rank(lists.shelf, relevant),
    "recall_at_200": lambda lists, relevant: metrics.recall(lists.pool, relevant),
}


@dataclass(frozen=True)
class Lists:
    """What one system gave for one request: its shelf, and the pool that the shelf was taken from."""

    shelf: Sequence[str]
    pool: Sequence[str]


LEAST_PROFILES = 20
"""Fewer cannot carry a test of their own."""


@dataclass(frozen=True)
class Loss:
    """A slice against a baseline: both means, and the one-sided p of "not worse beyond the margin"."""

    ours: float
    theirs: float
    p: float


@dataclass(frozen=True)
class CatalogueFacts:
    """What the figures need to know of titles."""

    size: int
    genres_of: Mapping[str, Sequence[str]]
    launched: Mapping[str, float]  # epoch seconds; titles without one are left out
    popular: frozenset[str]  # the most played tenth
    tail: frozenset[str] = frozenset()  # the least played half


class Comparison:
    """Metric values of every system over the same requests. A request that a system could not answer counts as 0 for
    the candidate, and is left out of comparisons for every other system."""

    def __init__(self, judged: Sequence[Judged], systems: Mapping[str, Sequence[Lists | None]], facts: CatalogueFacts,
                 config: JudgeConfig):
        self.judged, self.systems, self.facts, self.config = judged, systems, facts, config
        self.bootstrap = metrics.PairedBootstrap([one.profile_id for one in judged], config.bootstrap_samples, config.seed)
        self.values = self._values([one.relevant for one in judged])
        self.new_relevant = [self._launched_lately(one) for one in judged]
        self.new_values = self._values(self.new_relevant)

    def difference(self, metric: str, baseline: str, rows: np.ndarray | None = None, new_titles: bool = False) -> Difference | None:
        """Candidate minus baseline; None where there is no such baseline or nothing to compare."""
        values = self.new_values if new_titles else self.values
        if baseline not in values:
            return None
        ours_N, theirs_N = values[CANDIDATE][metric], values[baseline][metric]
        keep = ~np.isnan(theirs_N) & (np.ones(len(theirs_N), bool) if rows is None else rows)
        if not keep.any():
            return None
        low, high = self.bootstrap.bounds(ours_N - theirs_N, keep)
        ours, theirs = float(ours_N[keep].mean()), float(theirs_N[keep].mean())
        return Difference(metric=metric, ours=_round(ours), theirs=_round(theirs), difference=_round(ours - theirs),
                          low=_round(low), high=_round(high))

    def slice_losses(self, baseline: str, margin: float) -> dict[str, "Loss"]:
        """Slice -> how sure it is that NDCG@10 lies more than `margin` (relative) below the baseline's; slices with
        fewer profiles than `min_slice_requests` say nothing, and never than LEAST_PROFILES."""
        found = {}
        for name, value, rows, new in self._slices():
            values = self.new_values if new else self.values
            ours_N, theirs_N = values[CANDIDATE][NDCG], values[baseline][NDCG]
            keep = rows & ~np.isnan(theirs_N)
            profiles = len(set(self.bootstrap.profile_N[keep]))
            if profiles >= max(LEAST_PROFILES, self.config.min_slice_requests):
                theirs = float(theirs_N[keep].mean())
                p = self.bootstrap.p_below(ours_N - theirs_N, keep, -margin * theirs, profiles)
                found[f"{name} {value}"] = Loss(float(ours_N[keep].mean()), theirs, p)
        return found

    def as_json(self) -> dict[str, Any]:
        """Everything but latency and health."""
        baselines = [name for name in self.systems if name != CANDIDATE]
        return {
            "requests": len(self.judged),
            "profiles": len({one.profile_id for one in self.judged}),
            "bounds": "one-sided, 95 % each, paired bootstrap over profiles",
            "systems": {name: self.overall(name) for name in self.systems},
            "differences": {
                baseline: {metric: _json(self.difference(metric, baseline)) for metric in METRICS} for baseline in baselines
            },
            "slices": [self._slice(name, value, rows, new, baselines) for name, value, rows, new in self._slices()],
        }

    def _bounds(self, values_N: np.ndarray) -> list[float] | None:
        low, high = self.bootstrap.bounds(values_N)
        return None if math.isnan(low) else [_round(low), _round(high)]

    def _values(self, relevant: Sequence[Mapping[str, int]]) -> dict[str, dict[str, np.ndarray]]:
        return {
            name: {metric: np.array([self._value(name, rule, lists, wanted) for lists, wanted in zip(per_request, relevant)])
                   for metric, rule in METRICS.items()}
            for name, per_request in self.systems.items()
        }

    @staticmethod
    def _value(system: str, rule: Callable, lists: Lists | None, wanted: Mapping[str, int]) -> float:
        if lists is None:
            return 0.0 if system == CANDIDATE else np.nan
        return rule(lists, wanted)

    def _launched_lately(self, one: Judged) -> dict[str, int]:
        since = one.at - self.config.new_title_days * 86400
        return {t: gain for t, gain in one.relevant.items() if self.facts.launched.get(t, -math.inf) >= since}

    def overall(self, name: str) -> dict[str, Any]:
        """One system's figures over all requests that it answered."""
        answered = [(one, lists) for one, lists in zip(self.judged, self.systems[name]) if lists is not None]
        shelves = [lists.shelf for _, lists in answered]
        genres = self.facts.genres_of
        return {metric: _mean(values) for metric, values in self.values[name].items()} | {
            "bounds": {metric: self._bounds(values) for metric, values in self.values[name].items()},
            "coverage_at_10": _round(metrics.coverage(shelves, self.facts.size)),
            "genre_diversity_at_10": _mean([metrics.intra_list_diversity(shelf, genres) for shelf in shelves]),
            "genre_miscalibration_at_10": _mean(
                [metrics.miscalibration(lists.shelf, one.history, genres) for one, lists in answered]),
            "popularity_share_at_10": _round(metrics.popularity_share(shelves, self.facts.popular)),
            "tail_share_at_10": _round(metrics.popularity_share(shelves, self.facts.tail)),
        }

    def _slices(self) -> Iterator[tuple[str, str, np.ndarray, bool]]:
        """Name, value, mask, and whether only new titles count as relevant; slices that are too small are left out."""
        new_titles = np.array([bool(relevant) for relevant in self.new_relevant], bool)
        columns: dict[str, list[str]] = {
            "kids": ["kids" if one.is_kids else "not kids" for one in self.judged],
            "history": ["some" if one.history else "none" for one in self.judged],
            "device": [one.device or "unknown" for one in self.judged],
            "market": [one.market or "unknown" for one in self.judged],
        }
        found = [("titles", f"launched within {self.config.new_title_days} days", new_titles, True)]
        for name, values in columns.items():
            found += [(name, value, np.array(values) == value, False) for value in sorted(set(values))]
        yield from (slice_ for slice_ in found if slice_[2].sum() >= self.config.min_slice_requests)

    def _slice(self, name: str, value: str, rows: np.ndarray, new: bool, baselines: Sequence[str]) -> dict[str, Any]:
        values = self.new_values if new else self.values
        return {
            "name": name, "value": value, "requests": int(rows.sum()),
            "systems": {s: {metric: _mean(values[s][metric][rows]) for metric in METRICS} for s in self.systems},
            "differences": {b: _json(self.difference(NDCG, b, rows, new)) for b in baselines},
        }


def lost_slices(figures: Mapping[str, Any], baseline: str) -> list[dict[str, Any]]:
    """Slices whose NDCG@10 is significantly below the baseline's."""
    return [s for s in figures["slices"] if (d := s["differences"].get(baseline)) and d["high"] < 0]


def _json(difference: Difference | None) -> dict[str, Any] | None:
    return difference.model_dump() if difference else None


def _mean(values) -> float | None:
    finite = np.asarray(values, np.float64)
    finite = finite[~np.isnan(finite)]
    return _round(float(finite.mean())) if len(finite) else None


def _round(value: float) -> float:
    """Six digits: equal inputs give equal text."""
    return round(value, 6)
