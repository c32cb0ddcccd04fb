"""Writes the landing format. Adapters build Arrow tables and hand them over; this module refuses what the contract
does not allow, writes aside, and renames when everything is there: a landed interval exists whole or not at all.

What stays out: reading (contracts/landing.py has paths and markers, the lake reads rows) and judging data that somebody
else wrote (check.py).
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts import clock, durable
from contracts.errors import UsageError
from contracts.landing import (
    FORMAT_VERSION,
    MARKER,
    TABLES,
    ColumnType,
    Interval,
    content_sha256,
    list_intervals,
    read_marker,
)

ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "string": pa.string(),
    "int": pa.int32(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "date": pa.date32(),
    "list<string>": pa.list_(pa.string()),
}

REJECTED = "_rejected.jsonl"
NIGHT_STARTS = time(6, tzinfo=UTC)  # a replayed day's night: the clock's time after the day has landed


def schema(table: str) -> pa.Schema:
    """The Arrow schema of all columns of a landing table."""
    return pa.schema([(column.name, ARROW_TYPES[column.type]) for column in TABLES[table].columns])


def landed_by(root: Path, source: str) -> list[Interval]:
    """The landed intervals, oldest first; UsageError where one came from another source."""
    found = list_intervals(root)
    for _, folder in found:
        other = read_marker(folder).get("source")
        if other != source:
            raise UsageError(f"{folder}: came from {other!r}; {source} wants a MARQUEE_HOME of its own")
    return [interval for interval, _ in found]


def advance_clock(home: Path, interval: Interval) -> None:
    """Moves the home's clock to the morning after a replayed interval; never back where later days have moved it on."""
    morning = datetime.combine(interval.last + timedelta(days=1), NIGHT_STARTS)
    if not (home / clock.CLOCK_FILE).exists() or clock.now(home) < morning:
        clock.set_now(home, morning)


class Landing:
    """One interval being landed; a context manager that lands it on a clean exit and leaves nothing otherwise.

    >>> with Landing(settings.landing, Interval(day, day), "mine") as out:
    ...     out.write("plays", table)

    Landing the same content again changes nothing. Raises UsageError for a table or column that the contract does not
    have, a wrong type, a null in a required column, an interval that overlaps a landed one, and other content for an
    interval that has landed.
    """

    def __init__(self, root: Path, interval: Interval, source: str, extra: Mapping[str, Any] | None = None) -> None:
        self.interval, self.source, self.extra = interval, source, dict(extra or {})
        self.folder = root / interval.name
        self._aside = root / f".{interval.name}.{os.getpid()}"
        self._rows: Counter[str] = Counter()
        self._parts: Counter[Path] = Counter()
        self._refuse_overlap(root)

    def write(self, table: str, rows: pa.Table, partition: str = "") -> None:
        """Adds rows as one Parquet file, under `<table>/<partition>/` if given; no rows, no file."""
        checked = _conform(table, rows)
        if checked.num_rows:
            pq.write_table(checked, self._next_part(table, partition, ".parquet"), compression="zstd", compression_level=1)
            self._rows[table] += checked.num_rows

    def write_lines(self, table: str, records: Iterable[Mapping[str, Any]], partition: str = "") -> None:
        """Adds records as one JSON Lines file, as they are: unlike `write`, nothing is checked."""
        lines = [json.dumps(record, sort_keys=True, ensure_ascii=False) for record in records]
        if lines:
            self._next_part(table, partition, ".jsonl").write_text("\n".join(lines) + "\n")
            self._rows[table] += len(lines)

    def set_aside(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Keeps what the adapter could not read beside the tables; the marker counts it as `rejected`."""
        lines = [json.dumps(record, sort_keys=True, ensure_ascii=False) for record in records]
        if lines:
            (self._aside / REJECTED).write_text("\n".join(lines) + "\n")
        self.extra["rejected"] = len(lines)

    def __enter__(self) -> Self:
        _remove_leftovers(self._aside)
        self._aside.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            shutil.rmtree(self._aside, ignore_errors=True)

    def _finish(self) -> None:
        marker = {
            "format_version": FORMAT_VERSION,
            "source": self.source,
            "first": str(self.interval.first),
            "last": str(self.interval.last),
            "tables": {table: self._rows[table] for table in sorted(self._rows)},
            "content_sha256": content_sha256(self._aside),
            **self.extra,
        }
        if self.folder.exists():
            self._same_or_refuse(marker["content_sha256"])
            return
        (self._aside / MARKER).write_text(json.dumps(marker, indent=1, sort_keys=True) + "\n")
        durable.publish(self._aside, self.folder)

    def _same_or_refuse(self, digest: str) -> None:
        if read_marker(self.folder)["content_sha256"] != digest:
            raise UsageError(f"{self.folder}: has landed with other content; a landed interval never changes")

    def _next_part(self, table: str, partition: str, suffix: str) -> Path:
        if table not in TABLES:
            raise UsageError(f"{table}: no such landing table; there are {', '.join(TABLES)}")
        folder = self._aside / table / partition
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"part-{self._parts[folder]}{suffix}"
        self._parts[folder] += 1
        return part

    def _refuse_overlap(self, root: Path) -> None:
        for other, folder in list_intervals(root):
            if other != self.interval and other.first <= self.interval.last and self.interval.first <= other.last:
                raise UsageError(f"{folder}: has landed and overlaps {self.interval.name}; a day lands once")


def _conform(table: str, rows: pa.Table) -> pa.Table:
    """The rows with the contract's column order and exact types; UsageError where they do not fit."""
    if table not in TABLES:
        raise UsageError(f"{table}: no such landing table; there are {', '.join(TABLES)}")
    known = {column.name: column for column in TABLES[table].columns}
    unknown = sorted(set(rows.column_names) - set(known))
    if unknown:
        raise UsageError(f"{table}: no such column {', '.join(unknown)}")
    columns = {}
    for name, column in known.items():
        if name not in rows.column_names:
            if column.required:
                raise UsageError(f"{table}.{name}: is required and missing")
            continue
        columns[name] = _typed(table, name, rows[name])
        if column.required and columns[name].null_count:
            raise UsageError(f"{table}.{name}: is required and {columns[name].null_count} rows have none")
        _refuse_out_of_range(table, name, columns[name], column.low, column.high)
    return pa.table(columns)


def _typed(table: str, name: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    wanted = ARROW_TYPES[TABLES[table].column(name).type]
    if pa.types.is_timestamp(values.type) and values.type.tz is None:
        raise UsageError(f"{table}.{name}: has no time zone; write UTC")
    if (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)) and not pa.types.is_string(wanted):
        raise UsageError(f"{table}.{name}: is text, wanted {wanted}")
    try:
        return values.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise UsageError(f"{table}.{name}: is {values.type}, wanted {wanted} ({error})") from None


def _refuse_out_of_range(table: str, name: str, values: pa.ChunkedArray, low: float | None, high: float | None) -> None:
    if low is None or high is None or values.null_count == len(values):
        return
    extremes = pc.min_max(values).as_py()
    if extremes["min"] < low or extremes["max"] > high:
        raise UsageError(f"{table}.{name}: has values from {extremes['min']} to {extremes['max']}, allowed {low:g} to {high:g}")


def _remove_leftovers(aside: Path) -> None:
    """Asides of this interval whose process is gone: what a crash left."""
    stem = aside.name.rpartition(".")[0]
    for other in aside.parent.glob(f"{stem}.*"):
        pid = other.name.rpartition(".")[2]
        if other == aside or not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
            shutil.rmtree(other, ignore_errors=True)
