"""Training and validation rows from pools. Training learns from titles that were shown, beside sampled titles of the pool
that were not; validation ranks the whole pool, as the funnel does. The logged place is bias: it says how much a play
counts, and is never a feature.

Shape suffixes: K candidates, R ranking features, S rows kept.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa

from contracts.features import ranking_features
from contracts.marts import TITLE_FEATURES
from jobs.attention import Attention
from jobs.bootstrap import effective_size
from jobs.ranker.asof import floats
from jobs.ranker.config import RankerConfig
from jobs.ranker.pool import Pool


@dataclass(frozen=True)
class Slate:
    """What one request was shown: by title its place and title features at the time."""

    row_of: Mapping[str, int]
    position: np.ndarray
    columns: Mapping[str, np.ndarray]


NOTHING_SHOWN = Slate({}, np.zeros(0), {name: np.zeros(0) for name in TITLE_FEATURES})


def slates_from(impressions: pa.Table) -> dict[str, Slate]:
    """training.impressions by request; a title shown twice counts at its first place."""
    table = impressions.sort_by([("request_id", "ascending"), ("position", "descending"), ("title_id", "ascending")])
    ids = np.array(table["request_id"].to_pylist(), dtype=object)
    titles = table["title_id"].to_pylist()
    position = floats(table["position"])
    columns = {name: floats(table[name]) for name in TITLE_FEATURES}
    starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])) if len(ids) else np.zeros(0, np.int64)
    out = {}
    for start, end in zip(starts, np.append(starts[1:], len(ids))):
        row_of = {title: row for row, title in enumerate(titles[start:end])}
        out[ids[start]] = Slate(row_of, position[start:end], {name: values[start:end] for name, values in columns.items()})
    return out


@dataclass(frozen=True)
class TrainingRows:
    """The kept rows of one request."""

    features_SR: np.ndarray
    gain_S: np.ndarray
    place_S: np.ndarray  # int64 logged place, from 1; 0: not shown
    weight_S: np.ndarray  # of a play: inverse attention of its place, clipped; 1 for everything else

    def only(self, keep_S: np.ndarray) -> "TrainingRows":
        return TrainingRows(*(getattr(self, field.name)[keep_S] for field in fields(self)))


@dataclass(frozen=True)
class ValidationRows:
    """The whole pool of one request, best retrieved first, as serving would score it."""

    part: int | None  # held out together; None: LambdaMART learns from this request and is not judged by it
    features_KR: np.ndarray | None  # of a request in a part
    retrieval_K: np.ndarray
    transition_K: np.ndarray
    cowatch_K: np.ndarray
    gain_K: np.ndarray
    relevant_gains: np.ndarray  # of everything engaged with, retrieved or not
    profile_id: str
    weight: float  # of the request in the mean


def part_of(profile_id: str, config: RankerConfig) -> int:
    """0 to `validation_one_in` - 1. Whole profiles are held out, so that nobody's taste is learnt by heart."""
    return zlib.crc32(f"{config.seed}:{profile_id}".encode()) % config.validation_one_in


def training_rows(pool: Pool, slate: Slate, attention: Attention, config: RankerConfig) -> TrainingRows:
    """Shown titles with their features as logged, and sampled other titles of the pool with label 0."""
    random = np.random.default_rng(zlib.crc32(f"{config.seed}:{pool.request.request_id}".encode()))
    row_K = np.array([slate.row_of.get(title, -1) for title in pool.candidates.title_ids], np.int64)
    shown_K = row_K >= 0
    columns = {name: np.array(values, np.float64) for name, values in pool.candidates.columns.items()}
    for name in TITLE_FEATURES:
        columns[name][shown_K] = slate.columns[name][row_K[shown_K]]
    place_K = np.zeros(len(row_K))
    place_K[shown_K] = np.nan_to_num(slate.position[row_K[shown_K]])
    gain_K = pool.gains()
    weight_K = np.where(gain_K > 0, _inverse(attention, np.where(shown_K, place_K, np.nan), pool, config), 1.0)
    keep = np.flatnonzero(shown_K | (gain_K > 0) | _sampled(len(row_K), random, config))
    features_KR = ranking_features(pool.asker, replace(pool.candidates, columns=columns))
    return TrainingRows(features_KR[keep], gain_K[keep], place_K[keep].astype(np.int64), weight_K[keep])


def _inverse(attention: Attention, position_N: np.ndarray, pool: Pool, config: RankerConfig) -> np.ndarray:
    """(N,) how many plays one play at a place stands for had every place been looked at as place 1 is (Joachims et al.,
    WSDM 2017), clipped."""
    return np.minimum(1.0 / np.maximum(attention.at(position_N, pool.request.context.device), 1e-9), config.most_weight)


def _sampled(count: int, random: np.random.Generator, config: RankerConfig) -> np.ndarray:
    """(K,) bool, drawn alike at every rank: with more of the best retrieved, what is engaged with further down meets few
    negatives, and the trees learn that far down is good (MovieLens-1M: NDCG@10 .045 against .127 drawn alike)."""
    kept = np.zeros(count, bool)
    kept[random.choice(count, min(config.negatives, count), replace=False)] = True
    return kept


def validation_rows(
    pool: Pool, slate: Slate, attention: Attention, config: RankerConfig, part: int | None = 0
) -> ValidationRows:
    """The request counts as much as its plays do on average: plays at places that are rarely looked at stand for others
    that nobody saw. Exploration slots would be free of the policy too, but hold too few plays a night to pick by."""
    relevant = pool.request.relevant
    position = np.array([slate.position[slate.row_of[title]] if title in slate.row_of else np.nan for title in relevant])
    return ValidationRows(
        part, None if part is None else pool.features(), np.asarray(pool.candidates.retrieval_score), np.asarray(pool.candidates.transition_score),
        np.asarray(pool.candidates.cowatch_score),
        pool.gains(), np.array(sorted(relevant.values(), reverse=True), np.int64), pool.request.profile.profile_id,
        float(_inverse(attention, position, pool, config).mean()) if len(relevant) else 1.0,
    )


def mismatched_title_features(pool: Pool, slate: Slate) -> tuple[int, int]:
    """Shown titles whose features from the feature store differ from the lookup that the pool uses, and shown titles."""
    pairs = [(k, slate.row_of[title]) for k, title in enumerate(pool.candidates.title_ids) if title in slate.row_of]
    if not pairs:
        return 0, 0
    in_pool, in_slate = np.array(pairs).T
    differs = np.zeros(len(pairs), bool)
    for name in TITLE_FEATURES:
        differs |= ~np.isclose(pool.candidates.columns[name][in_pool], slate.columns[name][in_slate], equal_nan=True, rtol=1e-5)
    return int(differs.sum()), len(pairs)


def with_something_to_learn(rows: Iterable[TrainingRows]) -> list[TrainingRows]:
    """A list without any difference in gain moves no tree."""
    return [r for r in rows if len(r.gain_S) and r.gain_S.max() > r.gain_S.min()]


def effective_plays(rows: Iterable[TrainingRows]) -> dict[str, float]:
    """Plays of the training rows, and as how many of equal weight they count."""
    weights = np.concatenate([np.zeros(0), *(r.weight_S[r.gain_S > 0] for r in rows)])
    return {"training_plays": len(weights), "effective_plays": round(effective_size(weights), 1)}
