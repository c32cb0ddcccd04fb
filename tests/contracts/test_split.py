from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.split import split_for

DAYS = st.dates(date(1995, 1, 1), date(2100, 1, 1))


def test_one_day_night_splits_as_the_architecture_says():
    split = split_for(date(2026, 3, 31), date(2026, 3, 31))
    assert split.retriever_end == datetime(2026, 3, 30, tzinfo=UTC)  # sees up to D-2
    assert split.ranker_end == datetime(2026, 3, 31, tzinfo=UTC)  # learns on D-1
    assert split.judge_end == datetime(2026, 4, 1, tzinfo=UTC)  # judged on D
    assert split.counts_day == date(2026, 3, 29)


@given(DAYS, st.integers(1, 60))
def test_blocks_are_equal_and_do_not_overlap(first, days):
    split = split_for(first, first + timedelta(days=days - 1))
    assert split.ranker_end - split.retriever_end == split.judge_end - split.ranker_end == timedelta(days=days)
    assert split.ranker_end.date() == first


@given(DAYS, st.integers(1, 60), st.floats(0, 0.999))
def test_counts_are_as_old_in_training_as_in_serving(first, days, moment):
    """ADR 4: at the same place within a block, the age of the newest counted event is the same."""
    split = split_for(first, first + timedelta(days=days - 1))
    served = split.judge_end + moment * split.block
    trained = split.retriever_end + moment * split.block
    assert served - split.retriever_end == trained - (trained - split.counts_lag - moment * split.block)


def test_interval_that_ends_before_it_begins_is_refused():
    with pytest.raises(ValueError, match="before it begins"):
        split_for(date(2026, 1, 2), date(2026, 1, 1))
