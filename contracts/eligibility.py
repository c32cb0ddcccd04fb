"""Who may see what, when: the one definition of eligibility, from the numbered log of title and licence versions.

Fails closed: missing licence, missing maturity or an unknown title is not eligible.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FAR = 4102444800
"""2100-01-01 in epoch seconds: an open-ended window closes here."""

NEVER_MATURITY = 99
"""Maturity of a title whose maturity is unknown: above every limit."""


@dataclass(frozen=True)
class Record:
    """One entry of the log: a title version (kind `title`: maturity) or a licence window version (kind `licence`).

    `key` names the landed record, so that appending it twice adds it once (empty: its content stands for it); `known_at`
    is when the source knew it; `content` is the title version's (contracts.content.content_json), where it was well
    formed. Who asks what may be shown needs none of the three.
    """

    seq: int
    kind: str
    title_id: str
    maturity: int | None = None
    window_id: str = ""
    market: str = ""
    opens_at: int = 0  # epoch seconds
    closes_at: int = FAR
    revoked: bool = False
    key: str = field(default="", compare=False)
    known_at: int = field(default=0, compare=False)  # epoch microseconds: what closes and what opens may share a second
    content: Mapping[str, Any] | None = field(default=None, compare=False)


@dataclass
class Eligibility:
    """The log applied up to `seq`. A window is known by its title, its market and its id, as in dim_licence_window: the
    same id elsewhere is another window."""

    seq: int = 0
    maturity: dict[str, int | None] = field(default_factory=dict)
    windows: dict[tuple[str, str], dict[str, tuple[int, int]]] = field(default_factory=dict)  # (title, market) -> id -> span

    def apply(self, records: Iterable[Record]) -> None:
        """Adds log entries in order; the newest version of a title or window holds."""
        for record in records:
            if record.seq <= self.seq:
                continue
            if record.kind == "title":
                self.maturity[record.title_id] = record.maturity
            else:
                spans = self.windows.setdefault((record.title_id, record.market), {})
                if record.revoked:
                    spans.pop(record.window_id, None)
                else:
                    spans[record.window_id] = (record.opens_at, record.closes_at)
            self.seq = record.seq

    def why_not(self, title_id: str, market: str, maturity_limit: int, at: int) -> str | None:
        """None where the title may be shown; else `unknown_title`, `unknown_maturity`, `above_maturity`, `no_licence`
        or `outside_window`. `at` is in epoch seconds; a window is [opens_at, closes_at)."""
        if title_id not in self.maturity:
            return "unknown_title"
        maturity = self.maturity[title_id]
        if maturity is None:
            return "unknown_maturity"
        if maturity > maturity_limit:
            return "above_maturity"
        spans = self.windows.get((title_id, market))
        if not spans:
            return "no_licence"
        if not any(opens <= at < closes for opens, closes in spans.values()):
            return "outside_window"
        return None

    def window(self, title_id: str, market: str, at: int) -> tuple[int, int] | None:
        """The current window, or the next to open, as [opens_at, closes_at); overlapping and touching windows are one."""
        return next(iter(self.spans(title_id, market, at)), None)

    def spans(self, title_id: str, market: str, at: int) -> list[tuple[int, int]]:
        """The current window and all that open later, in order; overlapping and touching windows are one."""
        spans = sorted(self.windows.get((title_id, market), {}).values())
        merged: list[tuple[int, int]] = []
        for opens, closes in spans:
            if closes <= opens:
                continue
            if merged and opens <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], closes))
            else:
                merged.append((opens, closes))
        return [(opens, closes) for opens, closes in merged if closes > at]

    def markets(self) -> list[str]:
        return sorted({market for _, market in self.windows})


def still_holds(indexed: tuple[int, int] | None, spans: list[tuple[int, int]], at: int) -> bool:
    """Whether a window as it was indexed (None: there was none) finds the title, from `at` on, whenever one of `spans`
    (Eligibility.spans) is open. One that has closed early still holds: the guard removes what it finds too much."""
    if not spans:
        return True
    if indexed is None or len(spans) > 1:
        return False
    return indexed[1] >= spans[0][1] and max(indexed[0], at) <= max(spans[0][0], at)


def field_names(market: str) -> tuple[str, str]:
    """Scalar fields of the vector collection that hold a market's current or next window, epoch seconds."""
    return f"opens_{market}", f"closes_{market}"


def search_filter(market: str, maturity_limit: int, at: int) -> str:
    """The filter expression inside the vector search; the guard checks the log again after it."""
    opens, closes = field_names(market)
    limit = min(int(maturity_limit), NEVER_MATURITY - 1)
    return f"maturity <= {limit} and {opens} <= {int(at)} and {closes} > {int(at)}"
