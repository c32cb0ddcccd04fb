"""Which moments become training requests, and what was right at each: labels only, no features.

Pure functions from the marts' frames to frames. A label may use whatever is known at the tag; what a *feature* may use
is decided in `retrieval`. Nothing of the judge's block reaches a ranker request, its labels included.
"""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from contracts.split import TimeSplit

PLAYS_PER_PROFILE = 20
"""Ranker requests of one profile where the source logs no slates, so that a few heavy profiles do not set the order."""

SILENT_SLATES = 2000
"""Slates without engagement kept a night: LambdaMART learns nothing from them, rates by place do."""

FINISHED, HALF = 0.9, 0.5
REQUEST = (
    "role", "request_id", "profile_id", "event_time", "device", "surface", "relevant_titles", "relevant_gains",
)


def ranker_requests(impressions: DataFrame, plays: DataFrame, split: TimeSplit, has_impressions: bool) -> DataFrame:
    """One row per request of the ranker's block: a slate, or a sampled play where there are none (columns REQUEST)."""
    return _from_slates(impressions, plays, split) if has_impressions else _from_plays(plays, split)


def judge_requests(impressions: DataFrame, plays: DataFrame, split: TimeSplit, ds: str) -> DataFrame:
    """One row per profile that first engaged with a title in the judge's block: asked when its first session of the
    block began; right is every title that it first engaged with from then on (columns REQUEST)."""
    columns = ("profile_id", "event_id", "event_time", "device", "surface")
    activity = _within(impressions.select(*columns).unionByName(plays.select(*columns)), split.ranker_end, split.judge_end)
    sessions = activity.groupBy("profile_id").agg(*_first("event_time", "device", "surface"))
    relevant = (
        first_engagements(plays, split.judge_end)
        .where(F.col("event_time") >= F.lit(split.ranker_end))
        .groupBy("profile_id").agg(F.array_sort(F.collect_list(F.struct("event_time", "title_id", "gain"))).alias("labels"))
    )
    return _requests(
        sessions.join(relevant, "profile_id"), "judge", F.concat_ws(":", F.lit("judge"), F.lit(ds), "profile_id"))


def ranker_impressions(impressions: DataFrame, requests: DataFrame) -> DataFrame:
    """One row per title shown on a ranker request's slate: request_id, event_time, title_id, position, propensity,
    engagement. A title shown twice on one slate counts once, at its first place."""
    slates = requests.where("role = 'ranker'").select("request_id", "profile_id", "event_time")
    shown = impressions.withColumnRenamed("slate_id", "request_id").drop("event_time")
    return (
        shown.join(slates, ["request_id", "profile_id"])
        .groupBy("request_id", "event_time", "title_id")
        .agg(F.min_by("propensity", F.struct("position", "event_id")).alias("propensity"),
             F.min("position").alias("position"), F.max("engagement").alias("engagement"))
        .select("request_id", "event_time", "title_id", "position", "propensity", "engagement")
    )


def first_engagements(plays: DataFrame, until) -> DataFrame:
    """One row per profile and title engaged with before `until`: when first, and the strongest gain (1..3)."""
    return (
        plays.where(F.col("engaged") & (F.col("event_time") < F.lit(until)))
        .withColumn("gain", gain(F.col("completion")))
        .groupBy("profile_id", "title_id")
        .agg(*_first("event_time", "event_id", "device", "surface"), F.max("gain").alias("gain"))
    )


def gain(completion):
    """3 finished, 2 watched half (or nobody knows how much), 1 sampled: the scale of fct_impression.engagement."""
    return F.when(completion >= FINISHED, 3).when(completion.isNull() | (completion >= HALF), 2).otherwise(1)


def _from_slates(impressions: DataFrame, plays: DataFrame, split: TimeSplit) -> DataFrame:
    """Slates that began in the block and whose outcome lies in it too: a play after midnight is the judge's."""
    later = plays.where(F.col("event_time") >= F.lit(split.ranker_end)).select("slate_id").distinct()
    began = impressions.groupBy("slate_id").agg(*_first("event_time", "profile_id", "device", "surface"))
    block = _within(began, split.retriever_end, split.ranker_end).join(later, "slate_id", "left_anti")
    labels = (
        impressions.where("engagement > 0")
        .groupBy("slate_id", "profile_id", "title_id")
        .agg(F.min("position").alias("position"), F.max("engagement").alias("gain"))
        .groupBy("slate_id", "profile_id")
        .agg(F.array_sort(F.collect_list(F.struct("position", "title_id", "gain"))).alias("labels"))
    )
    slates = block.join(labels, ["slate_id", "profile_id"], "left")
    engaged, silent = slates.where("labels is not null"), slates.where("labels is null")
    kept = silent.orderBy(F.md5("slate_id"), "slate_id").limit(SILENT_SLATES)
    return _requests(engaged.unionByName(kept), "ranker", F.col("slate_id"))


def _from_plays(plays: DataFrame, split: TimeSplit) -> DataFrame:
    """First engagements of the block, at most PLAYS_PER_PROFILE a profile by the hash of their event id."""
    place = F.row_number().over(Window.partitionBy("profile_id").orderBy(F.md5("event_id"), "event_id"))
    firsts = _within(first_engagements(plays, split.ranker_end), split.retriever_end, split.ranker_end)
    sampled = firsts.withColumn("place", place).where(F.col("place") <= PLAYS_PER_PROFILE)
    labelled = sampled.withColumn("labels", F.array(F.struct("event_time", "title_id", "gain")))
    return _requests(labelled, "ranker", F.concat_ws(":", F.lit("play"), "event_id"))


def _requests(frame: DataFrame, role: str, request_id) -> DataFrame:
    """The columns REQUEST from a frame with `labels`, an array of structs with title_id and gain, or null."""
    return frame.select(
        F.lit(role).alias("role"),
        request_id.alias("request_id"),
        "profile_id",
        "event_time",
        F.coalesce("device", F.lit("")).alias("device"),
        F.coalesce("surface", F.lit("home")).alias("surface"),
        F.coalesce(F.col("labels.title_id"), F.array().cast("array<string>")).alias("relevant_titles"),
        F.coalesce(F.col("labels.gain"), F.array().cast("array<int>")).alias("relevant_gains"),
    )


def _first(*columns: str) -> list:
    """Aggregates: these columns of the earliest row, ties by event id."""
    return [F.min_by(name, F.struct("event_time", "event_id")).alias(name) for name in columns]


def _within(frame: DataFrame, start, end) -> DataFrame:
    return frame.where((F.col("event_time") >= F.lit(start)) & (F.col("event_time") < F.lit(end)))
