"""What the materialise job writes, for a few members of the tiny world."""

from datetime import timedelta

import numpy as np
import pandas as pd

from contracts.marts import PROFILE_FEATURES
from contracts.settings import Settings
from tests.serving.tiny_world import NOW

ONLINE_MEMBERS = {
    "adult": ("de", 18, ("t003", "t005", "t008")), "kid": ("de", 7, ("t003",)), "nolimit": ("de", None, ()),
}


def write_online_rows(settings: Settings) -> None:
    """Rows of ONLINE_MEMBERS; the aggregates of `kid` are older than their validity."""
    from feature_repo.store import apply, open_store

    store = open_store(settings, offline=False)
    apply(store)
    stamp = pd.Timestamp(NOW - timedelta(hours=6))
    rows = [{"profile_id": name, "market": market, "maturity_limit": limit, "household_id": "h1", "is_kids": name == "kid",
             "preferred_genres": ["drama"], "language": "en", "attributes": [], "declared_at": stamp, "valid_from": stamp,
             "known_at": stamp} for name, (market, limit, _) in ONLINE_MEMBERS.items()]
    frame = pd.DataFrame(rows)
    frame["maturity_limit"] = frame["maturity_limit"].astype("Int32")
    store.write_to_online_store("profile_declared", frame)
    # arrays, as the job writes them: of a Python list of nothing but NaN, Feast makes zeros
    history = [{"profile_id": name, "history_title_ids": list(titles),
                "history_times": [NOW.timestamp() - 3600.0 * (9 - i) for i in range(len(titles))],
                "history_completion": np.full(len(titles), 0.9), "history_rating": np.full(len(titles), np.nan),
                "watched_title_ids": list(titles), "history_at": stamp, "feature_time": stamp, "known_at": stamp}
               for name, (_, _, titles) in ONLINE_MEMBERS.items() if titles]
    store.write_to_online_store("profile_history", pd.DataFrame(history))
    old = pd.Timestamp(NOW - timedelta(days=60))
    daily = [{"profile_id": name, "profile_features_at": at, "feature_time": at, "known_at": at,
              **{feature: values(feature, at) for feature in PROFILE_FEATURES}}
             for name, at in (("adult", stamp), ("kid", old))]
    store.write_to_online_store("profile_daily", pd.DataFrame(daily))


def values(feature: str, at: pd.Timestamp):
    lists = {"top_genres_30d": ["drama", "crime"], "top_genre_shares_30d": [0.6, 0.4], "last_play_at": at}
    return lists.get(feature, 3)
