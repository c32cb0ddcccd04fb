"""Served against trained: the online rows that members had on a day, and the training rows of the same profiles.

Two rows of one snapshot must say the same (`skewed` where they do not: training and serving disagree, a fault). Rows of
different snapshots are `stale`: serving was behind, as after a missed night.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from contracts.marts import PROFILE_FEATURES
from contracts.settings import Settings
from jobs.runtime import log

STAMP = "profile_features_at"
DECLARED = ("market", "is_kids", "maturity_limit", "preferred_genres", "language", "attributes")


def compare(settings: Settings, ds: str, requests: pa.Table) -> dict[str, Any]:
    """Counts over the profiles of the requests; a `note`, and no counts, where the day's online rows are not there.

    Must run before the night's own rows go online: those have seen the day.
    """
    online = _online_night(settings)
    if online is None:
        return {"note": "no night's rows are online"}
    if online >= ds:
        return {"note": f"the rows of {online} are online already: what members had on {ds} is gone"}
    asked = requests.sort_by("event_time").to_pylist()
    first = {row["profile_id"]: row for row in reversed(asked)}
    try:
        served = _served(settings, list(first))
    except Exception as error:  # whatever a store may answer: live quality stands without it, and says so
        log.warning("online rows could not be read: %s", error)
        return {"note": f"online rows could not be read: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    return counts(first, served) | {"online_night": online}


def counts(trained: Mapping[str, Mapping[str, Any]], served: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """`missing`: served without features that training has. `declared_stale`: a newer declaration was known already."""
    found: Counter[str] = Counter()
    features: Counter[str] = Counter()
    for profile, row in trained.items():
        now, then = _plain(served[profile].get(STAMP)), _plain(row[STAMP])
        if now == then is not None:
            found["same_snapshot"] += 1
            differing = [name for name in PROFILE_FEATURES if not _same(served[profile].get(name), row[name])]
            features.update(differing)
            found["skewed"] += bool(differing)
        elif now is None:
            found["missing"] += then is not None
        else:
            found["stale"] += 1
        found["declared_stale"] += any(not _same(served[profile].get(name), row[name]) for name in DECLARED)
    whole = {name: found[name] for name in ("same_snapshot", "skewed", "stale", "missing", "declared_stale")}
    share = round(found["skewed"] / found["same_snapshot"], 6) if found["same_snapshot"] else None
    return {"profiles": len(trained), **whole, "skewed_share": share, "by_feature": dict(sorted(features.items()))}


def _served(settings: Settings, profiles: list[str]) -> dict[str, dict[str, Any]]:
    from feature_repo.feature_services import ONLINE_REFERENCES
    from feature_repo.store import open_store

    store = open_store(settings, offline=False)
    found = store.get_online_features(ONLINE_REFERENCES, [{"profile_id": profile} for profile in profiles]).to_dict()
    return {profile: {name: values[i] for name, values in found.items()} for i, profile in enumerate(profiles)}


def _online_night(settings: Settings) -> str | None:
    try:
        return json.loads((settings.home / "feast" / "materialised.json").read_text())["ds"]
    except FileNotFoundError:
        return None


def _same(served: Any, trained: Any) -> bool:
    return _plain(served) == _plain(trained)


def _plain(value: Any) -> Any:
    """One form for what Feast and Arrow say of the same value: an empty list is none, times are UTC to the second."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).replace(microsecond=0)
    if isinstance(value, float):
        return None if math.isnan(value) else float(f"{value:.9g}")
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value)) or None
    return value or None if isinstance(value, str) else value
