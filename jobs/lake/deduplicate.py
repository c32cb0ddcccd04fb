"""Keeps one record an event id, within an interval and against everything published before.

Ids whose hash occurs once go straight through; only the suspects are sorted (half the time of a window over all rows
at 50 million).
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

BROADCAST_ROWS = 2_000_000
"""Up to so many new ids are sent to the scan of history's ids; a larger bulk is joined by sorting."""


@dataclass(frozen=True)
class Deduplicated:
    """The rows to publish, and the rows left out because their id was there already (None: there can be none); lazy."""

    kept: DataFrame
    repeats: DataFrame | None


def deduplicate(good: DataFrame, history: DataFrame | None, rows: int, distinct: int) -> Deduplicated:
    """`good` has event_id, received_at and anything else; `history` (None: empty) has event_id; `rows` is the size of
    `good` and `distinct` its distinct ids: where they are equal nothing is sorted.

    Of several records of one id the one received first is kept; equal ones are told apart by their content, so that
    the choice does not depend on the order of files.
    """
    first, repeats = (good, None) if rows == distinct else _first_of_each(good)
    if history is None:
        return Deduplicated(first, repeats)
    seen = _seen(first, history.select("event_id"), rows)
    again = first.join(seen, "event_id", "left_semi").select(*good.columns)
    return Deduplicated(
        first.join(seen, "event_id", "left_anti").select(*good.columns),
        again if repeats is None else repeats.unionByName(again),
    )


def _first_of_each(good: DataFrame) -> tuple[DataFrame, DataFrame]:
    """The first record of each id, and the others."""
    hashed = good.withColumn("_hash", F.xxhash64("event_id"))
    several = F.broadcast(hashed.groupBy("_hash").count().where("count > 1").select("_hash"))
    content = F.xxhash64(*[c for c in good.columns if not c.startswith("_")])
    order = Window.partitionBy("event_id").orderBy("received_at", "event_time", content)
    ranked = hashed.join(several, "_hash", "left_semi").drop("_hash").withColumn("_rank", F.row_number().over(order))
    single = hashed.join(several, "_hash", "left_anti").drop("_hash")
    return single.unionByName(ranked.where("_rank = 1").drop("_rank")), ranked.where("_rank > 1").drop("_rank")


def _seen(first: DataFrame, history: DataFrame, rows: int) -> DataFrame:
    """Ids of history; where `first` is small only those that it has."""
    if rows > BROADCAST_ROWS:
        return history
    return F.broadcast(history.join(F.broadcast(first.select("event_id")), "event_id", "left_semi"))
