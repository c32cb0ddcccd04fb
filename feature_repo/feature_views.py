"""The feature views; their names and types come from `contracts.marts`, so that an edit there is an edit here.

Every view carries a stamp, the event time of its row: Feast does not enforce a view's time to live on online reads.
"""

from datetime import timedelta

from feast import FeatureView, Field
from feast.types import Array, Bool, FeastType, Float64, Int32, String, UnixTimestamp

from contracts.marts import KEYS, MART_COLUMNS, PROFILE_FEATURES, PROFILE_VIEW, TITLE_FEATURES, TITLE_VIEW
from feature_repo import data_sources
from feature_repo.entities import profile, title

VALIDITY = timedelta(days=32)
"""Snapshots are written on the days d, d+1, d+7 and d+30 after something changed: an older one belongs to a profile or
title that is cold again."""

FEAST_TYPES: dict[str, FeastType] = {
    "string": String, "int": Int32, "double": Float64, "boolean": Bool, "timestamp": UnixTimestamp,
    "array<string>": Array(String), "array<double>": Array(Float64),
}
"""Spark's type in contracts.marts → Feast's."""

DECLARED_FEATURES = (
    "household_id", "market", "is_kids", "maturity_limit", "preferred_genres", "language", "attributes",
)
HISTORY_FEATURES = tuple(c for c in MART_COLUMNS["feat_profile_history"] if c not in ("profile_id", *KEYS))


def _schema(columns: dict[str, str], stamp: str) -> list[Field]:
    fields = [Field(name=name, dtype=FEAST_TYPES[spark_type]) for name, spark_type in columns.items()]
    return [*fields, Field(name=stamp, dtype=UnixTimestamp)]


def _columns(mart: str, names: tuple[str, ...]) -> dict[str, str]:
    return {name: MART_COLUMNS[mart][name] for name in names}


profile_daily = FeatureView(
    name=PROFILE_VIEW,
    description="what a profile did in the last 30 days, by day",
    entities=[profile],
    ttl=VALIDITY,
    schema=_schema(_columns("feat_profile_daily", PROFILE_FEATURES), "profile_features_at"),
    source=data_sources.profile_daily,
    online=True,
)
profile_declared = FeatureView(
    name="profile_declared",
    description="what a profile declared; holds until a newer version is known",
    entities=[profile],
    ttl=timedelta(0),
    schema=_schema(_columns("dim_profile_version", DECLARED_FEATURES), "declared_at"),
    source=data_sources.profile_declared,
    online=True,
)
title_daily = FeatureView(
    name=TITLE_VIEW,
    description="what happened to a title, by day; serving reads the release's own snapshot instead",
    entities=[title],
    ttl=VALIDITY,
    schema=_schema(_columns("feat_title_daily", TITLE_FEATURES), "title_features_at"),
    source=data_sources.title_daily,
    online=False,
)
profile_history = FeatureView(
    name="profile_history",
    description="the newest plays and engaged titles; training builds histories from the plays themselves",
    entities=[profile],
    ttl=timedelta(0),
    schema=_schema(_columns("feat_profile_history", HISTORY_FEATURES), "history_at"),
    source=data_sources.profile_history,
    online=True,
)
VIEWS = [profile_daily, profile_declared, title_daily, profile_history]
ONLINE_VIEWS = [view for view in VIEWS if view.online]
