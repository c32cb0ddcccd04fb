"""The time split of a night: who may learn from which days. Day D is the night's landed interval, a block of one or
more days; the blocks before it have the same length.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

COUNTS_LAG_BLOCKS = 2
"""Serving shows day D+1 with title counts that end with D-2, so ranker rows read counts two blocks older too."""


@dataclass(frozen=True)
class TimeSplit:
    """Half-open spans in UTC: retriever and counts [.., retriever_end), ranker [retriever_end, ranker_end),
    judge [ranker_end, judge_end)."""

    retriever_end: datetime
    ranker_end: datetime
    judge_end: datetime

    @property
    def block(self) -> timedelta:
        return self.judge_end - self.ranker_end

    @property
    def counts_lag(self) -> timedelta:
        """How much older than the request the title counts of a ranker row are."""
        return COUNTS_LAG_BLOCKS * self.block

    @property
    def counts_day(self) -> date:
        """The last snapshot day of title counts that a release built tonight ships with."""
        return (self.retriever_end - timedelta(days=1)).date()


def split_for(first: date, last: date) -> TimeSplit:
    """The split of the night whose landed interval is `first`..`last`, both included."""
    if last < first:
        raise ValueError(f"interval ends ({last}) before it begins ({first})")
    judge_start = datetime(first.year, first.month, first.day, tzinfo=UTC)
    block = timedelta(days=(last - first).days + 1)
    return TimeSplit(judge_start - block, judge_start, judge_start + block)
