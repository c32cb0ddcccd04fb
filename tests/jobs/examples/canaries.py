"""Feature rows that would give a label away, planted at every awkward distance from it.

Each canary has a profile, a slate and a title of its own, so that a row which is too late for one label cannot be
honestly early enough for another.
"""

from datetime import timedelta

from .small_lake import CANARY, DAY, HOUR, MICRO, SmallLake

PROFILE_CANARIES = {  # event time and known time, both from the label's moment
    "known-after": (-HOUR, HOUR),
    "known-at": (-HOUR, timedelta(0)),
    "just-before-known-at": (-MICRO, timedelta(0)),
    "equal": (timedelta(0), timedelta(0)),
    "just-after": (MICRO, MICRO),
    "after-known-before": (HOUR, -HOUR),
}
LEAKS_UNLESS_KNOWN = {"known-after", "known-at", "just-before-known-at"}
"""Those that only the condition on known time keeps out."""

TITLE_CANARIES = {  # from the label's moment - counts_lag, by when title counts must be known
    "known-after": (-HOUR, HOUR),
    "just-after": (MICRO, MICRO),
    "after-known-before": (HOUR, -HOUR),
}
TITLE_LEAKS_UNLESS_KNOWN = {"known-after"}
COUNTS_LAG = timedelta(days=2)
HONEST = 7
LAST_MOMENT = 500
"""The value of a row known a microsecond before the label: it must show, else the canaries prove nothing."""


def plant(lake: SmallLake) -> None:
    """A ranker's slate on D-1 and a judge's on D for each profile canary; a ranker's slate for each title canary."""
    for role, moment in (("ranker", DAY - 5 * HOUR), ("judge", DAY + 5 * HOUR)):
        for name, (event, known) in {**PROFILE_CANARIES, "control": (-MICRO, -MICRO)}.items():
            value = LAST_MOMENT if name == "control" else CANARY
            profile_id = f"canary-{role}-{name}"
            _label(lake, profile_id, f"t-{profile_id}", moment)
            lake.declared(profile_id, DAY - timedelta(days=9), maturity_limit=HONEST)
            lake.snapshot("feat_profile_daily", profile_id, DAY - timedelta(days=3), plays_7d=HONEST)
            lake.snapshot("feat_profile_daily", profile_id, moment + event, moment + known, plays_7d=value)
            lake.add("dim_profile_version", profile_id=profile_id, valid_from=moment + event, known_at=moment + known, maturity_limit=value)
    moment = DAY - 5 * HOUR
    for name, (event, known) in {**TITLE_CANARIES, "control": (timedelta(0), timedelta(0))}.items():
        title_id, asked = f"t-title-{name}", moment - COUNTS_LAG
        _label(lake, f"title-{name}", title_id, moment)
        lake.snapshot("feat_title_daily", title_id, DAY - timedelta(days=9), plays_1d=HONEST)
        lake.snapshot("feat_title_daily", title_id, asked + event, asked + known, plays_1d=LAST_MOMENT if name == "control" else CANARY)


def seen(requests: list[dict], impressions: list[dict]) -> tuple[set[str], set[str]]:
    """Names of the profile and of the title canaries whose values are in the rows."""
    profiles = {
        row["profile_id"].removeprefix("canary-").split("-", 1)[1] for row in requests
        if (row["plays_7d"] or 0) >= CANARY or (row["maturity_limit"] or 0) >= CANARY
    }
    titles = {row["title_id"].removeprefix("t-title-") for row in impressions if (row["plays_1d"] or 0) >= CANARY}
    return profiles, titles


def _label(lake: SmallLake, profile_id: str, title_id: str, moment) -> None:
    lake.slate(f"s-{profile_id}", profile_id, moment, {title_id: 3})
    lake.play(f"e-{profile_id}", profile_id, title_id, moment + timedelta(minutes=1), slate_id=f"s-{profile_id}")
