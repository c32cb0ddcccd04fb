"""Time that counts only while people work: when a question is due that was asked on a Friday evening."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from contracts.errors import UsageError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FORM = re.compile(r"(?P<days>[a-z,-]+) (?P<opens>\d\d:\d\d)-(?P<closes>\d\d:\d\d) (?P<zone>\S+)")


@dataclass(frozen=True)
class WorkingHours:
    """Weekdays (Monday 0) on which the clock of a question runs from `opens` to `closes`, local time of `zone`."""

    days: frozenset[int]
    opens: time
    closes: time
    zone: ZoneInfo

    def spans(self, start: datetime) -> Iterator[tuple[datetime, datetime]]:
        """(from, to) in UTC of each working day that ends after `start`, in order, without end."""
        day = start.astimezone(self.zone).date()
        while True:
            if day.weekday() in self.days:
                opens, closes = self._utc(day, self.opens), self._utc(day, self.closes)
                if closes > start:
                    yield max(opens, start), closes
            day += timedelta(days=1)

    def _utc(self, day: date, at: time) -> datetime:
        return datetime.combine(day, at, self.zone).astimezone(UTC)


def parse(text: str) -> WorkingHours | None:
    """`mon-fri 09:00-18:00 Europe/Berlin`; None for an empty text: the clock runs day and night. UsageError otherwise."""
    if not text.strip():
        return None
    found = FORM.fullmatch(" ".join(text.lower().split()[:2] + text.split()[2:]))
    try:
        days = frozenset(day for part in found["days"].split(",") for day in _days(part))
        hours = WorkingHours(days, time.fromisoformat(found["opens"]), time.fromisoformat(found["closes"]), ZoneInfo(found["zone"]))
    except (TypeError, ValueError, ZoneInfoNotFoundError, OSError):
        hours = None
    if hours is None or hours.opens >= hours.closes:
        raise UsageError(f"MARQUEE_WORKING_HOURS={text!r}: say it like `mon-fri 09:00-18:00 Europe/Berlin`, or leave it empty")
    return hours


def due(asked: datetime, hours: float, working: WorkingHours | None) -> datetime:
    """When so many (working) hours have passed since `asked`; UTC."""
    left, asked = timedelta(hours=hours), asked.astimezone(UTC)
    if working is None:
        return asked + left
    for opens, closes in working.spans(asked):
        if opens + left <= closes:
            return opens + left
        left -= closes - opens


def _days(part: str) -> Iterator[int]:
    """`wed` or `sun-thu`."""
    first, _, last = part.partition("-")
    day, end = DAYS.index(first), DAYS.index(last or first)
    yield day
    while day != end:
        day = (day + 1) % 7
        yield day
