"""The newest row of every profile at a tag: what goes online. Read without Spark; DuckDB picks the newest."""

from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
from feast import FeatureView, Field
from feast.types import Array, Float64

from contracts.marts import tag_name
from contracts.settings import Settings
from contracts.tags import TagRecord
from feature_repo.feature_views import VALIDITY, profile_daily, profile_declared, profile_history
from jobs.distribution import Distribution, describe
from jobs.lake import read

WRITTEN_VIEWS = {"dim_profile_version": profile_declared, "feat_profile_daily": profile_daily, "feat_profile_history": profile_history}
NOT_FEATURES = ("profile_id", "feature_time", "valid_from", "known_at")
"""Mart → the view whose online rows come from it."""


def online_rows(settings: Settings, record: TagRecord) -> dict[str, pa.Table]:
    """View name → one row per profile of dim_profile_version, sorted by profile_id: the view's key, features and
    time columns. A profile whose newest row is older than the view's validity gets nulls, so that yesterday's values
    do not stay online; the time columns of such a row say the tag's end."""
    tables = {mart: read.table(settings, f"marts.{mart}", tag=tag_name(record.ds)) for mart in WRITTEN_VIEWS}
    profiles = tables["dim_profile_version"].select(["profile_id"])
    return {
        view.name: newest(tables[mart], profiles, view, record.split.judge_end) for mart, view in WRITTEN_VIEWS.items()
    }


def described(rows: dict[str, pa.Table], reference: dict[str, Distribution] | None = None) -> dict[str, Distribution]:
    """View name → the distribution of its rows, without key and time columns; with a reference, in its buckets.

    A row's own time is no feature either: rows that nobody touched are a night older every night.
    """
    stamps = [_stamp(view) for view in WRITTEN_VIEWS.values()]
    return {name: describe(table, ignore=(*NOT_FEATURES, *stamps), reference=(reference or {}).get(name)) for name, table in rows.items()}


def profile_path(settings: Settings, ds: str) -> Path:
    """The distributions of the night's newest profile rows: what a release of that night was trained beside."""
    return settings.lake / "tags" / f"{tag_name(ds)}.profile.json"


def newest(rows: pa.Table, profiles: pa.Table, view: FeatureView, end: datetime) -> pa.Table:
    """One row per distinct profile: the newest of `rows` that was known before `end` and is not aged out."""
    time, known = view.batch_source.timestamp_field, view.batch_source.created_timestamp_column
    features, stamp = view.features[:-1], _stamp(view)
    oldest = end - VALIDITY if view.ttl else datetime.min.replace(tzinfo=end.tzinfo)
    with duckdb.connect() as database:
        database.execute("set TimeZone = 'UTC'")
        database.register("mart", rows)
        database.register("profiles", profiles)
        return database.sql(
            f"""
            with valid as (
                select * from mart where {time} <= $end and {known} <= $end and {time} >= $oldest
                qualify row_number() over (partition by profile_id order by {time} desc, {known} desc) = 1
            )
            select p.profile_id, {", ".join(map(_selected, features))}, valid.{time} as {stamp},
                   coalesce(valid.{time}, $end) as {time}, coalesce(valid.{known}, $end) as {known}
            from (select distinct profile_id from profiles) p left join valid using (profile_id)
            order by p.profile_id
            """,
            params={"end": end, "oldest": oldest},
        ).to_arrow_table()


def _stamp(view: FeatureView) -> str:
    """The view's last feature: when its row was true."""
    return view.features[-1].name


def _selected(field: Field) -> str:
    """Feast's lists of numbers hold no nulls: unknown is NaN there."""
    if field.dtype == Array(Float64):
        return f"list_transform({field.name}, lambda value: coalesce(value, 'nan'::double)) as {field.name}"
    return field.name
