"""Metrics against oracles that are written another way, and against scikit-learn where it has them."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from jobs.bootstrap import PairedBootstrap
from jobs.evaluation import metrics

TITLES = [f"t{i}" for i in range(30)]
ranked_lists = st.permutations(TITLES).map(lambda titles: titles[:20])
relevances = st.dictionaries(st.sampled_from(TITLES), st.integers(1, 3), min_size=1, max_size=12)


@given(ranked_lists, relevances)
def test_hits_rank_and_recall_by_brute_force(ranked, relevant):
    places = [place for place in range(10) if ranked[place] in relevant]
    assert metrics.hit_rate(ranked, relevant) == (1.0 if places else 0.0)
    assert metrics.reciprocal_rank(ranked, relevant) == pytest.approx(1 / (places[0] + 1) if places else 0.0)
    found = sum(1 for title in relevant if title in ranked[:15])
    assert metrics.recall(ranked, relevant, 15) == pytest.approx(found / len(relevant))


@given(st.permutations(TITLES), relevances)
def test_ndcg_is_scikit_learns(ranked, relevant):
    gains = [[2.0 ** relevant.get(title, 0) - 1 for title in ranked]]
    scores = [[float(len(ranked) - place) for place in range(len(ranked))]]
    assert metrics.ndcg(ranked, relevant) == pytest.approx(ndcg_score(gains, scores, k=10))


def test_ndcg_counts_what_was_never_ranked():
    assert metrics.ndcg(["a"], {"a": 1, "b": 1}) == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert metrics.ndcg(["b", "a"], {"a": 3}) < metrics.ndcg(["a", "b"], {"a": 3}) == 1.0
    assert metrics.ndcg(["a"], {}) == metrics.recall(["a"], {}) == 0.0


def test_coverage_and_popularity_look_at_the_first_ten_places_only():
    shelves = [TITLES[:15], TITLES[5:20]]
    assert metrics.coverage(shelves, 30) == pytest.approx(15 / 30)
    assert metrics.popularity_share(shelves, frozenset(TITLES[:5])) == pytest.approx(5 / 20)
    assert metrics.coverage([], 30) == metrics.popularity_share([], frozenset()) == 0.0


@given(st.lists(st.sets(st.sampled_from("abcd")), min_size=2, max_size=8))
def test_diversity_by_brute_force(genres):
    shelf = [f"x{i}" for i in range(len(genres))]
    pairs = [1 - (len(a & b) / len(a | b) if a | b else 1) for a, b in combinations(genres, 2)]
    assert metrics.intra_list_diversity(shelf, dict(zip(shelf, genres))) == pytest.approx(sum(pairs) / len(pairs))


def test_calibration_is_zero_at_the_history_s_shares_and_grows_away_from_them():
    genres = {"d": ["drama"], "c": ["crime"], "x": ["drama", "crime"]}
    assert metrics.miscalibration(["x"], ["d", "c"], genres) == pytest.approx(0.0, abs=1e-9)
    assert metrics.miscalibration(["d"], ["c"], genres) > metrics.miscalibration(["x"], ["c"], genres) > 0
    assert np.isnan(metrics.miscalibration(["d"], [], genres))


class TestPairedBootstrap:
    def test_the_same_seed_gives_the_same_bounds(self):
        values = np.random.default_rng(0).normal(size=50)
        profiles = [f"p{i % 20}" for i in range(50)]
        one, other = (PairedBootstrap(profiles, 200, 7).bounds(values) for _ in range(2))
        assert one == other
        assert one[0] < values.mean() < one[1]

    def test_each_bound_holds_about_as_often_as_it_says(self):
        """Of 200 drawn worlds, the lower 95 % bound lies above the true mean in about 5 %."""
        rng = np.random.default_rng(1)
        above = below = 0
        for world in range(200):
            values = rng.exponential(size=80) - 1.0  # mean 0, skewed
            low, high = PairedBootstrap([f"p{i}" for i in range(80)], 300, world).bounds(values)
            above, below = above + (low > 0), below + (high < 0)
        assert 1 <= above <= 24
        assert 1 <= below <= 30

    def test_requests_of_one_profile_are_not_independent(self):
        """The same value ten times over is no more evidence than once."""
        values = np.random.default_rng(2).normal(size=30)
        once = PairedBootstrap([f"p{i}" for i in range(30)], 500, 3).bounds(values)
        repeated = PairedBootstrap([f"p{i}" for i in range(30) for _ in range(10)], 500, 3).bounds(np.repeat(values, 10))
        assert repeated == pytest.approx(once)

    def test_nan_and_masked_rows_are_left_out(self):
        values = np.array([1.0, np.nan, 1.0, -100.0])
        bootstrap = PairedBootstrap(["a", "b", "c", "d"], 100, 1)
        assert bootstrap.bounds(values, np.array([True, True, True, False])) == (1.0, 1.0)
        assert np.isnan(bootstrap.bounds(np.full(4, np.nan))).all()
