"""The one ranking-feature function: training and serving call it, nobody else computes a ranking feature.

Shape suffixes: K candidates of one request, R ranking features.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from contracts.query import Context, Profile

RANKING_FEATURES = (
    "position",  # 0 in training and in serving; rankers trained before the place became a weight read it
    "retrieval_score", "retrieval_gap", "retrieval_rank_log", "transition_score", "transition_gap",
    "cowatch_score", "cowatch_gap",
    "title_plays_1d_log", "title_plays_7d_log", "title_plays_30d_log", "title_trend", "title_completion_30d",
    "title_impressions_7d_log", "title_play_rate_30d", "title_skips_7d_log", "title_rating_mean",
    "title_age_days_log", "title_year", "title_runtime_log", "title_maturity",
    "genre_affinity", "preferred_genre_match", "language_match", "series_in_history", "genre_in_last_5",
    "profile_plays_7d_log", "profile_plays_30d_log", "profile_completion_30d", "profile_days_since_play_log",
    "is_kids", "is_tv", "hour",
)
"""Names and order of the R columns."""

LAST_TITLES = 5
"""How many of the newest titles `genre_in_last_5` looks at."""


@dataclass(frozen=True)
class Candidates:
    """The candidates of one request: K titles with their scores and title features, NaN where unknown.

    `columns` has (K,) arrays named like `contracts.marts.TITLE_FEATURES`, and `year`, `runtime_minutes`, `maturity`,
    `age_days` (since launch, NaN unknown).
    """

    title_ids: Sequence[str]
    retrieval_score: np.ndarray
    transition_score: np.ndarray
    cowatch_score: np.ndarray
    columns: Mapping[str, np.ndarray]
    genres: Sequence[Sequence[str]]
    language: Sequence[str]
    series_id: Sequence[str]


@dataclass(frozen=True)
class Asker:
    """Who asks: declared facts, nightly aggregates (may be empty), and what the newest history says."""

    profile: Profile
    context: Context
    aggregates: Mapping[str, object] = field(default_factory=dict)  # contracts.marts.PROFILE_FEATURES
    last_genres: Sequence[Sequence[str]] = ()  # genres of the newest five titles
    series: frozenset[str] = frozenset()  # series ids in the history


def ranking_features(asker: Asker, candidates: Candidates) -> np.ndarray:
    """(K,R) float32 in the order of RANKING_FEATURES; NaN means unknown, which the ranker has a branch for."""
    k = len(candidates.title_ids)
    column = {name: np.asarray(values, np.float64) for name, values in candidates.columns.items()}
    log = {name: np.log1p(np.maximum(column[name], 0)) for name in column}
    score = np.asarray(candidates.retrieval_score, np.float64)
    transition = np.asarray(candidates.transition_score, np.float64)
    cowatch = np.asarray(candidates.cowatch_score, np.float64)
    aggregates = asker.aggregates
    shares = dict(zip(_listed(aggregates.get("top_genres_30d")), _listed(aggregates.get("top_genre_shares_30d")), strict=False))
    preferred = frozenset(asker.profile.preferred_genres or ())
    recent = [genre for genres in asker.last_genres for genre in genres]
    values = {
        "position": 0.0,
        "retrieval_score": score,
        "retrieval_gap": score - _largest(score),
        "retrieval_rank_log": np.log1p(_rank(score)),
        "transition_score": transition,
        "transition_gap": transition - _largest(transition),
        "cowatch_score": cowatch,
        "cowatch_gap": cowatch - _largest(cowatch),
        "title_plays_1d_log": log["plays_1d"],
        "title_plays_7d_log": log["plays_7d"],
        "title_plays_30d_log": log["plays_30d"],
        "title_trend": log["plays_7d"] - np.log1p(np.maximum(column["plays_30d"], 0) * 7 / 30),
        "title_completion_30d": column["completion_30d"],
        "title_impressions_7d_log": log["impressions_7d"],
        "title_play_rate_30d": column["play_rate_30d"],
        "title_skips_7d_log": log["skips_7d"],
        "title_rating_mean": column["rating_mean"],
        "title_age_days_log": log["age_days"],
        "title_year": column["year"],
        "title_runtime_log": log["runtime_minutes"],
        "title_maturity": column["maturity"],
        "genre_affinity": [sum(shares.get(g, 0.0) for g in genres) for genres in candidates.genres],
        "preferred_genre_match": [len(preferred.intersection(genres)) for genres in candidates.genres],
        "language_match": [bool(language) and language == asker.profile.language for language in candidates.language],
        "series_in_history": [bool(series) and series in asker.series for series in candidates.series_id],
        "genre_in_last_5": [sum(recent.count(g) for g in genres) for genres in candidates.genres],
        "profile_plays_7d_log": _log_number(aggregates.get("plays_7d")),
        "profile_plays_30d_log": _log_number(aggregates.get("plays_30d")),
        "profile_completion_30d": _number(aggregates.get("completion_30d")),
        "profile_days_since_play_log": _days_since(aggregates.get("last_play_at"), asker.context),
        "is_kids": asker.profile.is_kids,
        "is_tv": asker.context.device == "tv",
        "hour": asker.context.moment.hour,
    }
    return np.stack([np.broadcast_to(np.asarray(values[name], np.float32), (k,)) for name in RANKING_FEATURES], axis=1)


def history_facts(
    history_title_ids: Sequence[str], genres_of: Mapping[str, Sequence[str]], series_of: Mapping[str, str]
) -> tuple[list[Sequence[str]], frozenset[str]]:
    """`last_genres` and `series` of an Asker from a history, oldest first; titles that the maps lack are left out."""
    last = [genres_of[title] for title in history_title_ids[-LAST_TITLES:] if title in genres_of]
    series = frozenset(series_of[title] for title in history_title_ids if series_of.get(title))
    return last, series


def blend_scores(
    retrieval_K: np.ndarray, transition_K: np.ndarray, cowatch_K: np.ndarray, transition_weight: float, cowatch_weight: float
) -> np.ndarray:
    """(K,) float64 z(retrieval) + weighted z(transition) + weighted z(cowatch), z over the candidates of one request; a
    constant score adds 0."""
    return _z(retrieval_K) + transition_weight * _z(transition_K) + cowatch_weight * _z(cowatch_K)


def _z(values_K: np.ndarray) -> np.ndarray:
    values_K = np.asarray(values_K, np.float64)
    if not len(values_K) or values_K.std() < 1e-9:
        return np.zeros(len(values_K))
    return (values_K - values_K.mean()) / values_K.std()


def _listed(value) -> Sequence:
    """A list column's value; None and NaN (what pandas makes of null) are empty."""
    return [] if value is None or isinstance(value, float) else list(value)


def _number(value) -> float:
    return np.nan if value is None else float(value)


def _log_number(value) -> float:
    return float(np.log1p(max(_number(value), 0.0))) if value is not None else np.nan


def _days_since(moment, context: Context) -> float:
    """log(1 + days) from a timestamp (datetime with zone) to the request; NaN where there was none."""
    if moment is None or moment != moment:  # NaT
        return np.nan
    return float(np.log1p(max((context.moment - moment).total_seconds(), 0.0) / 86400.0))


def _largest(values: np.ndarray) -> float:
    return float(values.max()) if len(values) else 0.0


def _rank(values: np.ndarray) -> np.ndarray:
    """0 for the best; equal scores keep their order."""
    rank = np.empty(len(values))
    rank[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return rank
