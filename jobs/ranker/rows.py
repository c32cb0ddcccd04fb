"""Training and validation rows from pools. Training learns from titles that were shown, with their logged place, beside
sampled titles of the pool that were not; validation ranks the whole pool, as the funnel does.

Shape suffixes: K candidates, R ranking features, S rows kept.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from contracts.features import ranking_features
from contracts.marts import TITLE_FEATURES
from jobs.ranker.asof import floats
from jobs.ranker.config import RankerConfig
from jobs.ranker.pool import Pool

MAX_INVERSE_PROPENSITY = 10.0


@dataclass(frozen=True)
class Slate:
    """What one request was shown: by title its place, propensity and title features at the time."""

    row_of: Mapping[str, int]
    position: np.ndarray
    propensity: np.ndarray
    columns: Mapping[str, np.ndarray]


NOTHING_SHOWN = Slate({}, np.zeros(0), np.zeros(0), {name: np.zeros(0) for name in TITLE_FEATURES})


def slates_from(impressions: pa.Table) -> dict[str, Slate]:
    """training.impressions by request; a title shown twice counts at its first place."""
    table = impressions.sort_by([("request_id", "ascending"), ("position", "descending"), ("title_id", "ascending")])
    ids = np.array(table["request_id"].to_pylist(), dtype=object)
    titles = table["title_id"].to_pylist()
    position, propensity = floats(table["position"]), floats(table["propensity"])
    columns = {name: floats(table[name]) for name in TITLE_FEATURES}
    starts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])) if len(ids) else np.zeros(0, np.int64)
    out = {}
    for start, end in zip(starts, np.append(starts[1:], len(ids))):
        row_of = {title: row for row, title in enumerate(titles[start:end])}
        out[ids[start]] = Slate(row_of, position[start:end], propensity[start:end],
                                {name: values[start:end] for name, values in columns.items()})
    return out


@dataclass(frozen=True)
class TrainingRows:
    """The kept rows of one request."""

    features_SR: np.ndarray
    gain_S: np.ndarray
    weight_S: np.ndarray
    shown_S: np.ndarray  # bool


@dataclass(frozen=True)
class ValidationRows:
    """The whole pool of one request, best retrieved first, as serving would score it."""

    features_KR: np.ndarray
    retrieval_K: np.ndarray
    transition_K: np.ndarray
    gain_K: np.ndarray
    relevant_gains: np.ndarray  # of everything engaged with, retrieved or not


def is_validation(profile_id: str, config: RankerConfig) -> bool:
    """Whole profiles are held out, so that nobody's taste is learnt by heart."""
    return zlib.crc32(f"{config.seed}:{profile_id}".encode()) % config.validation_one_in == 0


def training_rows(pool: Pool, slate: Slate, config: RankerConfig) -> TrainingRows:
    """Shown titles as they were logged, and sampled other titles of the pool with label 0.

    A title that was not shown gets a place drawn from the slate's own: were its place always the same, the trees would
    learn "shown" from the bias feature, which serving sets to one value for all.
    """
    random = np.random.default_rng(zlib.crc32(f"{config.seed}:{pool.request.request_id}".encode()))
    row_K = np.array([slate.row_of.get(title, -1) for title in pool.candidates.title_ids], np.int64)
    shown_K = row_K >= 0
    position_K = np.zeros(len(row_K))
    if len(slate.position):
        position_K = random.choice(slate.position, len(row_K))
        position_K[shown_K] = slate.position[row_K[shown_K]]
    columns = {name: np.array(values, np.float64) for name, values in pool.candidates.columns.items()}
    for name in TITLE_FEATURES:
        columns[name][shown_K] = slate.columns[name][row_K[shown_K]]
    gain_K = pool.gains()
    keep = np.flatnonzero(shown_K | (gain_K > 0) | _sampled(len(row_K), random, config))
    features_KR = ranking_features(pool.asker, replace(pool.candidates, columns=columns, position=position_K))
    weight_K = np.where(shown_K | (gain_K > 0), 1.0, config.negative_weight)
    if config.propensity_weights and shown_K.any():
        propensity = np.nan_to_num(slate.propensity[row_K[shown_K]], nan=1.0)
        weight_K[shown_K] = np.minimum(1.0 / np.maximum(propensity, 1e-6), MAX_INVERSE_PROPENSITY)
    return TrainingRows(features_KR[keep], gain_K[keep], weight_K[keep], shown_K[keep])


def _sampled(count: int, random: np.random.Generator, config: RankerConfig) -> np.ndarray:
    """(K,) bool, drawn alike at every rank: with more of the best retrieved, what is engaged with further down meets few
    negatives, and the trees learn that far down is good (MovieLens-1M: NDCG@10 .045 against .127 drawn alike)."""
    kept = np.zeros(count, bool)
    kept[random.choice(count, min(config.negatives, count), replace=False)] = True
    return kept


def validation_rows(pool: Pool) -> ValidationRows:
    return ValidationRows(
        pool.features(), np.asarray(pool.candidates.retrieval_score), np.asarray(pool.candidates.transition_score),
        pool.gains(), np.array(sorted(pool.request.relevant.values(), reverse=True), np.int64),
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
