"""Raw to marts: build and test the dbt models, then pin what came out as `nightly_<ds>`.

A night's marts are a function of the intervals that had landed by it and of the models. The state file says which of
both main was built from; a night builds only what its new intervals can have changed, and everything where main was
built from something else (other models, a later night). A night whose inputs are those of its tag is not built again.
"""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from contracts import durable
from contracts.errors import MarqueeError, UsageError
from contracts.marts import CATALOG, MART_COLUMNS, MARTS, TAGGED, tag_name
from contracts.settings import Settings
from contracts.tags import TableVersion, TagRecord, tag_file
from jobs import runtime
from jobs.lake import dbt_session, raw, read
from jobs.lake.session import ensure_namespaces, spark_session

STATE = "marts.json"
_CODE = ("**/*.sql", "**/*.yml")


@dataclass(frozen=True)
class Inputs:
    """What a night's marts are made of: ingests by sequence with their content, the models, and what they are told."""

    ds: str
    ingests: dict[str, str]
    code: str
    first_day: str
    grain: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@runtime.alone("warehouse")
def run(settings: Settings, ds: str) -> dict[str, Any]:
    """Builds, tests, tags and hashes the marts of night `ds`; returns rows per mart, and how it was built.

    Raises UsageError where no published interval ends on `ds`; MarqueeError that names the models and tests that fail,
    in which case no tag moves.
    """
    started = time.monotonic()
    runtime.require_free_disk(settings)
    ingests = [ingest for ingest in raw.read_ingests(read.catalog(settings)) if str(ingest.last) <= ds]
    night = next((ingest for ingest in reversed(ingests) if str(ingest.last) == ds), None)
    if night is None:
        raise UsageError(f"no published interval ends on {ds}: run `marquee ingest --ds {ds}` first")
    told = dbt_session.variables(ds, ingests)
    inputs = Inputs(ds, {str(i.sequence): i.content_sha256 for i in ingests}, models_digest(), told["first_day"], told["grain"])
    standing = _standing(settings, inputs)
    if standing is not None:
        return _result(standing, "unchanged: the tag has these inputs already", started)
    session = spark_session(settings)
    ensure_namespaces(session)
    built = _build(settings, inputs, ingests)
    record = _pin(settings, session, night)
    _write_aside(settings.lake / "tags" / _inputs_file(ds), inputs.as_json())
    _write_aside(settings.lake / "tags" / tag_file(tag_name(ds)), record.model_dump(mode="json"))
    return _result(record, built, started)


def models_digest() -> str:
    """SHA-256 over the dbt project: other models make other marts."""
    whole = hashlib.sha256()
    for path in sorted(path for pattern in _CODE for path in dbt_session.PROJECT.glob(pattern)):
        name = path.relative_to(dbt_session.PROJECT).as_posix()
        if not name.startswith(("target/", "logs/")):
            whole.update(f"{name}\t{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def logical_hash(session: SparkSession, table: str, snapshot: int) -> tuple[int, str]:
    """Rows of `marts.<table>` at a snapshot, and a hash over all of them in any order: the sum of the rows' 64-bit
    hashes, with the schema. Nulls count, so that (null, a) differs from (a, null)."""
    frame = session.read.option("versionAsOf", snapshot).table(f"{CATALOG}.{MARTS}.{table}")
    columns = list(MART_COLUMNS[table])
    row = F.xxhash64(*[part for name in columns for part in (F.col(name), F.col(name).isNull())])
    total = frame.agg(F.count(F.lit(1)).alias("rows"), F.sum(row.cast("decimal(20,0)")).cast("string").alias("sum")).first()
    text = json.dumps([list(MART_COLUMNS[table].items()), total["rows"], total["sum"]])
    return total["rows"], hashlib.sha256(text.encode()).hexdigest()


def _build(settings: Settings, inputs: Inputs, ingests: list[raw.Ingest]) -> str:
    """`dbt build` of what is not in main yet; the state file is gone while main is between two states."""
    state = _read_state(settings)
    new = _new_ingests(state, inputs, ingests)
    variables = {"ds": inputs.ds, "first_day": inputs.first_day, "grain": inputs.grain}
    if new is not None:
        changed = _changed_from(new, inputs.ds)
        variables["changed_from"] = str(changed.replace(day=1) if inputs.grain == "month" else changed)
    (settings.lake / STATE).unlink(missing_ok=True)
    result = dbt_session.build_live(settings, variables, full_refresh=new is None)
    if not result.success:
        raise MarqueeError(f"dbt build of {inputs.ds}: " + ("; ".join(result.failures) or "failed without saying why; see the log"))
    _write_aside(settings.lake / STATE, inputs.as_json())
    dbt_session.keep_manifest(settings)
    return "built in full" if new is None else f"built what arrived from {variables['changed_from']}"


def _new_ingests(state: Inputs | None, inputs: Inputs, ingests: list[raw.Ingest]) -> list[raw.Ingest] | None:
    """The ingests that main lacks; None where main cannot be carried forward to these inputs."""
    if state is None or state.ds > inputs.ds:
        return None
    if (state.code, state.first_day, state.grain) != (inputs.code, inputs.first_day, inputs.grain):
        return None
    if any(inputs.ingests.get(sequence) != content for sequence, content in state.ingests.items()):
        return None
    return [ingest for ingest in ingests if str(ingest.sequence) not in state.ingests]


def _changed_from(new: list[raw.Ingest], ds: str) -> date:
    """The first arrival day on which a row can have changed: late records of a new interval may be older than it."""
    days = [ingest.first for ingest in new]
    days += [ingest.earliest_received_at.date() for ingest in new if ingest.earliest_received_at]
    return min(days, default=date.fromisoformat(ds))


def _pin(settings: Settings, session: SparkSession, night: raw.Ingest) -> TagRecord:
    """Tags every mart's main and hashes it."""
    ds = str(night.last)
    catalog = read.catalog(settings)
    snapshots = {}
    for name in TAGGED:
        snapshots[name] = raw.main_snapshot(catalog.load_table(f"{MARTS}.{name}"))
        session.sql(f"alter table {CATALOG}.{MARTS}.{name} create or replace tag `{tag_name(ds)}` as of version {snapshots[name]}")
    with ThreadPoolExecutor(2) as pool:
        hashes = dict(zip(TAGGED, pool.map(lambda name: logical_hash(session, name, snapshots[name]), TAGGED), strict=True))
    tables = {name: TableVersion(snapshot_id=snapshots[name], rows=hashes[name][0], logical_hash=hashes[name][1]) for name in TAGGED}
    return TagRecord(ds=ds, first=night.first, last=night.last, has_impressions=tables["fct_impression"].rows > 0, tables=tables)


def _standing(settings: Settings, inputs: Inputs) -> TagRecord | None:
    """The record of a tag that was made of exactly these inputs and still stands, or None."""
    try:
        made_of = json.loads((settings.lake / "tags" / _inputs_file(inputs.ds)).read_text())
        record = read.tag_record(settings, inputs.ds)
    except (FileNotFoundError, UsageError):
        return None
    if made_of != inputs.as_json():
        return None
    for name, version in record.tables.items():
        pinned = read.open_table(settings, f"{MARTS}.{name}").refs().get(tag_name(inputs.ds))
        if pinned is None or pinned.snapshot_id != version.snapshot_id:
            return None
    return record


def _inputs_file(ds: str) -> str:
    return f"{tag_name(ds)}.inputs.json"


def _read_state(settings: Settings) -> Inputs | None:
    try:
        return Inputs(**json.loads((settings.lake / STATE).read_text()))
    except (FileNotFoundError, TypeError):  # never built, or by a version that kept other fields: build in full
        return None


def _write_aside(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def _result(record: TagRecord, built: str, started: float) -> dict[str, Any]:
    return {
        "ds": record.ds,
        "tag": tag_name(record.ds),
        "built": built,
        "rows": {name: version.rows for name, version in record.tables.items()},
        "logical_hashes": {name: version.logical_hash[:12] for name, version in record.tables.items()},
        "has_impressions": record.has_impressions,
        "seconds": round(time.monotonic() - started, 1),
    }
