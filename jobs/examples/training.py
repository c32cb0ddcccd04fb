"""The night's training rows: requests and impressions with features as known before each of them, at the tag.

Writes `training.requests` and `training.impressions` (partition ds, replaced whole), the distributions that the online
guard compares with, and last the record: its existence means that the rows are complete.
"""

import hashlib

from feast import FeatureStore
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts import durable
from contracts.errors import MarqueeError, UsageError
from contracts.marts import CATALOG, TRAINING, TRAINING_COLUMNS, tag_name
from contracts.settings import Settings
from contracts.tags import TableVersion, TagRecord, training_file
from feature_repo.feature_views import profile_daily, profile_declared, title_daily
from feature_repo.store import apply, open_store
from jobs import distribution, runtime
from jobs.examples.population import described, online_rows, profile_path
from jobs.examples.requests import judge_requests, ranker_impressions, ranker_requests
from jobs.examples.retrieval import INSTANT, bind, with_features
from jobs.lake import read
from jobs.lake.session import ensure_namespaces, spark_session

MARTS_READ = ("fct_impression", "fct_play", "feat_profile_daily", "feat_title_daily", "dim_profile_version")
ORDER = {"requests": ("role", "request_id"), "impressions": ("request_id", "position", "title_id")}
"""Rows of a partition lie in this order; the first columns and the last are the identity of a row."""


def run(settings: Settings, ds: str) -> dict:
    """Makes the rows of night `ds`; rerun, it replaces them with equal ones. Raises UsageError where the night has no
    tag, MarqueeError where a block has no request."""
    runtime.require_free_disk(settings)
    record = read.tag_record(settings, ds)
    spark = spark_session(settings)
    store = open_store(settings, offline=True)
    apply(store)
    marts = bind(spark, tag_name(ds), MARTS_READ)
    rows = training_rows(store, marts, record)
    ensure_namespaces(spark)
    tables = {name: _replace(settings, spark, name, ds, frame) for name, frame in rows.items()}
    distribution.save(profile_path(settings, ds), described(online_rows(settings, record)))
    _write_record(settings, record.model_copy(update={"tables": tables}))
    roles = {row["role"]: row["count"] for row in rows["requests"].groupBy("role").count().collect()}
    return {"ds": ds, "requests": roles, "impressions": tables["impressions"].rows,
            "tables": {name: version.model_dump() for name, version in tables.items()}}


def training_rows(store: FeatureStore, marts: dict[str, DataFrame], record: TagRecord) -> dict[str, DataFrame]:
    """Table name → rows with the columns of `contracts.marts.TRAINING_COLUMNS`. `marts` are bound to the tag."""
    impressions, plays, split = marts["fct_impression"], marts["fct_play"], record.split
    asked = (
        ranker_requests(impressions, plays, split, record.has_impressions)
        .unionByName(judge_requests(impressions, plays, split, record.ds))
        .localCheckpoint()
    )
    _require_both_roles(asked, record)
    requests = with_features(store, asked, [profile_daily, profile_declared], lag=INSTANT)
    shown = ranker_impressions(impressions, asked)
    if record.has_impressions:
        shown = with_features(store, shown, [title_daily], lag=split.counts_lag)
    return {"requests": _final(requests, "requests", record.ds), "impressions": _final(shown, "impressions", record.ds)}


def _require_both_roles(asked: DataFrame, record: TagRecord) -> None:
    split = record.split
    blocks = {"ranker": (split.retriever_end, split.ranker_end), "judge": (split.ranker_end, split.judge_end)}
    there = {row["role"] for row in asked.select("role").distinct().collect()}
    for role, (start, end) in blocks.items():
        if role not in there:
            raise MarqueeError(
                f"night {record.ds} has no {role} request: nobody engaged with a new title from {start:%Y-%m-%d %H:%M} "
                f"to {end:%Y-%m-%d %H:%M}. Was that block landed? (`marquee land check`, raw.ingests)")


def _final(frame: DataFrame, name: str, ds: str) -> DataFrame:
    """The table's columns in order; a column that the frame lacks is null throughout."""
    there = {"ds": F.lit(ds)} | {column: F.col(column) for column in frame.columns}
    return frame.select([
        there.get(column, F.lit(None)).cast(spark_type).alias(column)
        for column, spark_type in TRAINING_COLUMNS[name].items()
    ])


def _replace(settings: Settings, spark: SparkSession, name: str, ds: str, frame: DataFrame) -> TableVersion:
    """Replaces the partition `ds` in one commit, unless it holds equal rows already."""
    table = f"{CATALOG}.{TRAINING}.{name}"
    columns = ", ".join(f"{column} {spark_type}" for column, spark_type in TRAINING_COLUMNS[name].items())
    spark.sql(f"create table if not exists {table} ({columns}) using iceberg partitioned by (ds) "
              "tblproperties ('write.distribution-mode' = 'none')")
    rows, logical_hash = _logical_hash(frame)
    there = _recorded(settings, ds, name)
    if there and there.logical_hash == logical_hash and _has_snapshot(spark, table, there.snapshot_id):
        return there
    frame.orderBy(*ORDER[name]).writeTo(table).overwrite(F.col("ds") == ds)
    head = spark.sql(f"select snapshot_id from {table}.refs where name = 'main'").first()
    return TableVersion(snapshot_id=head["snapshot_id"], rows=rows, logical_hash=logical_hash)


def _recorded(settings: Settings, ds: str, name: str) -> TableVersion | None:
    try:
        return read.training_record(settings, ds).tables.get(name)
    except UsageError:
        return None


def _has_snapshot(spark: SparkSession, table: str, snapshot_id: int) -> bool:
    return bool(spark.sql(f"select 1 from {table}.snapshots where snapshot_id = {snapshot_id}").head(1))


def _logical_hash(frame: DataFrame) -> tuple[int, str]:
    """Rows and a hash of them in any order: the sum of two independent row hashes. A hash passes over nulls, so that
    where they are is a part of its own."""
    columns = [part for name in frame.columns for part in (F.col(name), F.col(name).isNull())]
    sums = [F.sum(F.xxhash64(F.lit(salt), *columns).cast("decimal(38,0)")) for salt in (1, 2)]
    count, *parts = frame.agg(F.count(F.lit(1)), *sums).first()
    return count, hashlib.sha256(f"{count}:{parts[0]}:{parts[1]}".encode()).hexdigest()


def _write_record(settings: Settings, record: TagRecord) -> None:
    path = settings.lake / "tags" / training_file(tag_name(record.ds))
    durable.write(path, record.model_dump_json(indent=1))
