"""The judged days' slates as labels that no ranking chose: what was engaged with, divided by its chance of being seen.

Members engage with what they are shown, so plays of a day whose slates the live release ranked favour that release.
Slates with exploration slots of known propensity tell of every title: an engagement that had one chance in a thousand
stands for a thousand (Schnabel et al., Recommendations as Treatments, ICML 2016). A title on its ranked place k was seen
with probability propensity · attention(k); an explored one had its chance in every slot: propensity · Σ attention.

Shape suffixes: N impressions, S places.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from contracts.settings import Settings
from contracts.tags import TagRecord
from jobs import attention
from jobs.evaluation.config import JudgeConfig
from jobs.lake import read

ENGAGED = 2
"""fct_impression.engagement of a title that was watched half or more: what the judge calls relevant."""

MIN_ATTENTION = 0.02


@dataclass(frozen=True)
class LoggedSlates:
    """`slates` by the release that ranked them; `explored` and `ranked`: profile to title to 1 / (chance of being seen)
    of what was engaged with in exploration slots and on ranked places."""

    slates: Mapping[str, int] = field(default_factory=dict)
    explored: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    ranked: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def share_of(self, release_id: str | None) -> float:
        """How much of the judged slates the release ranked."""
        return self.slates.get(release_id, 0) / max(1, sum(self.slates.values()))

    def labels(self, profile_id: str, ranked_scale: float) -> dict[str, float]:
        """Title to weight for one profile; `ranked_scale` is 0 where only its explored slots count, else one over the
        share of profiles whose ranked places are looked at."""
        weights = dict(self.explored.get(profile_id, {}))
        for title, weight in self.ranked.get(profile_id, {}).items() if ranked_scale else ():
            weights[title] = weights.get(title, 0.0) + ranked_scale * weight
        return weights


def load(settings: Settings, record: TagRecord, tag: str, config: JudgeConfig) -> LoggedSlates:
    """Empty where the source logs no impressions."""
    if not record.has_impressions:
        return LoggedSlates()
    start, end = record.split.ranker_end, record.split.judge_end
    columns = ("slate_id", "profile_id", "title_id", "position", "propensity", "explored", "release_id", "engagement")
    shown = read.table(settings, "marts.fct_impression", tag, columns, _between(start, end))
    explored = read.table(settings, "marts.fct_impression", tag, ("position", "engagement"),
                          f"explored = true and event_time < '{end.isoformat()}'")
    return from_impressions(shown, attention_of(explored), config)


def _between(start: datetime, end: datetime) -> str:
    return f"event_time >= '{start.isoformat()}' and event_time < '{end.isoformat()}'"


def attention_of(explored: pa.Table) -> np.ndarray:
    """(S,) how likely place 1..S is looked at, relative to place 1, from exploration slots; all alike where too few of them
    were engaged with to tell."""
    engaged_N = _numbers(explored["engagement"]) >= ENGAGED
    curve_S = attention.estimate(_numbers(explored["position"]), engaged_N, np.ones(explored.num_rows, bool)).curve
    return np.maximum(curve_S, MIN_ATTENTION)


def from_impressions(shown: pa.Table, attention_S: np.ndarray, config: JudgeConfig) -> LoggedSlates:
    """Weights of what was engaged with; those beyond `clip` times the median explored weight are cut to it. Impressions
    without a place or a propensity in (0, 1] say nothing."""
    if not shown.num_rows:
        return LoggedSlates()
    slates = shown.group_by("slate_id").aggregate([("release_id", "min")]).group_by("release_id_min").aggregate([("slate_id", "count")])
    by_release = {row["release_id_min"] or "": row["slate_id_count"] for row in slates.to_pylist()}
    longest = int(max(1, np.nanmax(np.nan_to_num(_numbers(shown["position"]), nan=1))))
    curve_S = np.concatenate([attention_S, np.full(max(0, longest - len(attention_S)), attention_S[-1])])
    whole_S = np.cumsum(curve_S)  # of a slate that ends with this place

    length = shown.group_by("slate_id").aggregate([("position", "max")])
    length_of = dict(zip(length["slate_id"].to_pylist(), length["position_max"].to_pylist()))
    found = shown.filter(pc.greater_equal(shown["engagement"], ENGAGED))
    position_N, propensity_N = _numbers(found["position"]), _numbers(found["propensity"])
    explored_N = np.array(found["explored"].to_pylist(), object) == True  # noqa: E712 - null is False
    usable_N = (position_N >= 1) & (propensity_N > 0) & (propensity_N <= 1)
    found, position_N, propensity_N, explored_N = found.filter(pa.array(usable_N)), position_N[usable_N], propensity_N[usable_N], explored_N[usable_N]
    end_N = np.array([length_of[slate] or 1 for slate in found["slate_id"].to_pylist()], np.int64)
    seen_N = np.where(explored_N, whole_S[end_N - 1], curve_S[position_N.astype(np.int64) - 1])
    weight_N = 1.0 / (propensity_N * seen_N)
    if explored_N.any():
        weight_N = np.minimum(weight_N, config.clip * np.median(weight_N[explored_N]))
    return LoggedSlates(by_release, _by_profile(found, weight_N, explored_N), _by_profile(found, weight_N, ~explored_N))


def _by_profile(found: pa.Table, weight_N: np.ndarray, keep_N: np.ndarray) -> dict[str, dict[str, float]]:
    """Several engagements of one profile with one title, on several slates, add up."""
    weights: dict[str, dict[str, float]] = {}
    kept = found.filter(pa.array(keep_N))
    for profile, title, weight in zip(kept["profile_id"].to_pylist(), kept["title_id"].to_pylist(), weight_N[keep_N].tolist()):
        mine = weights.setdefault(profile, {})
        mine[title] = mine.get(title, 0.0) + weight
    return weights


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """(N,) float64, null NaN."""
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
