"""Full-ranking figures against brute force and scikit-learn; ties, exclusions and empty requests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from contracts.errors import MarqueeError
from jobs.evaluation.ranking import Pairs, bounds, exclude, figures, places, top


def by_hand(scores_T, seen, relevant, k):
    """(hit, recall, ndcg, reciprocal rank) by sorting everything."""
    order = [t for t in sorted(range(len(scores_T)), key=lambda t: (-scores_T[t], t)) if t not in seen or t in relevant]
    gains = [1.0 if t in relevant else 0.0 for t in order]
    dcg = sum(g / np.log2(i + 2) for i, g in enumerate(gains[:k]))
    ideal = sum(1 / np.log2(i + 2) for i in range(min(k, len(relevant))))
    first = next((1 / (i + 1) for i, g in enumerate(gains) if g), 0.0)
    return float(any(gains[:k])), sum(gains[:k]) / len(relevant), dcg / ideal, first


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(2, 12), st.integers(1, 15))
def test_the_same_as_sorting_everything_with_ties_by_place_in_the_catalogue(seed, requests, titles, k):
    random = np.random.default_rng(seed)
    scores_QT = random.integers(0, 4, (requests, titles)).astype(float)  # many ties
    seen = [set(random.choice(titles, random.integers(0, titles), replace=False).tolist()) for _ in range(requests)]
    relevant = [set(random.choice(titles, random.integers(1, titles), replace=False).tolist()) for _ in range(requests)]
    pairs = [Pairs(*np.array([(q, t) for q, ts in enumerate(sets) for t in sorted(ts)] or np.zeros((0, 2)), int).T) for sets in (seen, relevant)]
    expected = np.array([by_hand(s, a, b, k) for s, a, b in zip(scores_QT, seen, relevant)])
    exclude(scores_QT, *pairs)
    found = figures(places(scores_QT, pairs[1]), pairs[1].request, requests, [k])
    for column, name in enumerate((f"hr@{k}", f"recall@{k}", f"ndcg@{k}", "mrr")):
        np.testing.assert_allclose(found[name], expected[:, column], atol=1e-12)
    for scores_T in scores_QT:
        allowed = [t for t in np.argsort(-scores_T, kind="stable") if scores_T[t] > -np.inf]
        assert top(scores_T, k).tolist() == allowed[:k]


def test_ndcg_is_scikit_learns_where_there_are_no_ties():
    random = np.random.default_rng(1)
    scores_QT = random.permuted(np.tile(np.arange(50.0), (20, 1)), axis=1)
    wanted_QT = random.random((20, 50)) < 0.1
    wanted_QT[:, 0] = True
    relevant = Pairs(*np.nonzero(wanted_QT))
    found = figures(places(scores_QT, relevant), relevant.request, 20, [10])["ndcg@10"]
    np.testing.assert_allclose(found.mean(), ndcg_score(wanted_QT, scores_QT, k=10))


def test_a_request_without_a_relevant_title_counts_as_nothing_found():
    found = figures(np.array([0]), np.array([1]), 2, [5])
    assert [values.tolist() for values in found.values()] == [[0.0, 1.0]] * 4


def test_bounds_hold_the_mean_and_narrow_with_more_requests():
    values = np.tile([0.0, 1.0], 50)
    low, high = bounds(values, seed=1)
    assert low < 0.5 < high
    wide = high - low
    low, high = bounds(np.tile(values, 25), seed=1)
    assert high - low == pytest.approx(wide / 5, rel=0.3)


def test_a_score_that_is_no_number_wins_nothing():
    with pytest.raises(MarqueeError, match="1 of 6 scores are no number"):
        places(np.array([[1.0, np.nan, 2.0], [1.0, 2.0, -np.inf]]), Pairs(np.array([0]), np.array([1])))


def test_a_cut_off_costs_no_memory_of_its_own_size():
    found = figures(np.array([0, 3]), np.array([0, 1]), 2, [10**12])
    assert found[f"ndcg@{10**12}"].tolist() == [1.0, pytest.approx(1 / np.log2(5))]
