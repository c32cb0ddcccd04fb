"""Co-watch weights against the definition (one ridge regression a title), and what they must not contain."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.neighbours import NeighbourTable, cowatch_scores
from jobs.index.config import IndexConfig
from jobs.index.cowatch import _invert, cowatch


def regressions(profile, title, titles, ridge):
    """(T,T) EASE by its definition: every title regressed on the others with a ridge, one after the other."""
    watched = np.zeros((max(profile, default=0) + 1, titles))
    watched[profile, title] = 1.0
    weight = np.zeros((titles, titles))
    for j in range(titles):
        others = [i for i in range(titles) if i != j]
        x = watched[:, others]
        weight[others, j] = np.linalg.solve(x.T @ x + ridge * np.eye(titles - 1), x.T @ watched[:, j])
    return weight


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 5)), min_size=1, max_size=40), st.sampled_from([0.5, 3.0]))
@settings(max_examples=100, deadline=None)
def test_equal_to_one_regression_a_title(plays, ridge):
    profile, title = (np.array([row[k] for row in plays], np.int64) for k in (0, 1))
    titles = int(title.max()) + 1
    source, target, weight = cowatch(profile, title, settled(100, 100, ridge))
    found = np.zeros((titles, titles))
    found[source, target] = weight
    np.testing.assert_allclose(found, regressions(profile, title, titles, ridge), atol=2e-6)
    assert not (source == target).any()
    order = np.lexsort((target, -weight, source))
    assert order.tolist() == list(range(len(source)))


def settled(titles: int, per_title: int, ridge: float, **more) -> IndexConfig:
    return IndexConfig(cowatch_titles=titles, cowatch_share=0.0, cowatch_per_title=per_title, cowatch_regularization=ridge, **more)


def as_matrix(found, titles: int = 26) -> np.ndarray:
    matrix = np.zeros((titles, titles))
    matrix[found[0], found[1]] = found[2]
    return matrix


def plays() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    return random.integers(0, 60, 900), np.minimum(random.geometric(0.12, 900), 25)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_catalogue_too_large_for_one_matrix_is_modelled_title_by_title(monkeypatch, dropout):
    """From all others the same weights come out; from the nearest the largest of them, nearly."""
    monkeypatch.setattr("jobs.index.cowatch.PRODUCTS_AT_ONCE", 100)
    random = np.random.default_rng(5)
    profile, title = random.integers(0, 60, 600), random.integers(0, 12, 600)  # each two have profiles in common
    dense = as_matrix(cowatch(profile, title, settled(100, 100, 5.0, cowatch_dropout=dropout)))
    large = replace(settled(4, 100, 5.0, cowatch_dropout=dropout), cowatch_share=0.95)
    alone = as_matrix(cowatch(profile, title, replace(large, cowatch_nearest=100)))
    np.testing.assert_allclose(alone, dense, atol=2e-6)
    near = cowatch(profile, title, replace(large, cowatch_nearest=3, cowatch_per_title=2))
    assert max(np.bincount(near[1])) <= 3
    assert max(np.bincount(near[0])) <= 2
    assert np.lexsort((near[1], -near[2], near[0])).tolist() == list(range(len(near[0])))
    most = cowatch(profile, title, replace(large, cowatch_nearest_titles=6))
    assert len(set(most[0]) | set(most[1])) == 6


def test_a_matrix_that_holds_nearly_all_plays_is_enough():
    profile, title = plays()
    few = settled(20, 100, 5.0)
    watched = np.unique(np.stack([profile, title]), axis=1)
    share = np.isin(watched[1], cowatch(profile, title, few)[0]).mean()
    assert 0.8 < share < 1.0
    titles = [len(set(cowatch(profile, title, replace(few, cowatch_share=share + more))[0])) for more in (-1e-9, 1e-9)]
    assert titles == [20, 25]


def test_dropout_completes_histories_of_which_a_part_is_missing():
    """Against what it stands for: the ridge regression of whole histories on every history with each title dropped at random,
    over many draws (Steck, NeurIPS 2020, section 3)."""
    profile, title = plays()
    watched = np.zeros((60, 26))
    watched[profile, title] = 1.0
    random, draws, dropout, ridge = np.random.default_rng(1), 4000, 0.4, 5.0
    gram, wanted = np.zeros((26, 26)), np.zeros((26, 26))
    for _ in range(draws):
        kept = watched * (random.random(watched.shape) >= dropout)
        gram += kept.T @ kept / draws
        wanted += kept.T @ watched / draws
    keep = 1.0 - dropout
    # of a history that is not dropped from when it votes: the same weights, one over the share kept larger
    weight = np.linalg.solve(gram / keep**2 + ridge * np.eye(26), wanted / keep)
    np.fill_diagonal(weight, 0.0)
    found = as_matrix(cowatch(profile, title, settled(100, 100, ridge, cowatch_dropout=dropout)))
    np.testing.assert_allclose(found, weight, atol=0.01)


@pytest.mark.parametrize("size", [1, 2, 5, 8, 50, 67])
def test_inverted_by_halves(size, monkeypatch):
    monkeypatch.setattr("jobs.index.cowatch.LAPACK_TITLES", 4)
    drawn = np.random.default_rng(size).normal(size=(size, 2 * size))
    matrix = drawn @ drawn.T + np.eye(size)
    inverse = matrix.copy()
    _invert(inverse)
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix), rtol=1e-7, atol=1e-10)


def test_the_largest_weights_of_each_title_stay_of_either_sign():
    profile, title = plays()
    whole = {(s, t): w for s, t, w in zip(*cowatch(profile, title, settled(100, 100, 5.0)))}
    kept = {(s, t): w for s, t, w in zip(*cowatch(profile, title, settled(100, 3, 5.0)))}
    assert kept.items() <= whole.items()
    assert min(kept.values()) < 0 < max(kept.values())
    for source in {s for s, _ in whole}:
        mine = sorted((abs(w) for (s, _), w in whole.items() if s == source), reverse=True)[:3]
        assert sorted((abs(w) for (s, _), w in kept.items() if s == source), reverse=True) == mine


def test_only_the_titles_that_most_profiles_played_are_modelled():
    profile, title = plays()
    source, target, _ = cowatch(profile, title, settled(4, 100, 5.0))
    watchers = [len(set(profile[title == t])) for t in range(26)]
    assert set(source) | set(target) == set(np.argsort(-np.array(watchers), kind="stable")[:4])


def test_a_second_play_of_a_title_adds_nothing():
    profile, title = plays()
    again = cowatch(np.repeat(profile, 2), np.repeat(title, 2), settled(100, 100, 5.0))
    for one, other in zip(cowatch(profile, title, settled(100, 100, 5.0)), again):
        np.testing.assert_array_equal(one, other)


def test_no_plays_no_neighbours():
    none = np.zeros(0, np.int64)
    assert [len(part) for part in cowatch(none, none, settled(10, 10, 1.0))] == [0, 0, 0]


def test_every_title_of_a_history_votes_once_and_alike():
    table = NeighbourTable.from_arrays(["a", "b", "b"], ["c", "c", "a"], [0.5, -0.25, 1.0])
    assert cowatch_scores(["a", "b", "a"], ["c", "a", "unknown"], table).tolist() == [0.25, 1.0, 0.0]
    assert cowatch_scores([], ["c"], table).tolist() == [0.0]


@pytest.mark.parametrize(("older", "counts"), [(199, True), (200, False)])
def test_the_newest_two_hundred_titles_vote(older, counts):
    table = NeighbourTable.from_arrays(["a"], ["c"], [0.5])
    assert bool(cowatch_scores(["a", *(f"x{i}" for i in range(older))], ["c"], table)[0]) is counts
