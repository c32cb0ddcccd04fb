"""The attention curve on logs whose truth is known."""

import json

import numpy as np
import pytest

from jobs.attention import Attention, estimate

PLACES = np.arange(1, 16)
TRUTH = (1 + (PLACES - 1) / 4.0) ** -1.2


def logged(rng: np.random.Generator, attention_S: np.ndarray, rows: int, appeal: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Places and plays of titles that appeal alike."""
    place_N = rng.integers(1, len(attention_S) + 1, rows)
    return place_N, rng.random(rows) < appeal * attention_S[place_N - 1]


def test_exploration_slots_give_the_curve_and_ranked_slots_do_not_move_it():
    rng = np.random.default_rng(0)
    place_N, played_N = logged(rng, TRUTH, 150_000)
    ranked_N = rng.integers(1, 16, 150_000)
    liked_N = rng.random(150_000) < 0.9 / ranked_N**2  # a policy that puts what appeals first
    found = estimate(np.append(place_N, ranked_N), np.append(played_N, liked_N), np.repeat([True, False], 150_000))
    assert found.kind == "exploration"
    assert found.shown.sum() == 150_000
    np.testing.assert_allclose(found.at(PLACES[:10]), TRUTH[:10], rtol=0.1)
    assert (found.bounds[0] <= found.curve + 1e-9).all()
    assert (found.bounds[1] >= found.curve - 1e-9).all()
    assert 0.01 < found.bounds[1, 5] - found.bounds[0, 5] < 0.15
    assert "exploration slots" in found.in_words()


@pytest.mark.parametrize("attention_S", [np.ones(15), np.where(PLACES <= 5, 1.0, 0.25), np.exp(-(PLACES - 1) / 4)],
                         ids=["flat", "a fold after five", "exponential"])
def test_other_shapes_are_followed_too(attention_S):
    place_N, played_N = logged(np.random.default_rng(1), attention_S, 200_000)
    found = estimate(place_N, played_N, np.ones(200_000, bool))
    np.testing.assert_allclose(found.curve[:10], attention_S[:10], rtol=0.12)
    assert (np.diff(found.curve) <= 1e-9).all()


def test_a_device_has_its_own_curve_where_it_differs_and_there_is_enough():
    rng = np.random.default_rng(2)
    steep, rows = PLACES ** -1.5, 60_000
    parts = [("tv", TRUTH, rows), ("mobile", steep, rows), ("watch", PLACES**-4.0, 6_000)]
    place_N, played_N = map(np.concatenate, zip(*(logged(rng, curve, n) for _, curve, n in parts)))
    device_N = np.repeat([name for name, _, _ in parts], [n for _, _, n in parts])
    found = estimate(place_N, played_N, np.ones(len(place_N), bool), device_N=device_N)
    assert set(found.by_device) == {"tv", "mobile"}
    assert found.at(6, "mobile") < found.at(6) < found.at(6, "tv")
    assert found.at(6, "watch") == found.at(6, "unheard of") == found.at(6)
    alike = estimate(place_N[:rows], played_N[:rows], np.ones(rows, bool), device_N=np.resize(["tv", "web"], rows))
    assert not alike.by_device


def test_without_exploration_titles_at_several_places_tell_attention_from_appeal():
    rng = np.random.default_rng(3)
    appeal_T = rng.uniform(0.05, 0.6, 300)
    title_N = rng.integers(0, 300, 200_000)
    # what appeals is shown first, more often than not: the plain rate by place is far too steep
    place_N = np.clip(np.round(15 * (1 - appeal_T[title_N]) - 5 + rng.normal(0, 4, len(title_N))), 1, 15).astype(int)
    played_N = rng.random(len(title_N)) < appeal_T[title_N] * TRUTH[place_N - 1]
    found = estimate(place_N, played_N, np.zeros(len(title_N), bool), title_N)
    assert found.kind == "em"
    np.testing.assert_allclose(found.curve[:10], TRUTH[:10], rtol=0.1)
    rate_S = np.bincount(place_N, played_N)[1:] / np.bincount(place_N)[1:]
    assert np.abs(rate_S / rate_S[0] / TRUTH - 1)[:10].max() > 0.2


def test_counts_say_what_single_rows_say():
    rng = np.random.default_rng(4)
    place_N, played_N = logged(rng, TRUTH, 50_000)
    single = estimate(place_N, played_N, np.ones(50_000, bool))
    cell_S = np.bincount(place_N)[1:]
    joined = estimate(PLACES, np.bincount(place_N, played_N)[1:], np.ones(15, bool), shown_N=cell_S)
    assert joined.as_json() == single.as_json()


def test_too_few_plays_give_no_curve():
    rng = np.random.default_rng(5)
    place_N, played_N = logged(rng, TRUTH, 500)
    found = estimate(place_N, played_N, np.ones(500, bool), np.arange(500))
    assert found.kind == "none"
    assert found.at([1, 7, np.nan]).tolist() == [1, 1, 1]
    assert "every place counts alike" in found.in_words()


def test_an_empty_log_and_missing_places():
    assert estimate([], [], [], []).kind == "none"
    rng = np.random.default_rng(6)
    place_N, played_N = logged(rng, TRUTH, 50_000)
    holes_N = np.where(np.arange(50_000) % 10 == 0, np.nan, place_N)
    assert estimate(holes_N, played_N, np.ones(50_000, bool)).shown.sum() == 45_000


def test_places_beyond_the_curve_take_its_last_value_and_missing_ones_count_fully():
    found = Attention("exploration", np.array([1.0, 0.5, 0.25]))
    assert found.at([1, 3, 40, np.nan]).tolist() == [1.0, 0.25, 0.25, 1.0]
    assert found.at(np.array([[2, 2]])).shape == (1, 2)


def test_the_json_is_plain():
    place_N, played_N = logged(np.random.default_rng(7), TRUTH, 50_000)
    found = estimate(place_N, played_N, np.ones(50_000, bool), device_N=np.resize(["tv", "web"], 50_000))
    assert json.loads(json.dumps(found.as_json())) == found.as_json()
    assert found.as_json() == estimate(place_N, played_N, np.ones(50_000, bool), device_N=np.resize(["tv", "web"], 50_000)).as_json()
