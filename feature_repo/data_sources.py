"""Where views read their history from: session views over the marts at one lake tag.

A source names a Spark temporary view, `at_tag_<mart>`, that the job binds to its tag for its own session. The
definitions in the registry are therefore the same every night, two jobs at different tags do not disturb each other,
and a job that forgot to bind a tag fails instead of reading whatever the table holds now.
"""

from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

import feature_repo

feature_repo.quiet()


def bound_view(mart: str) -> str:
    """The session view that stands for a mart at the tag."""
    return f"at_tag_{mart}"


def _source(mart: str, event_time: str, stamp: str) -> SparkSource:
    """`stamp` is one more feature: the event time of the row that was found, from which its age can be told."""
    return SparkSource(
        name=mart,
        query=f"select *, {event_time} as {stamp} from {bound_view(mart)}",
        timestamp_field=event_time,
        created_timestamp_column="known_at",
    )


profile_daily = _source("feat_profile_daily", "feature_time", "profile_features_at")
profile_declared = _source("dim_profile_version", "valid_from", "declared_at")
profile_history = _source("feat_profile_history", "feature_time", "history_at")
title_daily = _source("feat_title_daily", "feature_time", "title_features_at")
