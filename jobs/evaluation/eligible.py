"""The judge's own look at eligibility, from the ledger's log: independent of what the server filtered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from contracts.eligibility import Eligibility, Record
from jobs.evaluation.requests import Judged
from jobs.evaluation.shadow import Answer
from ledger import Ledger


@dataclass
class EligibilityLog:
    """The log, as of any of its numbers."""

    records: Sequence[Record]
    _states: dict[int, Eligibility] = field(default_factory=dict)
    _windows: dict[int, "Windows"] = field(default_factory=dict)
    _allowed: dict[tuple[int, str, int, int], frozenset[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, ledger: Ledger) -> "EligibilityLog":
        records: list[Record] = []
        while more := ledger.eligibility_since(records[-1].seq if records else 0):
            records += more
        return cls(records)

    @property
    def head(self) -> int:
        return self.records[-1].seq if self.records else 0

    def known_by(self, moment: datetime) -> "EligibilityLog":
        """Without what became known since: the log as it was when the night ended."""
        end = int(moment.timestamp())
        return EligibilityLog([record for record in self.records if record.known_at < end])

    def at(self, seq: int) -> Eligibility:
        if seq not in self._states:
            state = Eligibility()
            state.apply(record for record in self.records if record.seq <= seq)
            self._states[seq] = state
        return self._states[seq]

    def allowed(self, seq: int, market: str, limit: int, at: int, titles: Sequence[str]) -> frozenset[str]:
        """Which of the titles (the same ones at every call) may be shown; remembered, since many requests ask alike."""
        key = (seq, market, limit, at)
        if key not in self._allowed:
            if seq not in self._windows:
                self._windows[seq] = Windows([record for record in self.records if record.seq <= seq], titles)
            allowed_T = self._windows[seq].allowed_T(market, limit, at)
            self._allowed[key] = frozenset(titles[row] for row in np.flatnonzero(allowed_T))
        return self._allowed[key]


@dataclass(frozen=True)
class Violation:
    """A title that must not have been on a shelf, and why."""

    request_id: str
    title_id: str
    reason: str


def ineligible(judged: Sequence[Judged], answers: Sequence[Answer], log: EligibilityLog) -> list[Violation]:
    """Titles that the log, at the number that the answer names, does not allow at the moment of the request."""
    return [
        Violation(one.request_id, title, reason)
        for one, answer in zip(judged, answers, strict=True)
        for title in answer.titles
        if (reason := log.at(answer.eligibility_seq).why_not(title, one.market, one.maturity_limit, one.at))
    ]


def watched_again(judged: Sequence[Judged], answers: Sequence[Answer]) -> list[Violation]:
    """Watched titles on shelves that do not say that they are degraded (the last resort before an empty shelf)."""
    return [
        Violation(one.request_id, title, "watched")
        for one, answer in zip(judged, answers, strict=True) if not answer.degraded
        for title in answer.titles if title in one.watched
    ]


def needlessly_empty(judged: Sequence[Judged], answers: Sequence[Answer], log: EligibilityLog) -> list[str]:
    """Requests whose shelf was empty while the log had an eligible title for them."""
    return [
        one.request_id for one, answer in zip(judged, answers, strict=True)
        if answer.error is None and not answer.titles
        and any(log.at(answer.eligibility_seq).why_not(title, one.market, one.maturity_limit, one.at) is None
                for title in log.at(answer.eligibility_seq).maturity)
    ]


def allowed(titles: Iterable[str], one: Judged, state: Eligibility, at_most: int) -> list[str]:
    """The first `at_most` of the titles that the request could be shown and had not watched, each once."""
    kept: dict[str, None] = {}
    for title in titles:
        if len(kept) == at_most:
            break
        if title not in one.watched and state.why_not(title, one.market, one.maturity_limit, one.at) is None:
            kept[title] = None
    return list(kept)


def popular_order(fallback: Mapping[tuple[str, str], Sequence[str]], one: Judged) -> list[str]:
    """The market's fallback order, the profile's cohort first: the popularity baseline before filtering."""
    cohorts = ("kids", "general") if one.is_kids else ("general", "kids")
    return [title for cohort in cohorts for title in fallback.get((one.market, cohort), ())]


class Windows:
    """Who may see what, from the log's records: the newest version of each window and title, as arrays. Written without
    `contracts.eligibility`, which filter and guard share."""

    def __init__(self, records: Iterable[Record], title_ids: Sequence[str]) -> None:
        row_of = {title: row for row, title in enumerate(title_ids)}
        self.maturity_T = np.full(len(title_ids), np.inf)
        windows: dict[tuple[str, str, str], tuple[int, int, int]] = {}
        for record in records:
            row = row_of.get(record.title_id)
            if row is None:
                continue
            if record.kind == "title":
                self.maturity_T[row] = np.inf if record.maturity is None else record.maturity
            else:
                closes = record.opens_at if record.revoked else record.closes_at
                windows[record.market, record.title_id, record.window_id] = (row, record.opens_at, closes)
        by_market: dict[str, list[tuple[int, int, int]]] = {}
        for (market, _, _), window in windows.items():
            by_market.setdefault(market, []).append(window)
        self.windows = {market: np.array(found, np.int64) for market, found in by_market.items()}

    def allowed_T(self, market: str, limit: int, at: int) -> np.ndarray:
        """(T,) bool."""
        licensed_T = np.zeros(len(self.maturity_T), bool)
        if market in self.windows:
            row_W, opens_W, closes_W = self.windows[market].T
            licensed_T[row_W[(opens_W <= at) & (at < closes_W)]] = True
        return licensed_T & (self.maturity_T <= limit)
