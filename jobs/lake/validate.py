"""Says of every landed record whether it may be published, and if not, why: `_reason`, null for a good one.

Pure frame to frame. The first reason that applies holds, so that reasons can be counted.
"""

from datetime import UTC, datetime, timedelta

from pyspark.sql import Column as Expression
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from contracts.landing import CLOCK_SKEW, EARLIEST, LONGEST_ID, MARKET, TABLES, YEARS, Interval

NEEDS_KNOWN_TITLE = ("impressions", "plays", "skips", "ratings")
PRIVACY_REQUESTS = ("erase", "clear_history", "do_not_personalise")


def interval_end(interval: Interval) -> datetime:
    """The first moment after the interval, UTC."""
    last = interval.last
    return datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)


def fill_received_at(frame: DataFrame, interval: Interval, lag_seconds: float) -> DataFrame:
    """Where a source does not say when it had a record: event time plus the declared lag, never load time; what has
    landed was received by the end of its interval."""
    latest = F.lit(interval_end(interval) - timedelta(microseconds=1))
    assumed = F.timestamp_micros(F.unix_micros("event_time") + F.lit(round(lag_seconds * 1e6)).cast("long"))
    assumed = F.when(F.col("event_time") > latest, assumed).otherwise(F.least(assumed, latest))
    return frame.withColumn("received_at", F.coalesce("received_at", assumed))


def validate(frame: DataFrame, table: str, interval: Interval, known_titles: DataFrame | None = None) -> DataFrame:
    """Adds `_reason`. `known_titles` (title_id, unique) are the titles known by the end of the interval; None skips
    that check."""
    checks = [*_shape_checks(table), *_time_checks(table, interval), *_table_checks(table)]
    if table in NEEDS_KNOWN_TITLE and known_titles is not None:
        marked = F.broadcast(known_titles.select("title_id", F.lit(True).alias("_known")))
        frame = frame.join(marked, "title_id", "left")
        checks.append(F.when(F.col("_known").isNull(), "unknown title: title_id"))
    return frame.withColumn("_reason", F.coalesce(*checks)).drop("_known")


def _shape_checks(table: str) -> list[Expression]:
    columns = TABLES[table].columns
    checks = [
        F.when(F.col("_uncastable").isin("(not JSON)", "(not UTF-8)"), F.regexp_extract("_uncastable", r"\((.*)\)", 1)),
        F.when(F.col("_uncastable").isNotNull(), F.concat(F.lit("wrong type: "), "_uncastable")),
    ]
    for column in columns:
        value = F.col(column.name)
        if column.required:
            empty = value.isNull() if column.type != "string" else value.isNull() | (F.trim(value) == "")
            checks.append(F.when(empty, f"missing: {column.name}"))
        if column.name.endswith("_id"):
            checks.append(F.when(F.length(value) > LONGEST_ID, f"longer than {LONGEST_ID} characters: {column.name}"))
        if column.low is not None:
            checks.append(F.when(value < column.low, f"below {column.low:g}: {column.name}"))
        if column.high is not None:
            checks.append(F.when(value > column.high, f"above {column.high:g}: {column.name}"))
    return checks


def _time_checks(table: str, interval: Interval) -> list[Expression]:
    end = F.lit(interval_end(interval))
    return [
        F.when(F.col("event_time") < F.lit(EARLIEST), f"before {EARLIEST.year}: event_time"),
        F.when(F.col("event_time") >= end, "in the future: event_time"),
        F.when(F.col("received_at") >= end, "in the future: received_at"),
        F.when(F.col("received_at") < F.col("event_time") - F.expr(f"interval {CLOCK_SKEW.days} day"),
               "received before it happened: received_at"),
        *(F.when(~F.year(c.name).between(*YEARS), f"outside the years {YEARS[0]} to {YEARS[1]}: {c.name}")
          for c in TABLES[table].columns if c.type == "timestamp"),
    ]


def _table_checks(table: str) -> list[Expression]:
    checks = []
    if any(c.name == "market" for c in TABLES[table].columns):
        checks.append(F.when(~F.col("market").rlike(MARKET), "not 1 to 32 letters, digits and _: market"))
    if table == "privacy_requests":
        checks.append(F.when(~F.col("request").isin(*PRIVACY_REQUESTS), "unknown kind: request"))
    return checks
