"""One home with two real releases of one catalogue, Feast's online rows of a few members, and the real ledger."""

from collections.abc import Iterator
from datetime import timedelta

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from contracts import clock
from contracts.marts import PROFILE_FEATURES
from contracts.settings import Settings
from ledger import open_ledger
from serving.app import create_app
from serving.hydrate import FeastHydrator
from serving.loader import load
from serving.metrics import Metrics
from serving.pipeline import Clients
from serving.vectors import Vectors
from tests.serving.doubles import ONE, OTHER, World, pinned_service
from tests.serving.tiny_world import KEY, NOW, Catalogue, build_release


@pytest.fixture(scope="session")
def world(tmp_path_factory, milvus_port) -> World:
    settings = Settings(_env_file=None, home=tmp_path_factory.mktemp("serving"), milvus_port=milvus_port, token_secret=KEY)
    clock.set_now(settings.home, NOW)
    catalogue = Catalogue(150, seed=1)
    for release_id, seed in ((ONE, 11), (OTHER, 12)):
        build_release(settings, catalogue, release_id, seed)
    ledger = open_ledger(settings)
    ledger.append_eligibility(catalogue.log)
    write_online_rows(settings, catalogue)
    return World(settings, catalogue, ledger, *(load(settings.releases / name) for name in (ONE, OTHER)))


@pytest.fixture(scope="session")
def vectors(world) -> Iterator[Vectors]:
    vectors = Vectors(world.settings, budget_seconds=5.0)
    assert vectors.tend([world.one.spec.collection, world.other.spec.collection])
    yield vectors
    vectors.close()


@pytest.fixture(scope="session")
def feast(world) -> Iterator[FeastHydrator]:
    hydrator = FeastHydrator(world.settings, budget_seconds=5.0)
    hydrator.warm_up()
    yield hydrator
    hydrator.close()


ONLINE_MEMBERS = {
    "adult": ("de", 18, ("t003", "t005", "t008")), "kid": ("de", 7, ("t003",)), "nolimit": ("de", None, ()),
}


def write_online_rows(settings: Settings, catalogue: Catalogue) -> None:
    """What the materialise job writes, for three members; `stale` has aggregates older than their validity."""
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
    history = [{"profile_id": name, "history_title_ids": list(titles),
                "history_times": [NOW.timestamp() - 3600.0 * (9 - i) for i in range(len(titles))],
                "history_completion": [0.9] * len(titles), "history_rating": [float("nan")] * len(titles),
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


@pytest.fixture
def clients(feast, vectors) -> Clients:
    return Clients(feast, vectors, Metrics())


@pytest.fixture
def api(world, clients) -> TestClient:
    """The application on release ONE, without its lifespan: the session's clients stay open."""
    return TestClient(create_app(pinned_service(world, clients)), raise_server_exceptions=False)
