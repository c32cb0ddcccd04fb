"""The query tower's inputs: the same whatever the padding, and blind to what no request time can know."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.query import (
    CONTEXT_WIDTH,
    EVENT_WIDTH,
    MIN_GAP_SECONDS,
    PROFILE_WIDTH,
    QUERY_INPUTS,
    Context,
    History,
    Profile,
    bucket,
    context_features,
    event_features,
    profile_features,
    query_inputs,
)

NOW = datetime(2026, 3, 31, 21, tzinfo=UTC)
ANYONE = Profile("p1", "AA")


def history(*days_ago: float, **given) -> History:
    n = len(days_ago)
    return History([f"t{i}" for i in range(n)], [(NOW - timedelta(days=d)).timestamp() for d in days_ago],
                   given.get("completion", [0.5] * n), given.get("rating", [np.nan] * n))


def vectors(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)


def test_names_and_shapes_are_what_the_tower_reads():
    inputs = query_inputs(history(3, 2, 1), vectors(3), ANYONE, Context(NOW), 5)
    assert tuple(inputs) == QUERY_INPUTS
    shapes = [(1, 5, 4), (1, 5, EVENT_WIDTH), (1, 5), (1, PROFILE_WIDTH), (1, CONTEXT_WIDTH)]
    assert [array.shape for array in inputs.values()] == shapes
    assert {array.dtype for array in inputs.values()} == {np.dtype(np.float32)}


def test_more_padding_adds_zeros_only():
    short, long = (query_inputs(history(3, 2, 1), vectors(3), ANYONE, Context(NOW), length) for length in (3, 8))
    for name in QUERY_INPUTS[:3]:
        assert np.array_equal(long[name][:, :3], short[name])
        assert not long[name][:, 3:].any()


def test_the_newest_plays_stay_when_a_history_is_too_long():
    cut = query_inputs(history(4, 3, 2, 1), vectors(4), ANYONE, Context(NOW), 2)
    own = query_inputs(history(2, 1), vectors(4)[2:], ANYONE, Context(NOW), 2)
    assert all(np.array_equal(cut[name], own[name]) for name in QUERY_INPUTS)


def test_an_empty_history_is_all_padding():
    inputs = query_inputs(History(), np.zeros((0, 4), np.float32), ANYONE, Context(NOW), 3)
    assert not inputs["history_mask"].any()
    assert inputs["profile"].any()


def test_a_vector_missing_is_refused():
    with pytest.raises(ValueError, match="3 history events and 2 vectors"):
        query_inputs(history(3, 2, 1), vectors(2), ANYONE, Context(NOW), 5)


@given(st.floats(0, MIN_GAP_SECONDS), st.floats(0, MIN_GAP_SECONDS))
def test_gaps_of_one_page_are_all_the_same(one, other):
    """A gap of 0 would say "acted on the same page", which a request cannot know."""
    a, b = (event_features([1000.0], [1000.0 + gap], [np.nan], [np.nan]) for gap in (one, other))
    assert np.array_equal(a, b)
    assert a[0, 0] == 0.0


def test_gaps_grow_beyond_the_clip_and_a_clock_that_ran_back_is_clipped():
    day = event_features([0.0], [86400.0], [1.0], [5.0])[0]
    week = event_features([0.0], [7 * 86400.0], [1.0], [5.0])[0]
    assert week[0] > day[0] > 0
    assert day[1] == 0.0
    assert event_features([1000.0], [0.0], [1.0], [5.0])[0, 0] == 0.0


def test_unknown_completion_and_rating_have_their_own_flag():
    known, unknown = event_features([0, 0], [1, 1], [0.0, np.nan], [3.0, np.nan])
    assert known[2] == unknown[2]
    assert known[4] == unknown[4]
    assert not np.array_equal(known, unknown)


def test_the_profile_id_is_not_a_feature():
    assert np.array_equal(profile_features(ANYONE), profile_features(Profile("somebody else", "AA")))
    assert not np.array_equal(profile_features(ANYONE), profile_features(Profile("p1", "BB")))
    assert not np.array_equal(profile_features(ANYONE), profile_features(Profile("p1", "AA", is_kids=True)))
    assert not np.array_equal(profile_features(ANYONE), profile_features(Profile("p1", "AA", attributes=["age=25"])))


@given(st.text(), st.integers(1, 100))
def test_buckets_are_in_range_and_blind_to_case(text, width):
    assert 0 <= bucket(text, width) < width
    assert bucket("Gênre=Drama".lower(), width) == bucket("gênre=drama", width)


def test_known_buckets_stay_where_they_are():
    """A trained tower depends on them."""
    assert [bucket(text, 64) for text in ("market=AA", "language=en", "genre=Drama")] == [62, 40, 32]


def test_context_features_tell_device_time_and_weekend():
    tuesday = context_features(Context(NOW, "tv"))
    assert tuesday[0] == 1.0
    assert tuesday[-1] == 0.0
    assert context_features(Context(NOW + timedelta(days=4), "tv"))[-1] == 1.0
    assert np.array_equal(context_features(Context(NOW, "fridge")), context_features(Context(NOW, "")))
    assert not np.array_equal(tuesday, context_features(Context(NOW - timedelta(hours=12), "tv")))
