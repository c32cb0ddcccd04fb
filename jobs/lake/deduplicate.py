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
    """The rows to publish, and the rows left out because their id was there already; both lazy."""

    kept: DataFrame
    repeats: DataFrame


def deduplicate(good: DataFrame, history: DataFrame | None, rows: int) -> Deduplicated:
    """`good` has event_id, received_at and anything else; `history` has event_id; `rows` is the size of `good`.

    Of several records of one id the one received first is kept; equal ones are told apart by their content, so that
    the choice does not depend on the order of files.
    """
    hashed = good.withColumn("_hash", F.xxhash64("event_id"))
    several = hashed.groupBy("_hash").count().where("count > 1").select("_hash")
    content = F.xxhash64(*[c for c in good.columns if not c.startswith("_")])
    suspects = hashed.join(F.broadcast(several), "_hash", "left_semi").drop("_hash")
    ranked = suspects.withColumn("_rank", F.row_number().over(Window.partitionBy("event_id").orderBy("received_at", "event_time", content)))
    single = hashed.join(F.broadcast(several), "_hash", "left_anti").drop("_hash")
    kept = single.unionByName(ranked.where("_rank = 1").drop("_rank"))
    repeats = ranked.where("_rank > 1").drop("_rank")
    if history is None:
        return Deduplicated(kept, repeats)
    seen = _seen(kept, history.select("event_id"), rows)
    return Deduplicated(
        kept.join(seen, "event_id", "left_anti").select(*good.columns),
        repeats.unionByName(kept.join(seen, "event_id", "left_semi")).select(*good.columns),
    )


def _seen(kept: DataFrame, history: DataFrame, rows: int) -> DataFrame:
    """The ids of `kept` that history has."""
    if rows > BROADCAST_ROWS:
        return history
    return F.broadcast(history.join(F.broadcast(kept.select("event_id")), "event_id", "left_semi"))
