"""Features as of a moment, from Feast's offline store on Spark: known strictly before it, or not at all."""

from collections.abc import Sequence
from datetime import timedelta

from feast import FeatureStore, FeatureView
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from contracts.errors import MarqueeError
from contracts.marts import CATALOG, MARTS
from feature_repo.data_sources import bound_view
from feature_repo.feature_services import references

ASK = "event_timestamp"
"""The column that Feast takes as the moment of each row."""

INSTANT = timedelta(microseconds=1)
"""Feast includes equal times; asking an instant earlier makes `known before` strict (times are in microseconds)."""


def bind(spark: SparkSession, tag: str, marts: Sequence[str]) -> dict[str, DataFrame]:
    """The marts at the tag, each also as the session view that its Feast source reads."""
    frames = {mart: spark.sql(f"select * from {CATALOG}.{MARTS}.{mart} version as of '{tag}'") for mart in marts}
    for mart, frame in frames.items():
        frame.createOrReplaceTempView(bound_view(mart))
    return frames


def with_features(
    store: FeatureStore, rows: DataFrame, views: Sequence[FeatureView], lag: timedelta, as_known: bool = True,
) -> DataFrame:
    """`rows` with every feature of `views`, as known `lag` before each row's `event_time`; nulls where nothing was.

    rows: the views' key, event_time, anything else; evaluated once here. as_known=False drops the condition on known
    time: tests prove with it that they would see a leak. Raises MarqueeError where the join lost or multiplied rows.
    """
    if lag < INSTANT:
        raise ValueError(f"features must be older than the label; lag is {lag}")
    asked = rows.withColumn(ASK, F.col("event_time") - F.lit(lag)).localCheckpoint()
    job = store.get_historical_features(asked, references(*views), filter_by_created_timestamp=as_known)
    found = job.to_spark_df().drop(ASK).localCheckpoint()
    counts = asked.count(), found.count()
    if counts[0] != counts[1]:
        names = ", ".join(view.name for view in views)
        raise MarqueeError(f"features of {names}: {counts[0]} rows in, {counts[1]} out; some key has one time twice in the mart")
    return found
