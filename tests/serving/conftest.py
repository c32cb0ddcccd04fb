"""One home with two real releases of one catalogue, Feast's online rows of a few members, and the real ledger."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from contracts import clock
from contracts.settings import Settings
from ledger import open_ledger
from serving.app import create_app
from serving.hydrate import FeastHydrator
from serving.loader import load
from serving.metrics import Metrics
from serving.pipeline import Clients
from serving.vectors import Vectors
from tests.serving.doubles import ONE, OTHER, World, pinned_service
from tests.serving.online_rows import write_online_rows
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
    write_online_rows(settings)
    return World(settings, catalogue, ledger, *(load(settings.releases / name) for name in (ONE, OTHER)))


@pytest.fixture(scope="session")
def vectors(world) -> Iterator[Vectors]:
    vectors = Vectors(world.settings, budget_seconds=5.0)
    assert vectors.tend(world.one.collections | world.other.collections)
    yield vectors
    vectors.close()


@pytest.fixture(scope="session")
def feast(world) -> Iterator[FeastHydrator]:
    hydrator = FeastHydrator(world.settings, budget_seconds=5.0)
    hydrator.refresh()
    yield hydrator
    hydrator.close()


@pytest.fixture
def clients(feast, vectors) -> Clients:
    return Clients(feast, vectors, Metrics())


@pytest.fixture
def api(world, clients) -> TestClient:
    """The application on release ONE, without its lifespan: the session's clients stay open."""
    return TestClient(create_app(pinned_service(world, clients)), raise_server_exceptions=False)
