"""The raw layer's tables, and the journal that makes publishing several of them one step.

The row in `raw.ingests` is the commit point. Before main of any table moves, the journal says where each one stood; a
run that finds a journal without its row was killed in between and puts the tables back.
"""

import json
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.table import Table
from pyspark.sql import SparkSession

from contracts import durable
from contracts.landing import TABLES, Interval
from contracts.marts import CATALOG, INGESTS, QUARANTINE, RAW
from contracts.settings import Settings
from jobs.lake.landed import SPARK_TYPES
from jobs.lake.session import ensure_namespaces

AUDIT_BRANCH = "audit"
JOURNAL = "publishing.json"
LONG_HISTORY_DAYS = 120

_EVENT_TABLES = tuple(f"{RAW}.{name}" for name in ("impressions", "plays", "skips", "ratings"))
_QUARANTINE_COLUMNS = "sequence int, interval string, table_name string, event_id string, reason string, record string, file string"
_INGESTS_COLUMNS = (
    "sequence int, interval string, first date, last date, source string, content_sha256 string, counts string, "
    "warnings string, earliest_received_at timestamp, published_at timestamp"
)


@dataclass(frozen=True)
class Ingest:
    """One row of raw.ingests: an interval's content was published. `counts` is per table landed, published,
    quarantined and duplicates; `earliest_received_at` is of what was published (None: nothing was)."""

    sequence: int
    interval: str
    first: date
    last: date
    source: str
    content_sha256: str
    counts: dict[str, dict[str, int]]
    warnings: dict[str, int]
    earliest_received_at: datetime | None
    published_at: datetime


def raw_table(name: str) -> str:
    return f"{RAW}.{name}"


def partition_grain(first: Interval) -> str:
    """`day` or `month`, by the length of the lake's first interval: a long thin history (MovieLens: a thousand days)
    would make a thousand tiny files of every table."""
    return "month" if first.days > LONG_HISTORY_DAYS else "day"


def create_tables(session: SparkSession, catalog: Catalog, pending: list[Interval]) -> None:
    """Every raw table, also of what a source never brings, so that dbt finds them all. Safe to repeat."""
    ensure_namespaces(session)
    there = {".".join(name) for name in catalog.list_tables(RAW)}
    definitions = {raw_table(table): _columns(table) for table in TABLES}
    definitions |= {QUARANTINE: _QUARANTINE_COLUMNS, INGESTS: _INGESTS_COLUMNS}
    for name, columns in definitions.items():
        if name not in there:
            # by time of arrival: the night's models read what arrived since the last one
            grain = partition_grain(pending[0]) if pending else "day"
            partitions = f"partitioned by ({grain}s(received_at))" if name in _EVENT_TABLES else ""
            session.sql(f"create table if not exists {CATALOG}.{name} ({columns}) using iceberg {partitions} "
                        "tblproperties ('write.metadata.delete-after-commit.enabled'='true', 'write.distribution-mode'='hash')")


def read_ingests(catalog: Catalog) -> list[Ingest]:
    """What has been published, in order; empty where the lake is new."""
    try:
        table = catalog.load_table(INGESTS)
    except NoSuchTableError:
        return []
    if table.current_snapshot() is None:
        return []
    rows = table.scan().to_arrow().sort_by("sequence").to_pylist()
    return [Ingest(**row | {"counts": json.loads(row["counts"]), "warnings": json.loads(row["warnings"])}) for row in rows]


def append_ingest(session: SparkSession, ingest: Ingest) -> None:
    row = asdict(ingest) | {"counts": json.dumps(ingest.counts, sort_keys=True), "warnings": json.dumps(ingest.warnings, sort_keys=True)}
    frame = session.createDataFrame([tuple(row.values())], _INGESTS_COLUMNS)
    frame.coalesce(1).writeTo(f"{CATALOG}.{INGESTS}").append()


def main_snapshot(table: Table) -> int | None:
    snapshot = table.current_snapshot()
    return snapshot.snapshot_id if snapshot else None


def open_journal(settings: Settings, sequence: int, before: dict[str, int | None]) -> None:
    """Says where main of each table stands before publication `sequence` moves it."""
    durable.write(_journal(settings), json.dumps({"sequence": sequence, "before": before}))


def is_open(settings: Settings) -> bool:
    """A publication is under way, or was killed."""
    return _journal(settings).exists()


def close_journal(settings: Settings) -> None:
    _journal(settings).unlink(missing_ok=True)


def recover(session: SparkSession, catalog: Catalog, settings: Settings) -> bool:
    """After a run that was killed: drops its audit branches and, where it did not reach the commit point, puts main
    of every table back. Returns whether main had to move."""
    drop_audit_branches(session, catalog)
    if not _journal(settings).exists():
        return False
    journal = json.loads(_journal(settings).read_text())
    published = any(ingest.sequence == journal["sequence"] for ingest in read_ingests(catalog))
    moved = False if published else [_put_back(session, catalog, name, at) for name, at in journal["before"].items()]
    close_journal(settings)
    return bool(moved) and any(moved)


def drop_audit_branches(session: SparkSession, catalog: Catalog) -> None:
    for name in TABLES:
        if AUDIT_BRANCH in catalog.load_table(raw_table(name)).refs():
            session.sql(f"alter table {CATALOG}.{raw_table(name)} drop branch {AUDIT_BRANCH}")


def _put_back(session: SparkSession, catalog: Catalog, name: str, at: int | None) -> bool:
    if main_snapshot(catalog.load_table(name)) == at:
        return False
    session.sql(f"refresh table {CATALOG}.{name}")
    if at is None:
        session.sql(f"delete from {CATALOG}.{name}")
    else:
        session.sql(f"call {CATALOG}.system.rollback_to_snapshot('{name}', {at})")
    return True


def _columns(table: str) -> str:
    columns = [f"{c.name} {SPARK_TYPES[c.type]}" for c in TABLES[table].columns]
    return ", ".join([*columns, "landed_interval string"])


def _journal(settings: Settings) -> Path:
    return settings.lake / JOURNAL
