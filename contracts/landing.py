"""The landing format: the only way into Marquee for data. `docs/data/landing.md` explains it to a person.

A landed interval is a folder `landing/<first day>..<last day>/` (one day: `landing/<day>/`) with one Parquet or JSON
Lines file, or a folder of them, a table, and `_landed.json` written last: its existence means complete.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from contracts.errors import UsageError

MARKER = "_landed.json"
FORMAT_VERSION = 1
LONGEST_ID = 200
"""Characters of an `…_id`: the ledger's columns and Milvus's key hold as many."""

CLOCK_SKEW = timedelta(days=1)
"""A source may have a record up to so long before the clock that stamped the event says it happened."""

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""An older event is a clock that was not set; the readers of nanoseconds end soon before."""

MOST_QUARANTINED = 0.5
FEW = 20
"""A table of which more is bad, and no longer a few, has not single bad records: its source is broken."""

TIMESTAMP = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?)?$"
"""A timestamp as text. Spark's own cast takes a time without a day for today's, and four digits for a year."""

MARKET = r"^[A-Za-z0-9_]{1,32}$"

LONGEST_LAG = 10**9
"""Seconds from event to receipt, thirty years: more is not meant."""

YEARS = (1870, 9999)
"""Of every timestamp, both included: from the first films to what every reader can still write as a date."""

ColumnType = Literal["string", "int", "float", "bool", "timestamp", "date", "list<string>"]


@dataclass(frozen=True)
class Column:
    """One column: `required` means that every row has a value; a column that is not required may be absent."""

    name: str
    type: ColumnType
    required: bool
    doc: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class LandingTable:
    """One table: `required` means that an interval, or one before it, must bring it."""

    name: str
    required: bool
    doc: str
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


EVENT = (
    Column("event_id", "string", True, "unique over all time and tables of this kind; repeats are dropped"),
    Column("event_time", "timestamp", True, "when it happened, UTC"),
    Column("received_at", "timestamp", False, "when the source had it; absent: event time plus `received_lag_seconds`"),
)

TABLES: dict[str, LandingTable] = {
    t.name: t
    for t in (
        LandingTable("titles", True, "one row per version of a title; the newest version known at a time holds", EVENT + (
            Column("title_id", "string", True, "the title"),
            Column("valid_from", "timestamp", True, "from when this version holds"),
            Column("name", "string", True, "what a person reads"),
            Column("kind", "string", False, "movie, series or other"),
            Column("synopsis", "string", False, "free text"),
            Column("genres", "list<string>", False, "genre names"),
            Column("credits", "list<string>", False, "people, most important first"),
            Column("language", "string", False, "original language, ISO 639-1"),
            Column("year", "int", False, "year of release", 1870, 2200),
            Column("runtime_minutes", "float", False, "length", 0, 10000),
            Column("maturity", "int", False, "lowest age it suits, 0-18; absent: unknown, so never shown", 0, 18),
            Column("series_id", "string", False, "titles of one series share it"),
            Column("launched_at", "timestamp", False, "first day anywhere"),
        )),
        LandingTable("licences", True, "one row per version of a licence window; a later version for the same title and market replaces it", EVENT + (
            Column("window_id", "string", True, "the window within its title and market; several over time"),
            Column("title_id", "string", True, "the title"),
            Column("market", "string", True, "ISO 3166 code or the source's own, letters, digits and _"),
            Column("opens_at", "timestamp", True, "from when it may be shown"),
            Column("closes_at", "timestamp", False, "until when; absent: open-ended"),
            Column("revoked", "bool", False, "true: this window is withdrawn as a whole"),
        )),
        LandingTable("households", False, "one row per version; a profile without one is its own household", EVENT + (
            Column("household_id", "string", True, "the unit of experiments"),
            Column("market", "string", True, "where it is licensed to watch"),
        )),
        LandingTable("profiles", True, "one row per version of who watches", EVENT + (
            Column("profile_id", "string", True, "who watches"),
            Column("household_id", "string", False, "absent: a household of its own"),
            Column("market", "string", False, "absent: the household's"),
            Column("is_kids", "bool", False, "a kids profile"),
            Column("maturity_limit", "int", False, "highest maturity to show, 0-18; absent: the strictest, 0", 0, 18),
            Column("preferred_genres", "list<string>", False, "declared"),
            Column("language", "string", False, "declared"),
            Column("attributes", "list<string>", False, "other declared facts, as `name=value`"),
        )),
        LandingTable("impressions", False, "one row per title shown", EVENT + (
            Column("slate_id", "string", True, "titles shown together share it"),
            Column("profile_id", "string", True, "to whom"),
            Column("household_id", "string", False, "their household"),
            Column("title_id", "string", True, "what"),
            Column("position", "int", True, "place on the slate, from 1", 1, 10000),
            Column("propensity", "float", False, "probability that the policy showed this title here", 0, 1),
            Column("explored", "bool", False, "an exploration slot: its title was drawn uniformly, without regard to place"),
            Column("release_id", "string", False, "which release computed the slate"),
            Column("surface", "string", False, "home, similar, search"),
            Column("device", "string", False, "tv, mobile, tablet, web"),
            Column("experiment", "string", False, "experiment"),
            Column("arm", "string", False, "its arm"),
        )),
        LandingTable("plays", True, "one row per play", EVENT + (
            Column("profile_id", "string", True, "who"),
            Column("title_id", "string", True, "what"),
            Column("watched_seconds", "float", False, "how long; absent where the source only knows that it was watched", 0, 1e6),
            Column("runtime_seconds", "float", False, "of what was played; absent: the title's", 0, 1e6),
            Column("rating", "float", False, "given with the play, 0.5-5", 0.5, 5),
            Column("slate_id", "string", False, "the slate that led to it"),
            Column("surface", "string", False, "home, similar, search, continue"),
            Column("device", "string", False, "tv, mobile, tablet, web"),
        )),
        LandingTable("skips", False, "a title dismissed", EVENT + (
            Column("profile_id", "string", True, "who"),
            Column("title_id", "string", True, "what"),
            Column("slate_id", "string", False, "where"),
        )),
        LandingTable("ratings", False, "a rating given by itself", EVENT + (
            Column("profile_id", "string", True, "who"),
            Column("title_id", "string", True, "what"),
            Column("rating", "float", True, "0.5-5", 0.5, 5),
        )),
        LandingTable("privacy_requests", False, "what a person asked for", EVENT + (
            Column("profile_id", "string", True, "for whom"),
            Column("request", "string", True, "erase, clear_history or do_not_personalise"),
        )),
    )
}

_INTERVAL = re.compile(r"^(\d{4}-\d\d-\d\d)(?:\.\.(\d{4}-\d\d-\d\d))?$")


@dataclass(frozen=True, order=True)
class Interval:
    """A landed span of whole days, both ends included; a night's interval ends on its `ds`."""

    first: date
    last: date

    @classmethod
    def parse(cls, folder_name: str) -> "Interval | None":
        """The interval that a folder name says, or None where it says none."""
        match = _INTERVAL.match(folder_name)
        if not match:
            return None
        try:
            first = date.fromisoformat(match[1])
            last = date.fromisoformat(match[2] or match[1])
        except ValueError:
            return None
        return cls(first, last) if first <= last else None

    @property
    def name(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"

    @property
    def days(self) -> int:
        return (self.last - self.first).days + 1


# --- reading a landing root: paths and markers only, so that every step may use it --------------------------------

FILE_TYPES = (".parquet", ".jsonl")


def list_intervals(landing: Path) -> list[tuple[Interval, Path]]:
    """The complete landed intervals (those with a marker) under a landing root, oldest first. UsageError where the
    root or a folder in it may not be read."""
    if not landing.is_dir():
        return []
    try:
        found = [(Interval.parse(folder.name), folder) for folder in landing.iterdir() if (folder / MARKER).is_file()]
    except PermissionError as error:
        raise UsageError(f"{error.filename}: may not be read ({error.strerror}); mend its permissions") from None
    return sorted((interval, folder) for interval, folder in found if interval)


def find_interval(landing: Path, ds: str) -> tuple[Interval, Path]:
    """The complete landed interval that ends on `ds`; UsageError where there is none, or `ds` is no date."""
    try:
        day = date.fromisoformat(ds)
    except ValueError:
        raise UsageError(f"{ds!r} is not a date; write YYYY-MM-DD") from None
    intervals = list_intervals(landing)
    for interval, folder in intervals:
        if interval.last == day:
            return interval, folder
    landed = ", ".join(interval.name for interval, _ in intervals) or "nothing"
    raise UsageError(f"{landing}: no complete landed interval ends on {ds}; landed: {landed}")


def read_marker(folder: Path) -> dict[str, Any]:
    """The marker of a landed interval: format_version, source, first, last, tables {name: rows}, content_sha256,
    received_lag_seconds (for records without `received_at`), and what the adapter adds.

    Raises UsageError where it is missing, unreadable, of another format version, or says something that cannot be.
    """
    path = folder / MARKER
    try:
        marker = json.loads(path.read_text("utf-8-sig"))
        json.dumps(marker, ensure_ascii=False).encode()  # ValueError where an escape is half a character
    except FileNotFoundError:
        raise UsageError(f"{path}: missing, so this interval is not complete; it is written last") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(marker, dict) or not isinstance(marker.get("tables"), dict):
        raise UsageError(f"{path}: has no `tables` with the rows of each table")
    if marker.get("format_version") != FORMAT_VERSION:
        raise UsageError(f"{path}: format_version is {marker.get('format_version')!r}; this Marquee reads {FORMAT_VERSION}")
    for table, rows in marker["tables"].items():
        if not _is_number(rows):
            raise UsageError(f"{path}: tables: {table} is {rows!r}, not a number of records")
    lag = marker.get("received_lag_seconds")
    if not (lag is None or _is_number(lag, LONGEST_LAG)):
        raise UsageError(f"{path}: received_lag_seconds is {lag!r}, not a number of seconds from 0 to {LONGEST_LAG:,}")
    return marker


def _is_number(value: Any, most: float = 2**62) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= most


def table_name(path: Path) -> str | None:
    """The table that a file or a folder directly in an interval brings; None where nobody would read it."""
    name = path.name if path.is_dir() else path.stem if path.suffix in FILE_TYPES else None
    return name if name in TABLES else None


def table_files(folder: Path, table: str) -> list[Path]:
    """The Parquet and JSON Lines files of one table in a landed interval, sorted: `<table>.parquet`, `<table>.jsonl`,
    and everything below `<table>/`. Hidden files are nobody's."""
    files = [folder / f"{table}{suffix}" for suffix in FILE_TYPES if (folder / f"{table}{suffix}").is_file()]
    return sorted(files + [f for f in nested_files(folder, table) if f.suffix in FILE_TYPES])


def nested_files(folder: Path, table: str) -> list[Path]:
    """Every file below `<table>/`, whatever its type, sorted; names that begin with `.` or `_` are nobody's, with all below them."""
    top = folder / table
    nested = top.rglob("*") if top.is_dir() else ()
    return sorted(f for f in nested if f.is_file() and not any(part.startswith((".", "_")) for part in f.relative_to(top).parts))


def content_sha256(folder: Path, tables: Iterable[str] = tuple(TABLES)) -> str:
    """SHA-256 over the names and bytes of an interval's table files: the same content, the same hash."""
    whole = hashlib.sha256()
    for path in sorted(path for table in tables for path in table_files(folder, table)):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{path.relative_to(folder).as_posix()}\t{digest}\n".encode())
    return whole.hexdigest()
