"""`marquee land check`: says in plain words what is wrong or missing in a landing root or one landed interval.

Two kinds of findings. A *problem* is what ingest would refuse, or so many bad records that something is wrong with the
source; the check fails. A *note* is what ingest lives with: a few bad records that would be set aside with their reason,
repeats that would be dropped, columns nobody reads. Reads every row, with Arrow and DuckDB, one file at a time.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.errors import UsageError
from contracts.landing import (
    FILE_TYPES,
    LONGEST_ID,
    MARKER,
    MARKET,
    TABLES,
    YEARS,
    Interval,
    LandingTable,
    content_sha256,
    nested_files,
    read_marker,
    table_files,
    table_name,
)
from jobs.sources.fits import cast_record, is_utf8, parsed, type_fits
from jobs.sources.landing import ARROW_TYPES

TOLERATED_SHARE = 0.02
"""Up to this share of a table's records may be bad before the check fails."""

TOLERATED_REPEATS = 0.2
CLOCK_SKEW_SECONDS = 86_400
DAY_MICROS = 86_400_000_000
"""The server's and the source's clock may differ: a record may be received so long before it says it happened."""

REQUESTS = ("erase", "clear_history", "do_not_personalise")
MOST_NAMED = 5  # of one kind, in a message


@dataclass
class Report:
    """What the check found; `rows` counts records by interval and table."""

    folder: Path
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_text(self) -> str:
        """For a person: counts, problems, notes, verdict."""
        lines = []
        for interval, tables in self.rows.items():
            lines.append(f"{interval}: " + (", ".join(f"{rows:,} {name}" for name, rows in tables.items() if rows) or "no records"))
        lines += [f"problem: {text}" for text in self.problems] + [f"note: {text}" for text in self.notes]
        verdict = "can be ingested" if self.ok else f"{_count(len(self.problems), 'problem')} to mend; docs/data/landing.md explains the format"
        return "\n".join([*lines, f"{self.folder}: {verdict}"])

    def as_json(self) -> str:
        return json.dumps({"folder": str(self.folder), "ok": self.ok, "problems": self.problems, "notes": self.notes,
                           "rows": self.rows}, sort_keys=True)


def check(folder: Path) -> Report:
    """The report on a landing root or on one interval's folder; never raises for what is in it."""
    report = Report(folder)
    if not folder.is_dir():
        report.problems.append(f"{folder}: no such folder")
        return report
    try:
        _check_folder(report, folder)
    except OSError as error:
        report.problems.append(f"{error.filename}: not readable ({error.strerror})")
    return report


def _check_folder(report: Report, folder: Path) -> None:
    known = _Known()
    if _is_interval(folder):
        interval = Interval.parse(folder.resolve().name)
        if interval:
            known.learn_from_earlier(folder.resolve().parent, interval)
        _check_interval(report, folder, interval, known, alone=True)
        return
    intervals = _check_root(report, folder)
    for place, (interval, path) in enumerate(intervals):
        _check_interval(report, path, interval, known, alone=False, first=place == 0)


# --- folders ------------------------------------------------------------------------------------------------------

def _is_interval(folder: Path) -> bool:
    if Interval.parse(folder.resolve().name) or (folder / MARKER).exists():
        return True
    return any(table_name(path) for path in folder.iterdir())


def _check_root(report: Report, root: Path) -> list[tuple[Interval, Path]]:
    intervals = []
    for path in sorted(root.iterdir()):
        interval = Interval.parse(path.name)
        if re.match(r"\.\d{4}-\d\d-\d\d", path.name):
            report.notes.append(f"{path}: left by an interrupted landing; it is not read and may be deleted")
        elif path.name.startswith("."):
            continue
        elif path.is_dir() and interval:
            intervals.append((interval, path))
        else:
            report.problems.append(f"{path}: not a landed interval; name a folder <first day>..<last day> or <day>, days as YYYY-MM-DD")
    intervals.sort()
    if not intervals:
        report.problems.append(f"{root}: nothing has landed here: no folder is named like an interval")
    for (one, _), (two, path) in pairwise(intervals):
        if two.first <= one.last:
            report.problems.append(f"{path}: overlaps {one.name}; a day lands once")
        elif two.first > one.last + timedelta(days=1):
            missing = Interval(one.last + timedelta(days=1), two.first - timedelta(days=1))
            report.problems.append(f"{path}: {missing.name} is missing before it; days land in order, without gaps")
    return intervals


def _check_interval(report: Report, folder: Path, interval: Interval | None, known: "_Known", alone: bool, first: bool = True) -> None:
    if interval is None:
        report.problems.append(f"{folder}: the folder's name is no interval; name it <first day>..<last day> or <day>, days as YYYY-MM-DD")
    marker = _check_marker(report, folder, interval)
    _check_names(report, folder)
    findings = _Findings(folder, interval, float((marker or {}).get("received_lag_seconds") or 0), known, alone)
    rows = {name: findings.table(TABLES[name]) for name in TABLES}
    report.rows[folder.name] = rows
    report.problems += findings.problems
    report.notes += findings.notes
    _judge_bad_records(report, findings, rows)
    if not rows["plays"] and not rows["impressions"]:
        report.problems.append(f"{folder}: an empty day: neither plays nor impressions have a record")
    _check_required_tables(report, folder, rows, alone, first)
    if marker is not None:
        _check_counts(report, folder, marker, rows)


def _check_marker(report: Report, folder: Path, interval: Interval | None) -> dict[str, Any] | None:
    try:
        marker = read_marker(folder)
    except UsageError as error:
        report.problems.append(str(error))
        return None
    for name in ("first", "last"):
        if interval and marker.get(name) != str(getattr(interval, name)):
            report.problems.append(f"{folder / MARKER}: {name} is {marker.get(name)!r}, the folder's name says {getattr(interval, name)}")
    if not marker.get("source"):
        report.problems.append(f"{folder / MARKER}: has no `source`, the name of where the data comes from")
    return marker


def _check_names(report: Report, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")):
            continue
        if table_name(path) is None:
            report.problems.append(f"{path}: not a table of the landing format; there are {', '.join(TABLES)}")
        elif path.is_dir():
            strays = [p for p in nested_files(folder, path.name) if p.suffix not in FILE_TYPES]
            report.problems += [f"{p}: neither .parquet nor .jsonl" for p in strays]


def _check_required_tables(report: Report, folder: Path, rows: dict[str, int], alone: bool, first: bool) -> None:
    for table in TABLES.values():
        if not table.required or rows[table.name] or table.name == "plays":
            continue
        if alone:
            report.notes.append(f"{folder}: no {table.name} here; an earlier interval must have brought them")
        elif first:
            report.problems.append(f"{folder}: has no {table.name} ({table.doc}); the first interval must bring them")


def _check_counts(report: Report, folder: Path, marker: dict[str, Any], rows: dict[str, int]) -> None:
    for name in sorted({*marker["tables"], *(n for n in rows if rows[n])}):
        said, found = marker["tables"].get(name, 0), rows.get(name, 0)
        if said != found:
            report.problems.append(f"{folder / MARKER}: says {said} {name}, the files have {found}")
    digest = marker.get("content_sha256")
    if digest is None:
        report.notes.append(f"{folder / MARKER}: has no content_sha256, so later changes cannot be noticed")
    elif digest != content_sha256(folder):
        report.problems.append(f"{folder / MARKER}: content_sha256 does not fit the files: they changed after landing")


def _judge_bad_records(report: Report, findings: "_Findings", rows: dict[str, int]) -> None:
    """Few bad records of a table are notes, many are problems."""
    by_table: Counter[str] = Counter()
    for (table, reason), count in findings.bad.items():
        by_table[table] += count if reason != REPEATED else 0
    for (table, reason), count in findings.bad.items():
        text = f"{findings.where[table, reason]}: {table}: {_count(count, 'record')} of {rows[table]}: {reason}"
        many = count > TOLERATED_REPEATS * rows[table] if reason == REPEATED else by_table[table] > TOLERATED_SHARE * rows[table]
        if many:
            report.problems.append(text)
        else:
            report.notes.append(f"{text}; {'it' if count == 1 else 'they'} would be {_fate(table, reason)}")


def _fate(table: str, reason: str) -> str:
    """What ingest does with such a record."""
    if reason == REPEATED:
        return "dropped but for one"
    if reason.startswith(("profile_id is of no", "received before")) or (table == "licences" and reason.startswith("title_id is of no")):
        return "ingested all the same"
    return "ingested and never open" if reason == NEVER_OPEN else "set aside"


# --- rows ---------------------------------------------------------------------------------------------------------

@dataclass
class _Known:
    """What the intervals so far have brought: by `check` of their root in order, or learnt from those beside one."""

    titles: set[str] = field(default_factory=set)
    profiles: set[str] = field(default_factory=set)
    earlier: bool = False  # learnt from intervals beside one that is checked alone
    database: duckdb.DuckDBPyConnection = field(default_factory=duckdb.connect)

    def learn_from_earlier(self, root: Path, interval: Interval) -> None:
        """Titles and profiles of the landed intervals before this one; what cannot be read there is not judged here."""
        for path in root.iterdir():
            other = Interval.parse(path.name)
            if other is None or other.last >= interval.first or not (path / MARKER).exists():
                continue
            self.earlier = True
            for name, key in (("titles", "title_id"), ("profiles", "profile_id")):
                for file in table_files(path, name):
                    getattr(self, name).update(_ids(file, key))

    def hashes(self, values: pa.ChunkedArray) -> np.ndarray:
        """(n,) 64-bit hashes of the texts that are there."""
        ids = pa.table({"id": values.cast(pa.string()).drop_null()})
        return self.database.from_arrow(ids).project("hash(id) as h").fetchnumpy()["h"]


REPEATED = "event_id stands more than once"
NEVER_OPEN = "closes_at is not after opens_at"

Locate = Callable[[int], str]
"""From a row of a batch to its place in the file."""


class _Findings:
    """Goes over the files of one interval, table by table."""

    def __init__(self, folder: Path, interval: Interval | None, lag_seconds: float, known: _Known, alone: bool) -> None:
        self.folder, self.interval, self.lag_seconds, self.known, self.alone = folder, interval, lag_seconds, known, alone
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.bad: Counter[tuple[str, str]] = Counter()
        self.where: dict[tuple[str, str], str] = {}  # the first file (and line) with it

    def table(self, table: LandingTable) -> int:
        """Records of the table; what is wrong with it is noted."""
        count = 0
        event_ids: list[np.ndarray] = []
        event_days: set[date] = set()
        for path in table_files(self.folder, table.name):
            for rows, locate in self._parquet(table, path) if path.suffix == ".parquet" else self._lines(table, path):
                count += rows.num_rows
                if "event_id" in rows.column_names:
                    event_ids.append(self.known.hashes(rows["event_id"]))
                self._rows(table, rows, locate)
                event_days |= _days(rows)
        self._repeats(table, event_ids)
        self._empty_days(table, event_days)
        return count

    def _parquet(self, table: LandingTable, path: Path) -> Iterator[tuple[pa.Table, Locate]]:
        """Batches of a Parquet file, or a problem."""
        try:
            file = pq.ParquetFile(path)
            if not self._columns_fit(table, path, file.schema_arrow):
                return
            known = [c.name for c in table.columns if c.name in file.schema_arrow.names]
            start = 1
            for batch in file.iter_batches(batch_size=500_000, columns=known):
                batch.validate(full=True)  # text is UTF-8
                yield pa.Table.from_batches([batch]), lambda row, start=start: f"{path}, row {start + row}"
                start += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            self.problems.append(f"{path}: not a readable Parquet file ({str(error).splitlines()[0][:120]}); write it again")

    def _columns_fit(self, table: LandingTable, path: Path, found: pa.Schema) -> bool:
        fits = True
        for column in table.columns:
            if found.names.count(column.name) > 1:
                self.problems.append(f"{path}: has column {column.name} {found.names.count(column.name)} times")
                fits = False
            elif column.name not in found.names:
                if column.required:
                    self.problems.append(f"{path}: has no column {column.name}, which {table.name} must have ({column.doc})")
                    fits = False
            elif not type_fits(column, found.field(column.name).type):
                self.problems.append(f"{path}: column {column.name} is {found.field(column.name).type}, wanted {column.type} ({column.doc})")
                fits = False
        extra = [name for name in found.names if name not in {c.name for c in table.columns}]
        if extra:
            self.notes.append(f"{path}: nobody reads the column{'s' if len(extra) > 1 else ''} {', '.join(extra[:MOST_NAMED])}")
        return fits

    def _lines(self, table: LandingTable, path: Path) -> Iterator[tuple[pa.Table, Locate]]:
        """The good records of a JSON Lines file as one table; bad ones are noted with their line."""
        types = pa.schema([(c.name, ARROW_TYPES[c.type]) for c in table.columns])
        records, numbers, broken = [], [], 0
        try:
            with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
                for number, line in enumerate(file, 1):
                    if not line.strip():
                        continue
                    record = parsed(line)
                    if record is None:
                        values, reasons = {}, ["the line is not a JSON object"]
                    elif not is_utf8(record):
                        values, reasons = {}, ["the line is not UTF-8"]
                    else:
                        values, reasons = cast_record(table, record)
                    for reason in reasons[:1]:
                        self._bad(table.name, reason, f"{path}, line {number}")
                    if reasons:
                        broken += 1
                    else:
                        records.append(values)
                        numbers.append(number)
        except OSError as error:
            self.problems.append(f"{path}: not readable ({error.strerror})")
            return
        if records:
            yield pa.Table.from_pylist(records, schema=types), lambda row: f"{path}, line {numbers[row]}"
        if broken:  # counted as rows; what is wrong has been noted
            yield pa.table({"_": pa.nulls(broken)}), str

    def _rows(self, table: LandingTable, rows: pa.Table, locate: Locate) -> None:
        """Values that a column's type allows and the contract does not."""
        spoiled = np.zeros(rows.num_rows, bool)  # a record has one reason, the first

        def note(mask: Any, reason: str) -> None:
            nonlocal spoiled
            hit = np.asarray(mask.fill_null(False) if isinstance(mask, pa.Array | pa.ChunkedArray) else mask) & ~spoiled
            if hit.any():
                self._bad(table.name, reason, locate(int(hit.argmax())), int(hit.sum()))
                spoiled |= hit

        for column in table.columns:
            if column.name not in rows.column_names:
                continue
            values = rows[column.name]
            if column.required:
                note(pc.is_null(values), f"{column.name} is missing")
                if column.type == "string":
                    note(pc.equal(pc.utf8_trim_whitespace(values.cast(pa.string())), ""), f"{column.name} is empty")
            if column.name.endswith("_id"):
                note(pc.greater(pc.utf8_length(values.cast(pa.string())), LONGEST_ID), f"{column.name} is longer than {LONGEST_ID} characters")
            if column.type == "int" and pa.types.is_floating(values.type):
                note(pc.not_equal(values, pc.floor(values)), f"{column.name} is not a whole number")
            if column.low is not None and column.high is not None:
                out = pc.or_(pc.less(values, column.low), pc.greater(values, column.high))
                note(out, f"{column.name} is outside {column.low:g} to {column.high:g}")
        if "market" in rows.column_names:
            market = rows["market"].cast(pa.string())
            note(pc.invert(pc.match_substring_regex(market, MARKET)), "market is not 1 to 32 letters, digits or _")
        if "request" in rows.column_names:
            note(pc.invert(pc.is_in(rows["request"].cast(pa.string()), pa.array(REQUESTS))), f"request is none of {', '.join(REQUESTS)}")
        self._times(table, rows, note)
        self._references(table, rows, note)

    def _times(self, table: LandingTable, rows: pa.Table, note: Any) -> None:
        if "event_time" not in rows.column_names:
            return
        happened = _micros(rows["event_time"])
        note(happened < 0, "event_time is before 1970")
        assumed = happened + int(self.lag_seconds * 1e6)
        received = assumed if "received_at" not in rows.column_names else _micros(rows["received_at"], assumed)
        if self.interval is not None:
            start, end = _micros_of(self.interval.first), _micros_of(self.interval.last + timedelta(days=1))
            if "received_at" not in rows.column_names:
                received = np.minimum(received, end - 1)
            note(happened >= end, f"event_time is after {self.interval.name}: in the future")
            note(received >= end, f"received_at is after {self.interval.name}: a record lands on the day on which it was received")
            note(received < start, f"received before {self.interval.name}: a record lands on the day on which it was received")
        note(received < happened - CLOCK_SKEW_SECONDS * 1_000_000, "received_at is more than a day before event_time")
        first, end = _micros_of(date(YEARS[0], 1, 1)), _micros_of(date(YEARS[1], 12, 31)) + DAY_MICROS
        for column in table.columns:
            if column.type == "timestamp" and column.name in rows.column_names:
                moments = _micros(rows[column.name])
                note((moments < first) | (moments >= end), f"{column.name} is outside the years {YEARS[0]} to {YEARS[1]}")
        if {"opens_at", "closes_at"} <= set(rows.column_names):
            note(pc.less_equal(rows["closes_at"], rows["opens_at"]), NEVER_OPEN)

    def _references(self, table: LandingTable, rows: pa.Table, note: Any) -> None:
        """Titles and profiles that no interval so far has brought."""
        for key, owner in (("title_id", "titles"), ("profile_id", "profiles")):
            if key not in rows.column_names:
                continue
            known = getattr(self.known, owner)
            named = [v for v in pc.unique(rows[key]).to_pylist() if v is not None]
            if table.name == owner:
                known.update(named)
                continue
            unknown = sorted(v for v in named if v not in known)
            if known and unknown and not self._may_be_gone(len(unknown) / len(named)):
                note(pc.is_in(rows[key], pa.array(unknown)),
                     f"{key} is of no {owner[:-1]} that has landed ({', '.join(unknown[:MOST_NAMED])})")

    def _may_be_gone(self, unknown_share: float) -> bool:
        """What stood before an interval that is checked alone may be gone since it was ingested: a day with nothing before
        it is not judged by what it lacks, nor is a span most of whose names are from there."""
        if not self.alone or self.interval is None:
            return False
        return unknown_share > 0.5 if self.known.earlier else self.interval.days == 1

    def _repeats(self, table: LandingTable, event_ids: list[np.ndarray]) -> None:
        if not event_ids:
            return
        hashes = np.sort(np.concatenate(event_ids))
        repeated = int((hashes[1:] == hashes[:-1]).sum())
        if repeated:
            self._bad(table.name, REPEATED, str(self.folder / table.name), repeated)

    def _empty_days(self, table: LandingTable, found: set[date]) -> None:
        """Days within a bulk interval on which nothing was played."""
        if table.name != "plays" or not found or self.interval is None or self.interval.days > 400:
            return
        days = [self.interval.first + timedelta(days=n) for n in range(self.interval.days)]
        empty = [day for day in days if min(found) <= day <= max(found) and day not in found]
        if empty:
            named = ", ".join(map(str, empty[:MOST_NAMED])) + (" …" if len(empty) > MOST_NAMED else "")
            self.notes.append(f"{self.folder}: {_count(len(empty), 'day')} without any play: {named}")

    def _bad(self, table: str, reason: str, where: str, count: int = 1) -> None:
        self.bad[table, reason] += count
        self.where.setdefault((table, reason), where)


def _ids(file: Path, key: str) -> set[str]:
    """The values of one column of a landed file; empty where it cannot be read."""
    try:
        if file.suffix == ".parquet":
            return set(pq.read_table(file, columns=[key])[key].to_pylist())
        with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
            return {str(record.get(key)) for line in lines if (record := parsed(line)) is not None}
    except (pa.ArrowException, OSError, UnicodeDecodeError, KeyError):
        return set()


def _days(rows: pa.Table) -> set[date]:
    if "event_time" not in rows.column_names:
        return set()
    numbers = np.unique(_micros(rows["event_time"]) // 86_400_000_000)
    return {date(1970, 1, 1) + timedelta(days=int(n)) for n in numbers if -100_000 < n < 100_000}


def _micros(values: pa.ChunkedArray, absent: np.ndarray | None = None) -> np.ndarray:
    """Microseconds since 1970; where null, `absent` or 0."""
    micros = pc.cast(values, pa.timestamp("us", values.type.tz), safe=False).cast(pa.int64())
    filled = np.asarray(micros.fill_null(0))
    return filled if absent is None else np.where(np.asarray(pc.is_null(values)), absent, filled)


def _micros_of(day: date) -> int:
    return int(datetime.combine(day, datetime.min.time(), UTC).timestamp()) * 1_000_000


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


