"""`marquee launches`: landed title and licence versions to the eligibility log, and from there to the overlay of each kept
release, every minute, outside Spark.

A record enters when its source knew it, not before. A malformed one may have meant to close, so it does: the title or
window that it names is not eligible until a good version lands. It is counted and named. Intervals that were read whole are
not read again.
"""

import json
import logging
import math
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from contracts import clock
from contracts.content import content_json
from contracts.eligibility import FAR, Record
from contracts.errors import MarqueeError
from contracts.landing import (
    CLOCK_SKEW,
    EARLIEST,
    FEW,
    LONGEST_ID,
    MARKET,
    MOST_QUARANTINED,
    TABLES,
    TIMESTAMP,
    Column,
    Interval,
    content_sha256,
    list_intervals,
    read_marker,
    table_files,
)
from contracts.release import digest
from contracts.settings import Settings
from jobs.release import overlay
from ledger import Ledger, open_ledger

log = logging.getLogger("marquee")

Row = dict[str, Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MOST_NAMED = 5
"""Malformed records in a message; the others are counted."""


class Malformed(Exception):
    """This record cannot be read; the message is the field at fault."""


@dataclass
class Reading:
    """One interval: records in the order in which they became known; the malformed ones by file, place and field; the
    tables with too much wrong for single bad records, of which none is counted or closes."""

    records: list[Record] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def run(settings: Settings, log_only: bool = False) -> dict[str, Any]:
    """Appends what is new to the log and to the overlays, and returns a probe that is overdue. MarqueeError, after
    everything else was appended, names the files that cannot be read (a closure may be in them), and the releases whose
    overlay could not be made. `log_only` leaves the overlays to the next run: a night must not wait for a release that
    cannot be brought up."""
    ledger = open_ledger(settings)
    overdue = ledger.resolve_overdue("launches")
    return bring_up(settings, ledger, [] if log_only else overlay.kept(ledger)) | {"reverted_overdue": overdue is not None}


def watch(settings: Settings, seconds: float, every: float) -> dict[str, Any]:
    """`run` again and again for so many seconds, a process start spared each time: whoever calls this once a minute has a
    closure out well within the minute. Returns the last result with everything that was appended or malformed; MarqueeError where
    the last look failed."""
    end, counts, added = time.monotonic() + seconds, Counter(), Counter()
    while True:
        begin, error, result = time.monotonic(), None, {}
        try:
            result = run(settings)
            counts.update({name: result[name] for name in ("appended", "malformed")})
            added.update(result["overlay"])
        except MarqueeError as failure:
            error = failure
        if begin + every > end:
            break
        time.sleep(max(0.0, begin + every - time.monotonic()))
    if error:
        raise error
    return result | dict(counts) | {"overlay": dict(added)}


def bring_up(settings: Settings, ledger: Ledger, releases: Iterable[str]) -> dict[str, Any]:
    """The log, then the overlays of these releases, each up to its head; MarqueeError after all of it."""
    result: dict[str, Any] = {}
    wrong = []
    for step in (lambda: catch_up(settings, ledger), lambda: overlay.catch_up_all(settings, ledger, releases)):
        try:
            result |= step()
        except MarqueeError as error:
            wrong.append(str(error))
    if wrong:
        raise MarqueeError("; ".join(wrong))
    return result


def catch_up(settings: Settings, ledger: Ledger) -> dict[str, Any]:
    """Brings the log to the present of this home. A broken table's interval is read again each time, until it is mended;
    what is good of it is in the log all the same, for a closure may be among it."""
    now = _micros(clock.now(settings.home))
    known, appended, malformed, broken = ledger.cursors(), 0, [], []
    for interval, folder in list_intervals(settings.landing):
        name = f"landing/{interval.name}"
        try:
            signature = _signature(folder)
            cursor = known.get(name)
            if cursor and cursor["signature"] == signature and (cursor["next_due"] is None or cursor["next_due"] > now):
                continue
            reading = read_interval(interval, folder)
        except (MarqueeError, pa.ArrowException, OSError, ValueError, OverflowError, RecursionError) as error:
            broken.append(f"{folder}: {str(error).splitlines()[0]}")
            continue
        due = [record for record in reading.records if record.known_at <= now]
        next_due = min((record.known_at for record in reading.records if record.known_at > now), default=None)
        position = {"signature": signature, "next_due": next_due, "malformed": len(reading.malformed)}
        appended += ledger.append_eligibility(due, cursor=None if reading.broken else (name, position))
        malformed += reading.malformed
        broken += reading.broken
    if malformed:
        log.warning("%d malformed records; the title or window that each names is closed until a good version of it lands: %s",
                    len(malformed), _named(malformed))
    if broken:
        raise MarqueeError(f"the eligibility log is not complete: {'; '.join(broken)}")
    return {"appended": appended, "head": ledger.eligibility_head(), "malformed": len(malformed)}


def read_interval(interval: Interval, folder: Path) -> Reading:
    """All title and licence records of a landed interval. Raises what pyarrow, json or the file system raises for a
    file that is none."""
    end = datetime(interval.last.year, interval.last.month, interval.last.day, tzinfo=UTC) + timedelta(days=1)
    times = _Times(timedelta(seconds=float(read_marker(folder).get("received_lag_seconds") or 0)), end)
    reading, placed = Reading(), []
    for table, convert in (("titles", _title), ("licences", _licence)):
        rows, malformed, closures = 0, [], []
        for path in table_files(folder, table):
            for number, row in _rows(path, table):
                rows += 1
                try:
                    placed.append(convert(row, times))
                except Malformed as field_at_fault:
                    malformed.append(f"{path}, record {number}: {field_at_fault}")
                    closures += _closure(table, row, times)
        if len(malformed) > max(FEW, MOST_QUARANTINED * rows):
            reading.broken.append(f"{folder / table}: {len(malformed)} of {rows} records are malformed, so the source is broken "
                                  f"and none of them closes anything; land it again: {_named(malformed)}")
        else:
            placed += closures
            reading.malformed += malformed
    reading.records = [record for _, record in sorted(placed, key=lambda entry: entry[0])]
    return reading


def _named(malformed: list[str]) -> str:
    return "; ".join(malformed[:MOST_NAMED]) + (" …" if len(malformed) > MOST_NAMED else "")


class _Place(NamedTuple):
    """Where a record stands among the others: the lake's order of versions (dim_title_version, dim_licence_window), to the
    microsecond. The last of a title or window holds, so one that closes must not be put before one that opens."""

    holds_from: datetime
    known_at: datetime
    event_time: datetime
    event_id: str


@dataclass(frozen=True)
class _Times:
    """When a record was known. One without `received_at` by its event time plus the declared lag, never after its interval;
    times that cannot be are malformed here as in the nightly ingest."""

    lag: timedelta
    end: datetime

    def place(self, row: Row) -> _Place:
        """For a record that holds as soon as it is known."""
        known_at = self.known_at(row)
        return _Place(known_at, known_at, _moment(row, "event_time"), _text(row, "event_id"))

    def known_at(self, row: Row) -> datetime:
        event_time = _moment(row, "event_time")
        if not EARLIEST <= event_time < self.end:
            raise Malformed("event_time")
        received = _moment(row, "received_at", required=False)
        if received is None:
            return min(event_time + self.lag, self.latest)
        if not event_time - CLOCK_SKEW <= received < self.end:
            raise Malformed("received_at")
        return received

    @property
    def latest(self) -> datetime:
        """What has landed was known by the end of its interval."""
        return self.end - timedelta(microseconds=1)


def _title(row: Row, times: _Times) -> tuple[_Place, Record]:
    """A title version; known maturity counts from `valid_from` on."""
    maturity = _whole(row, "maturity")
    if maturity is not None and not 0 <= maturity <= 18:
        raise Malformed("maturity")
    place = times.place(row)
    place = place._replace(holds_from=max(place.known_at, _moment(row, "valid_from")))
    return place, Record(0, "title", _text(row, "title_id"), maturity=maturity, key=f"title:{place.event_id}",
                         known_at=_micros(place.holds_from), content=_content(row))


def _content(row: Row) -> dict[str, Any] | None:
    """What the item tower and the shelf read of a title version. None where any of it is malformed: its maturity holds
    all the same, and it gets no vector (the nightly ingest sets the record aside)."""
    try:
        for column in TABLES["titles"].columns:
            _check(row.get(column.name), column)
        content = content_json(row | {"launched_at": _moment(row, "launched_at", required=False)})
        json.dumps(content, ensure_ascii=False).encode()  # ValueError where it is not UTF-8
        return content
    except (Malformed, ValueError, OverflowError):
        return None


def _check(value: Any, column: Column) -> None:
    if value is None:
        fits = not column.required
    elif column.type == "list<string>":
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
    elif column.type in ("int", "float"):
        fits = (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
                and (column.type == "float" or float(value).is_integer())
                and (column.low is None or column.low <= value) and (column.high is None or value <= column.high))
    else:
        fits = column.type == "timestamp" or isinstance(value, str)
    if not fits:
        raise Malformed(column.name)


def _licence(row: Row, times: _Times) -> tuple[_Place, Record]:
    place, closes = times.place(row), _moment(row, "closes_at", required=False)
    return place, Record(
        0, "licence", _text(row, "title_id"), window_id=_text(row, "window_id"), market=_market(row),
        opens_at=_ceil(_moment(row, "opens_at")), closes_at=FAR if closes is None else math.floor(closes.timestamp()),
        revoked=_flag(row, "revoked"), key=f"licence:{place.event_id}", known_at=_micros(place.known_at),
    )


def _closure(table: str, row: Row, times: _Times) -> list[tuple[_Place, Record]]:
    """What a malformed record says all the same, where it can be read which title or window it is of: what was known of
    that one no longer holds. Among records of one moment it comes last. Its key is its own: the id stays free for the
    record as it should have been."""
    try:
        known_at = times.known_at(row)
    except Malformed:
        known_at = times.latest
    place = _Place(known_at, known_at, datetime.max.replace(tzinfo=UTC), "")
    common = {"key": f"malformed:{table}:{digest([str(times.end), repr(row)])}", "known_at": _micros(known_at)}
    try:
        title_id = _text(row, "title_id")
        if table == "titles":
            return [(place, Record(0, "title", title_id, maturity=None, **common))]
        return [(place, Record(0, "licence", title_id, window_id=_text(row, "window_id"), market=_market(row),
                               revoked=True, **common))]
    except Malformed:
        return []


def _rows(path: Path, table: str) -> Iterator[tuple[int, Row]]:
    """Rows of a Parquet or JSON Lines file, numbered from 1 (lines, where it has any); a line that is no JSON object is an
    empty row, so that it is counted."""
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
            yield from ((number, _json_row(line)) for number, line in enumerate(lines, 1) if line.strip())
        return
    file = pq.ParquetFile(path)
    wanted = [c.name for c in TABLES[table].columns if c.name in file.schema_arrow.names]
    batches = (_records(_microseconds(batch)) for batch in file.iter_batches(columns=wanted))
    yield from enumerate(chain.from_iterable(batches), 1)


def _microseconds(batch: pa.RecordBatch) -> pa.Table:
    """Nanoseconds would come out as something other than datetime."""
    schema = pa.schema([
        f.with_type(pa.timestamp("us", f.type.tz)) if pa.types.is_timestamp(f.type) else f for f in batch.schema
    ])
    return pa.Table.from_batches([batch]).cast(schema, safe=False)


def _records(rows: pa.Table) -> list[Row]:
    """A row that Python cannot hold (a moment in the year 20261, text that is not UTF-8) is an empty one, so that it is counted."""
    try:
        return rows.to_pylist()
    except (ValueError, OverflowError):
        half = rows.num_rows // 2
        return _records(rows.slice(0, half)) + _records(rows.slice(half)) if half else [{}]


def _json_row(line: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_ID or "\0" in value:  # NUL: PostgreSQL has none
        raise Malformed(name)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Malformed(name) from None
    return value


def _market(row: Row) -> str:
    market = _text(row, "market")
    if not re.fullmatch(MARKET, market):
        raise Malformed("market")
    return market


def _moment(row: Row, name: str, required: bool = True) -> datetime | None:
    value = row.get(name)
    if value is None and not required:
        return None
    if isinstance(value, str) and not re.fullmatch(TIMESTAMP, value):
        raise Malformed(name)
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        moment.timestamp()
        return moment
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise Malformed(name) from None


def _whole(row: Row, name: str) -> int | None:
    value = row.get(name)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise Malformed(name) from None
    if isinstance(value, bool) or not number.is_integer():
        raise Malformed(name)
    return int(number)


def _flag(row: Row, name: str) -> bool:
    value = row.get(name)
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.lower(), value)
    if value is not None and not isinstance(value, bool):
        raise Malformed(name)
    return bool(value)


def _ceil(moment: datetime) -> int:
    return math.ceil(moment.timestamp())


def _micros(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def _signature(folder: Path) -> str:
    """Changes when the interval's titles or licences do, whatever its marker says of them; 30 MB of them, a hundred thousand
    titles, take 0.08 s on a busy core."""
    return content_sha256(folder, ("titles", "licences"))
