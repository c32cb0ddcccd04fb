"""Landing to the lake: read, validate, set bad records aside, deduplicate, audit on a branch, publish.

What stays out: what an interval folder looks like (contracts.landing), what is wrong with a record (validate), what a
table must look like as a whole (jobs.quality). Idempotent: a run that was killed anywhere is put right by the next one.

Records landed = published + quarantined + duplicates, for every table.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from py4j.protocol import Py4JJavaError
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import EqualTo
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.storagelevel import StorageLevel

from contracts.clock import now
from contracts.errors import MarqueeError, UsageError
from contracts.landing import (
    FEW,
    MARKER,
    MOST_QUARANTINED,
    TABLES,
    Interval,
    content_sha256,
    find_interval,
    list_intervals,
    read_marker,
)
from contracts.marts import CATALOG, QUARANTINE
from contracts.settings import Settings
from jobs import runtime
from jobs.lake import landed, raw, read
from jobs.lake.deduplicate import deduplicate
from jobs.lake.session import spark_session
from jobs.lake.validate import fill_received_at, validate
from jobs.quality import audit as quality

log = logging.getLogger("marquee.ingest")

PARALLEL_TABLES = 3
"""Tables at work at a time; most are too small to keep two cores busy by themselves."""


@dataclass(frozen=True)
class Landed:
    """A complete interval on disk that is not published with this content."""

    interval: Interval
    folder: Path
    source: str
    content_sha256: str
    lag_seconds: float


@dataclass(frozen=True)
class Judged:
    """One table of an interval with a `_reason` on every row (lazy), how many rows have one, and how many distinct
    event ids the good ones have."""

    name: str
    rows: DataFrame
    landed: int
    distinct: int
    reasons: dict[str, int]

    @property
    def quarantined(self) -> int:
        return sum(self.reasons.values())

    @property
    def good(self) -> int:
        return self.landed - self.quarantined

    def bad(self) -> str:
        """How many records cannot be used, and the most frequent reason with its field."""
        reason, count = max(self.reasons.items(), key=lambda item: item[1])
        return f"{self.quarantined} of {self.landed} records cannot be used, {count} of them: {reason}"


@runtime.alone("ingest")
def run(settings: Settings, ds: str) -> dict[str, Any]:
    """Publishes every landed interval up to `ds` that is not published yet, in order; returns counts per table.

    Raises UsageError for a missing, unreadable or malformed interval, or one out of order, before anything is
    written; MarqueeError where the audit refuses. Both leave main as it was.
    """
    runtime.require_free_disk(settings)
    last, _ = find_interval(settings.landing, ds)
    catalog = read.catalog(settings)
    pending = [_inspect(interval, folder) for interval, folder in list_intervals(settings.landing) if interval.last <= last.last]
    pending = _unpublished(pending, raw.read_ingests(catalog))
    for one in pending:
        _notice_changes(one)
        landed.check_files(one.folder)
    with ThreadPoolExecutor(1) as background:
        warm = background.submit(quality.warm_up) if pending else None
        session = spark_session(settings)
        raw.create_tables(session, catalog, [one.interval for one in pending])
        if raw.recover(session, catalog, settings):
            log.warning("an earlier ingest was killed while publishing; its tables are back where they were")
        if warm:
            warm.result()
        results = [_ingest(settings, session, catalog, one) for one in pending]
    return _summary(ds, catalog, results)


def _inspect(interval: Interval, folder: Path) -> Landed:
    marker = read_marker(folder)
    try:
        content = content_sha256(folder)
    except OSError as error:
        raise UsageError(f"{error.filename}: not readable ({error.strerror})") from None
    return Landed(interval, folder, str(marker.get("source", "")), content, float(marker.get("received_lag_seconds") or 0.0))


def _notice_changes(one: Landed) -> None:
    said = read_marker(one.folder).get("content_sha256", one.content_sha256)
    if said != one.content_sha256:
        log.warning("%s: content_sha256 does not fit the files: they changed after landing", one.folder / MARKER)


def _unpublished(found: list[Landed], ingests: list[raw.Ingest]) -> list[Landed]:
    """Those to publish, oldest first. Raises UsageError for a new interval that overlaps another or comes too late."""
    published = {ingest.interval: ingest for ingest in ingests}
    newest = max((ingest.last for ingest in ingests), default=date.min)
    taken = {name: (ingest.first, ingest.last) for name, ingest in published.items()}
    pending = []
    for one in found:
        name, interval = one.interval.name, one.interval
        if name not in published:
            for other, (first, last) in taken.items():
                if first <= interval.last and interval.first <= last:
                    raise UsageError(f"{one.folder}: overlaps {other}; a day lands once. Remove one of the two")
            if interval.last <= newest:
                raise UsageError(f"{one.folder}: out of order: {newest} is published already, and later features have been "
                                 "built on what was known then. Land its records in the next interval, or start a new home")
            _refuse_gap(one, max((last for _, last in taken.values()), default=None))
        taken[name] = (interval.first, interval.last)
        if name not in published or published[name].content_sha256 != one.content_sha256:
            pending.append(one)
    return pending


def _refuse_gap(one: Landed, newest: date | None) -> None:
    if newest is not None and one.interval.first > newest + timedelta(days=1):
        missing = Interval(newest + timedelta(days=1), one.interval.first - timedelta(days=1))
        raise UsageError(f"{one.folder}: out of order: {missing.name} has not landed. Land it first, or what there is as one "
                         f"interval {Interval(missing.first, one.interval.last).name}")


def _ingest(settings: Settings, session: SparkSession, catalog: Catalog, one: Landed) -> raw.Ingest:
    sequence = len(raw.read_ingests(catalog)) + 1
    judged: list[Judged] = []
    try:
        judged += _judge(session, one)
        if sequence == 1:
            _require_catalogue(one, judged)
        counts = _stage(session, catalog, one, judged)
        branches = {name: _branch_rows(catalog, name, one.interval) for name in counts if counts[name]["published"]}
        quality.audit(branches, counts, one.interval)
        ingest = raw.Ingest(
            sequence, one.interval.name, one.interval.first, one.interval.last, one.source, one.content_sha256, counts,
            _warnings(catalog, branches), _earliest(branches.values()), now(settings.home).replace(tzinfo=None),
        )
        _publish(settings, session, catalog, one, judged, ingest)
    except BaseException:
        raw.recover(session, catalog, settings)
        raise
    finally:
        for table in judged:
            table.rows.unpersist()
    return ingest


# --- judge --------------------------------------------------------------------------------------------------------

def _judge(session: SparkSession, one: Landed) -> list[Judged]:
    """Every table of the interval with its reasons; nothing is written. Titles first: others must name known ones."""
    frames = {name: frame for name in TABLES if (frame := landed.read_table(session, one.folder, name)) is not None}
    frames = {name: fill_received_at(frame, one.interval, one.lag_seconds) for name, frame in frames.items()}
    known = session.table(f"{CATALOG}.{raw.raw_table('titles')}").select("title_id")
    if "titles" in frames:
        titles = validate(frames["titles"], "titles", one.interval)
        known = known.unionByName(titles.where("_reason is null").select("title_id"))
    known = known.distinct()
    rows = {name: _kept(validate(frame, name, one.interval, known)) for name, frame in frames.items()}
    with ThreadPoolExecutor(PARALLEL_TABLES) as pool:
        judged = list(pool.map(lambda name: _count(one, name, rows[name]), rows))
    _refuse_unfit(one, judged)
    return judged


def _kept(rows: DataFrame) -> DataFrame:
    """Read and validated once, for counting, deduplicating, writing and setting aside; spills to disk. Only a bad
    record keeps its text."""
    bad = F.col("_reason").isNotNull()
    rows = rows.withColumn("_record", F.when(bad, F.col("_record"))).withColumn("_file", F.when(bad, F.col("_file")))
    return rows.drop("_uncastable").persist(StorageLevel.MEMORY_AND_DISK)


def _count(one: Landed, name: str, rows: DataFrame) -> Judged:
    with _naming_corrupt_files(one, name):
        counted = rows.groupBy("_reason").agg(
            F.count(F.lit(1)).alias("rows"), F.count_distinct(F.when(F.col("_reason").isNull(), F.xxhash64("event_id"))).alias("distinct"),
        ).collect()
    reasons = {row["_reason"]: row["rows"] for row in sorted(counted, key=lambda row: str(row["_reason"])) if row["_reason"]}
    return Judged(name, rows, sum(row["rows"] for row in counted), sum(row["distinct"] for row in counted), reasons)


def _refuse_unfit(one: Landed, judged: list[Judged]) -> None:
    """Raises UsageError where an interval as a whole cannot be meant: a truncated table, a table of which most records
    are bad, a day without events. Audit refuses the same; here a person is told what and where."""
    declared = read_marker(one.folder)["tables"]
    for table in judged:
        if table.name in declared and declared[table.name] != table.landed:
            raise UsageError(f"{one.folder}/{table.name}: has {table.landed} rows, its marker says {declared[table.name]}; land it again")
        if table.quarantined > max(FEW, MOST_QUARANTINED * table.landed):
            raise UsageError(f"{one.folder}/{table.name}: {table.bad()}; mend the source and land it again")
    landed_rows = {table.name: table.landed for table in judged}
    for name, rows in declared.items():
        if rows and name in TABLES and name not in landed_rows:
            raise UsageError(f"{one.folder}/{name}: no file, but its marker says {rows} rows; land it again")
    if not landed_rows.get("plays") and not landed_rows.get("impressions"):
        raise UsageError(f"{one.folder}: an empty day: plays and impressions have no row")
    events = [table for table in judged if table.name in ("plays", "impressions")]
    if not any(table.good for table in events):
        raise UsageError(f"{one.folder}: an empty day: " + "; ".join(f"{table.name}: {table.bad()}" for table in events if table.landed))


@contextmanager
def _naming_corrupt_files(one: Landed, name: str) -> Iterator[None]:
    try:
        yield
    except (Py4JJavaError, PySparkException):
        landed.name_corrupt_file(one.folder, name)
        raise


def _require_catalogue(one: Landed, judged: list[Judged]) -> None:
    """Raises UsageError where the first interval lacks what nothing can do without."""
    there = {table.name for table in judged if table.good}
    for table in TABLES.values():
        if table.required and table.name not in there | {"plays"}:
            raise UsageError(f"{one.folder}: has no {table.name} ({table.doc}); the first interval must bring them")


# --- audit branch -------------------------------------------------------------------------------------------------

def _stage(session: SparkSession, catalog: Catalog, one: Landed, judged: list[Judged]) -> dict[str, dict[str, int]]:
    """Writes what is good and new to the audit branches; returns landed, published, quarantined, duplicates a table."""
    with ThreadPoolExecutor(PARALLEL_TABLES) as pool:
        counts = pool.map(lambda table: _stage_table(session, catalog, one, table), judged)
    return {table.name: count for table, count in zip(judged, counts, strict=True)}


def _stage_table(session: SparkSession, catalog: Catalog, one: Landed, table: Judged) -> dict[str, int]:
    name = raw.raw_table(table.name)
    before = catalog.load_table(name)
    history = session.table(f"{CATALOG}.{name}") if raw.main_snapshot(before) is not None else None
    columns = [c.name for c in TABLES[table.name].columns]
    parts = deduplicate(table.rows.where("_reason is null").select(*columns), history, table.good, table.distinct)
    duplicates = parts.repeats.count() if table.good and parts.repeats is not None else 0
    published = 0
    if table.good > duplicates:
        session.sql(f"alter table {CATALOG}.{name} create branch {raw.AUDIT_BRANCH}")
        rows = parts.kept.withColumn("landed_interval", F.lit(one.interval.name))
        rows.writeTo(f"{CATALOG}.{name}.branch_{raw.AUDIT_BRANCH}").append()
        added = catalog.load_table(name)
        summary = added.snapshot_by_id(added.refs()[raw.AUDIT_BRANCH].snapshot_id).summary
        published = int(summary["added-records"] or 0)
    return {"landed": table.landed, "published": published, "quarantined": table.quarantined, "duplicates": duplicates}


def _branch_rows(catalog: Catalog, name: str, interval: Interval) -> pa.Table:
    table = catalog.load_table(raw.raw_table(name))
    return table.scan(
        row_filter=EqualTo("landed_interval", interval.name),
        selected_fields=tuple(quality.audited_columns(name)),
        snapshot_id=table.refs()[raw.AUDIT_BRANCH].snapshot_id,
    ).to_arrow()


# --- publish ------------------------------------------------------------------------------------------------------

def _publish(settings: Settings, session: SparkSession, catalog: Catalog, one: Landed, judged: list[Judged], ingest: raw.Ingest) -> None:
    """Moves main of every table; the row in raw.ingests, last, is what makes it true."""
    tables = [raw.raw_table(name) for name, count in ingest.counts.items() if count["published"]]
    before = {name: raw.main_snapshot(catalog.load_table(name)) for name in [*tables, QUARANTINE]}
    raw.open_journal(settings, ingest.sequence, before)
    _write_quarantine(session, one, judged, ingest.sequence)
    for name in tables:
        session.sql(f"call {CATALOG}.system.fast_forward('{name}', 'main', '{raw.AUDIT_BRANCH}')")
    raw.append_ingest(session, ingest)
    raw.close_journal(settings)
    raw.drop_audit_branches(session, catalog)


def _write_quarantine(session: SparkSession, one: Landed, judged: list[Judged], sequence: int) -> None:
    bad = [
        table.rows.where("_reason is not null").select(
            F.lit(sequence).alias("sequence"), F.lit(one.interval.name).alias("interval"), F.lit(table.name).alias("table_name"),
            "event_id", F.col("_reason").alias("reason"), F.col("_record").alias("record"),
            F.regexp_extract("_file", r"([^/]+/[^/]+)$", 1).alias("file"),
        )
        for table in judged if table.quarantined
    ]
    if bad:
        rows = bad[0]
        for more in bad[1:]:
            rows = rows.unionByName(more)
        rows.coalesce(1).writeTo(f"{CATALOG}.{QUARANTINE}").append()


def _earliest(branches) -> datetime | None:
    moments = [pc.min(rows["received_at"]).as_py() for rows in branches if rows.num_rows]
    return min(moments).replace(tzinfo=None) if moments else None


def _warnings(catalog: Catalog, branches: dict[str, pa.Table]) -> dict[str, int]:
    """What is published and yet not eligible: titles without maturity, titles that no licence names."""
    if "titles" not in branches:
        return {}
    titles = branches["titles"]
    rated = set(titles.filter(pc.is_valid(titles["maturity"]))["title_id"].to_pylist())
    licences = catalog.load_table(raw.raw_table("licences"))
    newest = licences.refs().get(raw.AUDIT_BRANCH) or licences.refs().get("main")
    licensed = licences.scan(selected_fields=("title_id",), snapshot_id=newest.snapshot_id).to_arrow()["title_id"].unique() if newest else []
    landed_titles = set(titles["title_id"].to_pylist())
    found = {
        "titles_without_maturity": len(landed_titles - rated),
        "titles_without_licence": len(landed_titles - {str(title) for title in licensed}),
    }
    return {what: count for what, count in found.items() if count}


def _summary(ds: str, catalog: Catalog, ingested: list[raw.Ingest]) -> dict[str, Any]:
    totals: dict[str, dict[str, int]] = {}
    for ingest in ingested:
        for name, count in ingest.counts.items():
            row = totals.setdefault(name, dict.fromkeys(count, 0))
            for key, value in count.items():
                row[key] += value
    for name, row in totals.items():
        if row["landed"] != row["published"] + row["quarantined"] + row["duplicates"]:
            raise MarqueeError(f"{name}: landed {row['landed']} is not the sum of {row}")
    warnings = {ingest.interval: ingest.warnings for ingest in ingested if ingest.warnings}
    return {
        "ds": ds,
        "intervals": [ingest.interval for ingest in ingested],
        "tables": totals,
        "warnings": warnings,
        "message": "" if ingested else f"everything up to {ds} is published already; nothing changed",
    }
