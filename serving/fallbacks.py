"""What stands in for a stage that failed or found too little; each answer that used one of these says so.

| stage    | failed                                        | found too little        |
| ---      | ---                                           | ---                     |
| hydrate  | a cold member; strictest limit unless vouched |                         |
| retrieve | exact search in process; then nothing         | popular of the market   |
| score    | retrieval order                               |                         |
| arrange  |                                               | anything eligible, then watched titles |
"""

from collections.abc import Iterator

from contracts.eligibility import Eligibility
from contracts.query import Profile
from serving.loader import GENERAL, KIDS, Release
from serving.member import Ask, Member


def cold(ask: Ask) -> Member:
    """A member of whom nothing is known but the token."""
    return Member(Profile(ask.profile_id, ask.market or "", maturity_limit=ask.maturity_limit()))


def popular(release: Release, profile: Profile) -> list[str]:
    """The market's popular titles, the profile's cohort first; not guarded."""
    first, second = (KIDS, GENERAL) if profile.is_kids else (GENERAL, KIDS)
    orders = (release.fallback.get((profile.market, cohort), []) for cohort in (first, second))
    return list(dict.fromkeys(title for order in orders for title in order))


def anything(release: Release, eligibility: Eligibility) -> Iterator[str]:
    """Every title that could be eligible, those that the release knows first; not guarded."""
    yield from release.titles.ids
    yield from sorted(title for title in eligibility.maturity if title not in release.titles.row)
