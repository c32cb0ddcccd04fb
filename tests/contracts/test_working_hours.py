"""A question's time against a clock that is advanced minute by minute."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import UsageError
from contracts.working_hours import due, parse

BERLIN = "mon-fri 09:00-18:00 Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def minute_by_minute(asked: datetime, minutes: int, text: str) -> datetime:
    hours = parse(text)
    while minutes:
        local = asked.astimezone(hours.zone)
        minutes -= local.weekday() in hours.days and hours.opens <= local.time() < hours.closes
        asked += timedelta(minutes=1)
    return asked


@pytest.mark.parametrize(("asked", "hours", "expected"), [
    ("2026-11-20T17:00+01:00", 2, "2026-11-23T10:00+01:00"),  # Friday evening to Monday morning
    ("2026-11-21T12:00+01:00", 9, "2026-11-23T18:00+01:00"),  # Saturday: a whole Monday
    ("2026-11-24T09:30+01:00", 1, "2026-11-24T10:30+01:00"),
    ("2026-03-27T17:30+01:00", 1, "2026-03-30T09:30+02:00"),  # summer time begins between
])
def test_only_working_hours_count(asked, hours, expected):
    assert due(at(asked), hours, parse(BERLIN)) == at(expected)


@settings(max_examples=25, deadline=None)
@given(st.datetimes(datetime(2026, 3, 1), datetime(2026, 4, 10)), st.integers(1, 1200),
       st.sampled_from([BERLIN, "sun-thu 08:30-16:00 Asia/Riyadh", "mon,wed 00:00-23:59 America/New_York", "sat-sun 10:00-11:00 UTC"]))
def test_as_counted_minute_by_minute(moment, minutes, text):
    asked = moment.replace(tzinfo=UTC, second=0, microsecond=0)
    assert due(asked, minutes / 60, parse(text)) - minute_by_minute(asked, minutes, text) < timedelta(seconds=1)


def test_round_the_clock():
    assert parse(" ") is None
    assert due(at("2026-11-21T12:00+00:00"), 24, None) == at("2026-11-22T12:00+00:00")


@pytest.mark.parametrize("text", ["mon-fri", "mon-fry 09:00-18:00 UTC", "mon-fri 18:00-09:00 UTC", "mon-fri 9-18 UTC", "mon-fri 09:00-18:00 Mars/City"])
def test_what_cannot_be_read_is_said(text):
    with pytest.raises(UsageError, match="MARQUEE_WORKING_HOURS"):
        parse(text)
