"""`marquee lake tidy`: small files become larger ones, snapshots that nothing names go, and so do files that no snapshot
knows. Iceberg's own procedures, one table after the other.

Kept is every snapshot that a branch or a tag points at, that a record of a night names (training tables have no tags),
that the provenance of a release names until the release is collected, and that is young: a reader may be on it. Each
procedure commits before it deletes: killed at any point it leaves files too many, which a later run finds.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pyiceberg.catalog import Catalog
from pyiceberg.table import Table
from pyspark.sql import SparkSession

from contracts.errors import MarqueeError
from contracts.marts import CATALOG, MARTS, RAW, TRAINING
from contracts.release import PROVENANCE, Provenance, State
from contracts.settings import Settings
from contracts.tags import TagRecord
from jobs import runtime
from jobs.lake import raw, read
from jobs.lake.session import spark_session
from ledger import open_ledger

KEEP_DAYS = 3.0
"""A snapshot, or a file that no snapshot knows, may be a running job's for so long. Iceberg refuses to look for files
younger than a day."""

NEVER = "timestamp '1970-01-01 00:00:00'"
DAY_SECONDS = 86400


@runtime.alone("tidy")
def run(settings: Settings, keep_days: float = KEEP_DAYS) -> dict[str, Any]:
    """Counts of what was done; again: nothing. `keep_days` is the age under which a snapshot stays, whatever names it.

    MarqueeError where a record that says what must stay cannot be read: nothing is touched then.
    """
    runtime.require_free_disk(settings)
    catalog, needed = read.catalog(settings), named_snapshots(settings)
    names = list(_tables(catalog))
    if not names:
        return {"tables": 0}
    session = spark_session(settings)
    done: dict[str, int] = defaultdict(int)
    passed_over = []
    for number, name in enumerate(names, 1):
        runtime.log.info("tidy: %s (%d of %d)", name, number, len(names))
        if _in_publication(settings, catalog.load_table(name)):
            passed_over.append(name)
            continue
        session.sql(f"refresh table {CATALOG}.{name}")
        done["files_compacted"] += _compact(session, name)
        doomed = expirable(catalog.load_table(name), needed[name], time.time() - keep_days * DAY_SECONDS)
        done["snapshots_expired"] += len(doomed)
        done["files_expired"] += _expire(session, name, doomed)
        done["orphans_removed"] += _remove_orphans(session, name)
        done["snapshots_kept"] += len(catalog.load_table(name).snapshots())
    return {"tables": len(names), "passed_over": passed_over, **done}


def named_snapshots(settings: Settings) -> dict[str, set[int]]:
    """Table -> snapshots that a night's record or a release that is not collected was built from."""
    found: dict[str, set[int]] = defaultdict(set)
    for namespace, record in _records(settings):
        for table, version in record.tables.items():
            found[f"{namespace}.{table.removeprefix(f'{namespace}.')}"].add(version.snapshot_id)
    return found


def expirable(table: Table, needed: set[int], before: float) -> list[int]:
    """Snapshots of a table older than `before` (epoch seconds) that no branch or tag points at, and that are not needed."""
    named = needed | {ref.snapshot_id for ref in table.refs().values()}
    return [s.snapshot_id for s in table.snapshots() if s.timestamp_ms / 1000 < before and s.snapshot_id not in named]


def _records(settings: Settings) -> Iterator[tuple[str, TagRecord]]:
    """(namespace, record) of every night and of every release that is not collected."""
    collected = {row.release_id for row in open_ledger(settings).releases() if row.state == State.COLLECTED}
    tags = settings.lake / "tags"
    try:
        for path in sorted(tags.glob("nightly_*.training.json")):
            yield TRAINING, TagRecord.model_validate_json(path.read_text())
        for path in sorted(set(tags.glob("nightly_????-??-??.json"))):
            yield MARTS, TagRecord.model_validate_json(path.read_text())
        for path in sorted(settings.releases.glob(f"*/{PROVENANCE}")):
            if path.parent.name not in collected:
                provenance = Provenance.model_validate_json(path.read_text())
                yield MARTS, provenance.tag
                yield TRAINING, provenance.training
    except ValidationError as error:
        raise MarqueeError(f"{path} cannot be read, so that nobody knows which snapshots it needs: {error.error_count()} fields are wrong") from None


def _tables(catalog: Catalog) -> Iterator[str]:
    there = {name for name, *_ in catalog.list_namespaces()}
    for namespace in (RAW, MARTS, TRAINING):
        if namespace in there:
            yield from sorted(".".join(name) for name in catalog.list_tables(namespace))


def _in_publication(settings: Settings, table: Table) -> bool:
    """An ingest writes this table beside main, or was killed before it published: the next one puts it right first."""
    return raw.AUDIT_BRANCH in table.refs() or (table.name()[-2] == RAW and raw.is_open(settings))


def _compact(session: SparkSession, name: str) -> int:
    """Files that became part of larger ones. Iceberg looks at groups of five and more within a partition."""
    return _call(session, "rewrite_data_files", name)["rewritten_data_files_count"]


def _expire(session: SparkSession, name: str, snapshots: list[int]) -> int:
    """By their numbers; the age that Iceberg would go by is set to never. It refuses one that a tag points at."""
    if not snapshots:
        return 0
    ids = ", ".join(f"{number}L" for number in snapshots)
    gone = _call(session, "expire_snapshots", name, f"snapshot_ids => array({ids})", f"older_than => {NEVER}")
    return sum(count for count in gone.values() if count)


def _remove_orphans(session: SparkSession, name: str) -> int:
    oldest = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - KEEP_DAYS * DAY_SECONDS))
    rows = session.sql(f"call {CATALOG}.system.remove_orphan_files(table => '{name}', older_than => timestamp '{oldest}')").collect()
    return len(rows)


def _call(session: SparkSession, procedure: str, name: str, *more: str) -> dict[str, Any]:
    arguments = ", ".join((f"table => '{name}'", *more))
    return session.sql(f"call {CATALOG}.system.{procedure}({arguments})").first().asDict()
