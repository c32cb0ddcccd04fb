"""The transition table against a brute-force oracle, and what it must not contain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.neighbours import NeighbourTable, transition_scores
from jobs.index.transitions import transitions


def brute_force(profile, title, age, reach, per_title, half_life, shrinkage):
    weights: dict[tuple[int, int], float] = {}
    for i in range(len(title)):
        for j in range(i + 1, min(i + reach, len(title) - 1) + 1):
            if profile[i] == profile[j] and title[i] != title[j]:
                weight = (0.5 ** (age[j] / half_life) if half_life else 1.0) / (j - i)
                weights[title[i], title[j]] = weights.get((title[i], title[j]), 0.0) + weight
    rows = []
    for source in sorted({s for s, _ in weights}):
        mine = {t: w for (s, t), w in weights.items() if s == source}
        total = sum(mine.values()) + shrinkage
        best = sorted(mine, key=lambda t: (-np.float32(mine[t] / total), t))[:per_title]
        rows += [(source, t, mine[t] / total) for t in best]
    return rows


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=40),
    st.integers(1, 5), st.integers(1, 4), st.sampled_from([0.0, 3.0]), st.sampled_from([0.0, 2.0]),
)
@settings(max_examples=150, deadline=None)
def test_transitions_equal_brute_force(plays, reach, per_title, half_life, shrinkage):
    plays = sorted(plays, key=lambda row: row[0])
    profile, title = (np.array([row[k] for row in plays], np.int64) for k in (0, 1))
    age = np.linspace(10, 0, len(plays))
    source, target, weight = transitions(profile, title, age, reach, per_title, half_life, shrinkage)
    expected = brute_force(profile, title, age, reach, per_title, half_life, shrinkage)
    assert len(source) == len(expected)
    assert source.tolist() == [row[0] for row in expected]
    np.testing.assert_allclose(weight, [row[2] for row in expected], rtol=1e-5)
    found = {(s, t): w for s, t, w in zip(source, target, weight)}
    for s, t, w in expected:  # equal weights may swap at the cut
        assert (s, t) not in found or found[s, t] == pytest.approx(w, rel=1e-5)


def table() -> NeighbourTable:
    return NeighbourTable.from_arrays(["a", "a", "b", "c"], ["b", "c", "c", "a"], [0.5, 0.25, 1.0, 0.75])


def test_newer_plays_weigh_more():
    """Half-life of one play: the newest votes fully, the one before it half."""
    assert transition_scores(["a", "b"], ["a", "b", "c", "unknown"], table()).tolist() == [0.0, 0.25, 1.125, 0.0]
    assert transition_scores(["a", "b"], ["c"], table(), half_life=2.0)[0] == pytest.approx(1.0 + 0.25 * 0.5**0.5)


def test_titles_without_transitions_vote_for_nothing():
    assert transition_scores([], ["a"], table()).tolist() == [0.0]
    assert transition_scores(["unknown"], ["a"], table()).tolist() == [0.0]
    assert table().top(["unknown"], 3) == []
    empty = NeighbourTable.from_arrays([], [], [])
    assert transition_scores(["a"], ["a"], empty).tolist() == [0.0]


def test_neighbours_and_top_come_strongest_first():
    names, weight = table().neighbours("a")
    assert names == ["b", "c"]
    assert weight.tolist() == [0.5, 0.25]
    assert table().top(["a", "b"], 1) == ["c"]
    with pytest.raises(ValueError, match="columns of 1, 2 and 1"):
        NeighbourTable.from_arrays(["a"], ["b", "c"], [1.0])
