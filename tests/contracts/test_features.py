"""The one ranking-feature function: training and serving call it, so its edges are everybody's edges."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from contracts.features import RANKING_FEATURES, Asker, Candidates, blend_scores, history_facts, ranking_features
from contracts.marts import TITLE_FEATURES
from contracts.query import Context, Profile

NOW = datetime(2026, 3, 30, 20, tzinfo=UTC)
AGGREGATES = {"plays_7d": 3, "plays_30d": 9, "completion_30d": 0.7, "last_play_at": NOW - timedelta(days=2),
              "top_genres_30d": ["drama", "crime"], "top_genre_shares_30d": [0.6, 0.4]}


def column(matrix: np.ndarray, name: str) -> np.ndarray:
    return matrix[:, RANKING_FEATURES.index(name)]


def asker(**changes) -> Asker:
    profile = Profile("p1", "de", is_kids=True, preferred_genres=("drama",), language="de")
    facts = {"profile": profile, "context": Context(NOW, "tv"), "aggregates": AGGREGATES,
             "last_genres": [("crime",), ("crime", "drama")], "series": frozenset({"s1"})}
    return Asker(**(facts | changes))


def candidates(k: int = 4, seed: int = 1) -> Candidates:
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(0, 100, k).astype(float) for name in TITLE_FEATURES}
    columns |= {"year": np.full(k, 1999.0), "runtime_minutes": np.full(k, 90.0), "maturity": np.full(k, 12.0),
                "age_days": np.arange(k, dtype=float)}
    return Candidates([f"t{i}" for i in range(k)], rng.normal(size=k), rng.random(k), rng.random(k), columns,
                      [("drama", "crime"), ("family",), (), ("crime",)][:k], ["de", "en", "", "de"][:k],
                      ["s1", "s2", "", ""][:k])


def test_one_column_a_name_in_the_agreed_order():
    found = ranking_features(asker(), candidates())
    assert found.shape == (4, len(RANKING_FEATURES))
    assert found.dtype == np.float32
    assert RANKING_FEATURES[0] == "position"
    np.testing.assert_allclose(column(found, "title_year"), 1999)
    np.testing.assert_allclose(column(found, "genre_affinity"), [1.0, 0.0, 0.0, 0.4], rtol=1e-6)
    np.testing.assert_allclose(column(found, "preferred_genre_match"), [1, 0, 0, 0])
    np.testing.assert_allclose(column(found, "language_match"), [1, 0, 0, 1])
    np.testing.assert_allclose(column(found, "series_in_history"), [1, 0, 0, 0])
    np.testing.assert_allclose(column(found, "genre_in_last_5"), [3, 0, 0, 2])
    np.testing.assert_allclose(column(found, "profile_days_since_play_log"), np.log(3), rtol=1e-6)


def test_the_place_is_no_feature():
    assert not column(ranking_features(asker(), candidates()), "position").any()


def test_only_what_compares_candidates_depends_on_the_others():
    """One candidate alone has the features that it has among others, but for gaps and rank."""
    together, whole = ranking_features(asker(), candidates()), candidates()
    compared = {"retrieval_gap", "retrieval_rank_log", "transition_gap", "cowatch_gap"}
    keep = [i for i, name in enumerate(RANKING_FEATURES) if name not in compared]
    for i in range(4):
        alone = Candidates(
            whole.title_ids[i:i + 1], whole.retrieval_score[i:i + 1], whole.transition_score[i:i + 1], whole.cowatch_score[i:i + 1],
            {name: values[i:i + 1] for name, values in whole.columns.items()}, whole.genres[i:i + 1],
            whole.language[i:i + 1], whole.series_id[i:i + 1])
        np.testing.assert_array_equal(ranking_features(asker(), alone)[0, keep], together[i, keep])


def test_unknown_stays_unknown():
    """NaN and None reach the ranker as NaN, which it has a branch for; a known zero does not look like that."""
    unknown = candidates()
    unknown = replace(unknown, columns={name: np.full(4, np.nan) for name in unknown.columns})
    found = ranking_features(asker(aggregates={}), unknown)
    for name in ("title_plays_7d_log", "title_trend", "title_completion_30d", "title_age_days_log", "title_maturity",
                 "profile_plays_7d_log", "profile_completion_30d", "profile_days_since_play_log"):
        assert np.isnan(column(found, name)).all(), name
    assert np.isfinite(column(found, "genre_affinity")).all()
    known = ranking_features(asker(aggregates={**AGGREGATES, "plays_7d": 0}), candidates())
    assert not column(known, "profile_plays_7d_log").any()


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_null_lists_are_empty(missing):
    """Arrow says None and pandas says NaN for a list that is not there."""
    found = ranking_features(asker(aggregates={"top_genres_30d": missing, "top_genre_shares_30d": missing}), candidates())
    assert not column(found, "genre_affinity").any()


def test_gap_and_rank_follow_the_scores():
    found = ranking_features(asker(), candidates())
    score = candidates().retrieval_score
    np.testing.assert_allclose(column(found, "retrieval_gap"), score - score.max(), atol=1e-6)
    assert list(np.argsort(-score)) == list(np.argsort(column(found, "retrieval_rank_log")))


def test_no_candidates_are_no_rows():
    empty = Candidates([], np.zeros(0), np.zeros(0), np.zeros(0), {name: np.zeros(0) for name in candidates().columns}, [], [], [])
    assert ranking_features(asker(), empty).shape == (0, len(RANKING_FEATURES))


def test_history_facts_look_at_the_newest_five_and_leave_out_unknown_titles():
    genres = {f"t{i}": [f"g{i}"] for i in range(8)}
    last, series = history_facts([*(f"t{i}" for i in range(7)), "gone"], genres, {"t0": "s0", "t1": ""})
    assert last == [["g3"], ["g4"], ["g5"], ["g6"]]
    assert series == {"s0"}


def test_a_blend_ignores_scale_and_constant_scores():
    retrieval, transition = np.array([0.1, 0.3, 0.2]), np.array([5.0, 0.0, 1.0])
    np.testing.assert_allclose(blend_scores(retrieval * 7 + 3, transition, -2 * transition, 0.4, 0.0), blend_scores(retrieval, transition, transition, 0.2, 0.2))
    np.testing.assert_allclose(blend_scores(retrieval, np.full(3, 2.0), np.full(3, 1.0), 0.4, 0.2), blend_scores(retrieval, transition, transition, 0.0, 0.0))
    assert len(blend_scores(np.zeros(0), np.zeros(0), np.zeros(0), 1.0, 1.0)) == 0
