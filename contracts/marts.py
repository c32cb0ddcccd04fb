"""Names of the lake's tables and the columns that later steps read. dbt's contracts and the Feast views are tested
against these.

`known_at` is when Marquee's source knew the row; `event_time` when it happened. All times are UTC, microseconds.
"""

CATALOG = "marquee"
RAW, MARTS, TRAINING = "raw", "marts", "training"
QUARANTINE = "raw.quarantine"
INGESTS = "raw.ingests"

# name -> columns with their Spark types; the dbt contract of the mart says the same
MART_COLUMNS: dict[str, dict[str, str]] = {
    # one row per version of a title, [valid_from, valid_to) by known time
    "dim_title_version": {
        "title_id": "string", "valid_from": "timestamp", "valid_to": "timestamp", "known_at": "timestamp",
        "name": "string", "kind": "string", "synopsis": "string", "genres": "array<string>",
        "credits": "array<string>", "language": "string", "year": "int", "runtime_minutes": "double",
        "maturity": "int", "series_id": "string", "launched_at": "timestamp",
    },
    # one row per version of a licence window; superseded_at is when a later version became known (null: current)
    "dim_licence_window": {
        "window_id": "string", "title_id": "string", "market": "string", "opens_at": "timestamp",
        "closes_at": "timestamp", "revoked": "boolean", "known_at": "timestamp", "superseded_at": "timestamp",
    },
    # one row per version of a profile, [valid_from, valid_to) by known time
    "dim_profile_version": {
        "profile_id": "string", "household_id": "string", "market": "string", "is_kids": "boolean",
        "maturity_limit": "int", "preferred_genres": "array<string>", "language": "string",
        "attributes": "array<string>", "known_at": "timestamp", "valid_from": "timestamp", "valid_to": "timestamp",
    },
    # one row per title shown; engagement: 0 not played or skipped, 1 sampled, 2 watched half, 3 finished
    "fct_impression": {
        "event_id": "string", "slate_id": "string", "profile_id": "string", "household_id": "string",
        "title_id": "string", "position": "int", "propensity": "double", "explored": "boolean",
        "release_id": "string", "surface": "string", "device": "string", "experiment": "string", "arm": "string",
        "event_time": "timestamp", "known_at": "timestamp", "event_day": "date", "engagement": "int",
    },
    # one row per play; completion in 0..1 or null; engaged: completion >= .5, or unknown completion
    "fct_play": {
        "event_id": "string", "profile_id": "string", "title_id": "string", "event_time": "timestamp",
        "known_at": "timestamp", "event_day": "date", "watched_seconds": "double", "completion": "double",
        "rating": "double", "slate_id": "string", "surface": "string", "device": "string", "engaged": "boolean",
    },
    # one row per profile and snapshot day on which something changed; window ends at feature_time (next midnight)
    "feat_profile_daily": {
        "profile_id": "string", "snapshot_day": "date", "feature_time": "timestamp", "known_at": "timestamp",
        "plays_7d": "int", "plays_30d": "int", "watch_hours_30d": "double", "completion_30d": "double",
        "skips_7d": "int", "impressions_7d": "int", "top_genres_30d": "array<string>",
        "top_genre_shares_30d": "array<double>", "last_play_at": "timestamp",
    },
    # one row per title and snapshot day
    "feat_title_daily": {
        "title_id": "string", "snapshot_day": "date", "feature_time": "timestamp", "known_at": "timestamp",
        "plays_1d": "int", "plays_7d": "int", "plays_30d": "int", "completion_30d": "double",
        "impressions_7d": "int", "impressions_30d": "int", "play_rate_30d": "double", "skips_7d": "int",
        "rating_mean": "double",
    },
    # one row per profile that has played: its newest 200 plays known by the night, oldest first by (event_time,
    # event_id), times in epoch seconds, null where unknown; and every title that it engaged with
    "feat_profile_history": {
        "profile_id": "string", "feature_time": "timestamp", "known_at": "timestamp",
        "history_title_ids": "array<string>", "history_times": "array<double>",
        "history_completion": "array<double>", "history_rating": "array<double>",
        "watched_title_ids": "array<string>",
    },
}

TAGGED = tuple(MART_COLUMNS)
"""The tables that a nightly tag pins."""

FEATURE_SERVICE = "ranking_v1"
PROFILE_VIEW, TITLE_VIEW = "profile_daily", "title_daily"
KEYS = ("snapshot_day", "feature_time", "known_at")
PROFILE_FEATURES = tuple(c for c in MART_COLUMNS["feat_profile_daily"] if c not in ("profile_id", *KEYS))
TITLE_FEATURES = tuple(c for c in MART_COLUMNS["feat_title_daily"] if c not in ("title_id", *KEYS))

# Written by the examples job, partitioned by `ds`, overwritten whole: the only training data that later steps read.
TRAINING_COLUMNS: dict[str, dict[str, str]] = {
    # one row per request of a block: a slate where the source logs impressions, else a sampled play;
    # role is `ranker` (block D-1) or `judge` (block D). relevant_*: what was engaged with, and how much (1..3),
    # on that slate (ranker with impressions), as the next play (ranker without), or from then to the end of the block (judge)
    "requests": {
        "ds": "string", "role": "string", "request_id": "string", "profile_id": "string", "event_time": "timestamp",
        "market": "string", "is_kids": "boolean", "maturity_limit": "int", "preferred_genres": "array<string>",
        "language": "string", "attributes": "array<string>", "device": "string", "surface": "string",
        "relevant_titles": "array<string>", "relevant_gains": "array<int>",
        **{name: MART_COLUMNS["feat_profile_daily"][name] for name in PROFILE_FEATURES},
        "profile_features_at": "timestamp",
    },
    # one row per impression of a `ranker` request, with the title's features as of event_time - counts_lag
    "impressions": {
        "ds": "string", "request_id": "string", "title_id": "string", "position": "int", "propensity": "double",
        "engagement": "int",
        **{name: MART_COLUMNS["feat_title_daily"][name] for name in TITLE_FEATURES},
        "title_features_at": "timestamp",
    },
}


def tag_name(ds: str) -> str:
    """The lake tag of night `ds` (YYYY-MM-DD)."""
    return f"nightly_{ds}"
