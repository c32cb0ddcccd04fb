"""What the serving tests share beside the real components: two release ids, members from memory, things that fail."""

from dataclasses import dataclass

import numpy as np

from contracts.query import History, Profile
from contracts.settings import Settings
from ledger import Ledger
from serving.app import Service
from serving.eligibility import EligibilityLog
from serving.live import Pinned
from serving.loader import Release
from serving.member import Ask, Member
from serving.metrics import Metrics
from serving.pipeline import Clients
from tests.serving.tiny_world import KEY, NOW, Catalogue

ONE, OTHER = "2026-03-31-aaaaaaaaaa", "2026-03-31-bbbbbbbbbb"


@dataclass
class World:
    """A home, its catalogue, its ledger and its loaded releases."""

    settings: Settings
    catalogue: Catalogue
    ledger: Ledger
    one: Release
    other: Release


class Given:
    """Hydrates one member from memory, for tests of later stages."""

    def __init__(self, member: Member):
        self.member = member

    def start(self) -> None: ...

    def hydrate(self, ask: Ask) -> Member:
        return self.member

    def close(self) -> None: ...


class Broken:
    """Whatever is asked of it fails."""

    def can_search(self, collections) -> bool:
        return False

    def __getattr__(self, name: str):
        raise ConnectionError("nobody there")

    def close(self) -> None: ...


def member(profile_id: str = "p1", market: str = "de", limit: int = 18, titles: tuple[str, ...] = (),
           watched: frozenset[str] | None = None, **profile) -> Member:
    """A known member who watched `titles`, an hour apart, the newest an hour ago."""
    times = [NOW.timestamp() - 3600 * (len(titles) - i) for i in range(len(titles))]
    history = History(list(titles), times, [0.9] * len(titles), [np.nan] * len(titles))
    return Member(Profile(profile_id, market, maturity_limit=limit, **profile), history,
                  frozenset(titles) if watched is None else watched, known=True)


def pinned_service(world: World, clients: Clients, release: Release | None = None, key: str | None = KEY) -> Service:
    """A service on one release and the ledger's log, without followers of the pointer."""
    source = Pinned(release or world.one, clients.vectors)
    source.start = lambda: None
    eligibility = EligibilityLog(lambda: world.ledger)
    eligibility.catch_up()
    return Service(source, eligibility, clients, lambda: NOW, key)


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    """A metric's value now."""
    return metrics.registry.get_sample_value(name, labels) or 0.0
