"""All figures of one judgement: systems side by side, paired differences with bounds, slices.

A system is a list a request: the candidate's funnel, the live release's, popularity, the candidate's retrieval order.
What is right comes in two kinds: what members played (`PLAYED`), and what the exploration slots say they would have
engaged with, whoever ranked the slates (`CORRECTED`, labels with weights: `logged.py`).
Shape suffix: N requests.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.bootstrap import PairedBootstrap, effective_size
from jobs.evaluation import metrics
from jobs.evaluation.config import JudgeConfig
from jobs.evaluation.gates import Difference
from jobs.evaluation.requests import Judged

CANDIDATE, LIVE, POPULARITY, RETRIEVAL = "candidate", "live", "popularity", "retrieval order"
NDCG, RECALL, SNIPS_DCG, SNIPS_POOL = "ndcg_at_10", "recall_at_200", "snips_dcg", "snips_pool_dcg"


@dataclass(frozen=True)
class Lists:
    """What one system gave for one request: its shelf, the pool that the shelf was taken from in retrieval's order, and
    the pool in the ranker's; and how many titles could have been shown."""

    shelf: Sequence[str]
    pool: Sequence[str]
    ranked: Sequence[str] = ()
    eligible: int = 0

    @property
    def order(self) -> list[str]:
        """Everything from first to last: the shelf as it is seen, then the rest as it is ranked."""
        return list(dict.fromkeys([*self.shelf, *(self.ranked or self.pool)]))


CONFIDENCE = 0.99
"""How sure a loss must be: of a hundred nights whose release is as good as live, a gate may stop one. With 95 % the gates of
this kind would stop one night in ten."""


@dataclass(frozen=True)
class Scheme:
    """How lists are held against labels: metrics by name, those that decide on the funnel and on retrieval, what a request
    weighs, and what a person calls the metrics."""

    headline: str
    retrieval: str
    metrics: Mapping[str, Callable[[Lists, Mapping[str, float]], float]]
    weigh: Callable[[Mapping[str, float]], float]
    labels: Mapping[str, str]


PLAYED = Scheme(NDCG, RECALL, {
    "hr_at_10": lambda lists, relevant: metrics.hit_rate(lists.shelf, relevant),
    NDCG: lambda lists, relevant: metrics.ndcg(lists.shelf, relevant),
    "mrr_at_10": lambda lists, relevant: metrics.reciprocal_rank(lists.shelf, relevant),
    RECALL: lambda lists, relevant: metrics.recall(lists.pool, relevant),
}, lambda relevant: 1.0, {"hr_at_10": "HR@10", NDCG: "NDCG@10", "mrr_at_10": "MRR@10", RECALL: "recall@200"})
CORRECTED = Scheme(SNIPS_DCG, SNIPS_POOL, {
    SNIPS_DCG: lambda lists, weights: metrics.discounted_share(lists.order, weights, lists.eligible),
    SNIPS_POOL: lambda lists, weights: metrics.discounted_share(lists.pool, weights, lists.eligible),
    RECALL: lambda lists, weights: metrics.weighted_recall(lists.pool, weights),
}, lambda weights: float(sum(weights.values())),
    {SNIPS_DCG: "SNIPS DCG", SNIPS_POOL: "SNIPS DCG of retrieval", RECALL: "SNIPS recall@200"})
"""Labels are few: metrics must be smooth (recall@200 is shown, and decides nothing)."""


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
                 config: JudgeConfig, scheme: Scheme = PLAYED):
        self.judged, self.systems, self.facts, self.config, self.scheme = judged, systems, facts, config, scheme
        self.new_relevant = [self._launched_lately(one) for one in judged]
        drawn = PairedBootstrap([one.profile_id for one in judged], config.bootstrap_samples, config.seed)
        self.values, self.bootstrap = self._look([one.relevant for one in judged], drawn)
        self.new_values, self.new_bootstrap = self._look(self.new_relevant, drawn)

    def _look(
        self, relevant: Sequence[Mapping[str, float]], drawn: PairedBootstrap
    ) -> tuple[dict[str, dict[str, np.ndarray]], PairedBootstrap]:
        """system → metric → (N,) against these labels, and the bootstrap of their means."""
        values = {
            name: {metric: np.array([self._value(name, rule, lists, wanted) for lists, wanted in zip(per_request, relevant)])
                   for metric, rule in self.scheme.metrics.items()}
            for name, per_request in self.systems.items()
        }
        return values, drawn.weighted(np.array([self.scheme.weigh(wanted) for wanted in relevant]))

    def difference(self, metric: str, baseline: str, rows: np.ndarray | None = None, new_titles: bool = False) -> Difference | None:
        """Candidate minus baseline; None where there is no such baseline or nothing to compare."""
        values, bootstrap = self._of(new_titles)
        if baseline not in values:
            return None
        ours_N, theirs_N = values[CANDIDATE][metric], values[baseline][metric]
        keep = ~np.isnan(theirs_N) & (np.ones(len(theirs_N), bool) if rows is None else rows)
        if not keep.any():
            return None
        low, high = bootstrap.bounds(ours_N - theirs_N, keep, CONFIDENCE)
        ours, theirs = bootstrap.mean(ours_N, keep), bootstrap.mean(theirs_N, keep)
        return Difference(metric=metric, ours=_round(ours), theirs=_round(theirs), difference=_round(ours - theirs),
                          low=_round(low), high=_round(high), confidence=CONFIDENCE)

    def slice_losses(self, baseline: str, margin: float) -> dict[str, "Loss"]:
        """Slice -> how sure it is that the headline lies more than `margin` (relative) below the baseline's; slices with
        fewer profiles than `min_slice_requests` say nothing, and never than LEAST_PROFILES; nor where a few weigh it all."""
        found = {}
        for name, value, rows, new in self._slices():
            values, bootstrap = self._of(new)
            ours_N, theirs_N = values[CANDIDATE][self.scheme.headline], values[baseline][self.scheme.headline]
            keep = rows & ~np.isnan(theirs_N)
            profiles = min(len(set(bootstrap.profile_N[keep])), math.floor(effective_size(bootstrap.weight_N[keep])))
            if profiles >= max(LEAST_PROFILES, self.config.min_slice_requests):
                theirs = bootstrap.mean(theirs_N, keep)
                p = bootstrap.p_below(ours_N - theirs_N, keep, -margin * theirs, profiles)
                found[f"{name} {value}"] = Loss(bootstrap.mean(ours_N, keep), theirs, p)
        return found

    def _of(self, new_titles: bool) -> tuple[dict[str, dict[str, np.ndarray]], PairedBootstrap]:
        return (self.new_values, self.new_bootstrap) if new_titles else (self.values, self.bootstrap)

    def as_json(self) -> dict[str, Any]:
        """Everything but latency and health."""
        baselines = [name for name in self.systems if name != CANDIDATE]
        return {
            "requests": len(self.judged),
            "profiles": len({one.profile_id for one in self.judged}),
            "bounds": f"one-sided, {CONFIDENCE:.0%} each, paired bootstrap over profiles",
            "headline": self.scheme.headline,
            "systems": {name: self.overall(name) for name in self.systems},
            "differences": {
                baseline: {metric: _json(self.difference(metric, baseline)) for metric in self.scheme.metrics} for baseline in baselines
            },
            "slices": [self._slice(name, value, rows, new, baselines) for name, value, rows, new in self._slices()],
        }

    def _means(self, values: Mapping[str, np.ndarray], rows: np.ndarray, bootstrap: PairedBootstrap) -> dict[str, float | None]:
        """Of each metric over the rows that the system answered."""
        means = {metric: bootstrap.mean(found_N, rows & ~np.isnan(found_N)) for metric, found_N in values.items()}
        return {metric: None if math.isnan(mean) else _round(mean) for metric, mean in means.items()}

    def _bounds(self, values_N: np.ndarray) -> list[float] | None:
        low, high = self.bootstrap.bounds(values_N, confidence=CONFIDENCE)
        return None if math.isnan(low) else [_round(low), _round(high)]

    @staticmethod
    def _value(system: str, rule: Callable, lists: Lists | None, wanted: Mapping[str, float]) -> float:
        if lists is None:
            return 0.0 if system == CANDIDATE else np.nan
        return rule(lists, wanted)

    def _launched_lately(self, one: Judged) -> dict[str, float]:
        since = one.at - self.config.new_title_days * 86400
        return {t: gain for t, gain in one.relevant.items() if self.facts.launched.get(t, -math.inf) >= since}

    def overall(self, name: str) -> dict[str, Any]:
        """One system's figures over all requests that it answered."""
        answered = [(one, lists) for one, lists in zip(self.judged, self.systems[name]) if lists is not None]
        shelves = [lists.shelf for _, lists in answered]
        genres = self.facts.genres_of
        return self._means(self.values[name], np.ones(len(self.judged), bool), self.bootstrap) | {
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
        for name, value, rows, new in found:
            if effective_size(self._of(new)[1].weight_N[rows]) >= self.config.min_slice_requests:
                yield name, value, rows, new

    def _slice(self, name: str, value: str, rows: np.ndarray, new: bool, baselines: Sequence[str]) -> dict[str, Any]:
        values, bootstrap = self._of(new)
        return {
            "name": name, "value": value, "requests": int(rows.sum()),
            "systems": {s: self._means(values[s], rows, bootstrap) for s in self.systems},
            "differences": {b: _json(self.difference(self.scheme.headline, b, rows, new)) for b in baselines},
        }


def lost_slices(figures: Mapping[str, Any], baseline: str) -> list[dict[str, Any]]:
    """Slices whose headline is significantly below the baseline's."""
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
