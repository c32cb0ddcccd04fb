"""Who is asked for: what hydration knows of a profile at the moment of the request."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from contracts.query import Context, History, Profile

WATCHED_SURFACES = frozenset({"watch_again"})
"""Surfaces that may show watched titles; every other one leaves them out."""


@dataclass(frozen=True)
class Viewer:
    """What decides who may see what, when. `at` is in epoch seconds."""

    market: str
    maturity_limit: int
    at: int


@dataclass(frozen=True)
class Ask:
    """One request for a shelf. `market` and `token_limit` are the token's; None in shadow mode. `vouched`: the token speaks
    of this one profile."""

    profile_id: str
    moment: datetime
    size: int = 40
    surface: str = "home"
    device: str = ""
    market: str | None = None
    token_limit: int | None = None
    vouched: bool = False

    @property
    def context(self) -> Context:
        return Context(self.moment, self.device, self.surface)

    def maturity_limit(self, declared: int | None = None) -> int:
        """The stricter of what the token and the profile say. Where the profile says nothing, the token's counts only if
        vouched: a household's limit may be higher than that of a child in it."""
        return 0 if declared is None and not self.vouched else strictest_known(self.token_limit, declared)

    @property
    def shows_watched(self) -> bool:
        return self.surface in WATCHED_SURFACES


@dataclass(frozen=True)
class Member:
    """A hydrated profile; `profile.maturity_limit` is the one that holds for this request.

    `aggregates` are contracts.marts.PROFILE_FEATURES (empty: cold). `known` is False for a profile without any row.
    """

    profile: Profile
    history: History = field(default_factory=History)
    watched: frozenset[str] = frozenset()
    aggregates: Mapping[str, object] = field(default_factory=dict)
    known: bool = False

    def viewer(self, moment: datetime) -> Viewer:
        return Viewer(self.profile.market, self.profile.maturity_limit, int(moment.timestamp()))


def strictest_known(*limits: int | None) -> int:
    """The lowest of the limits that are known; 0, the strictest, where none is."""
    return min((limit for limit in limits if limit is not None), default=0)
