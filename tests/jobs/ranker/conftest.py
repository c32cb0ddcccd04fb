import pytest

from jobs.ranker.config import RankerConfig

from .ranker_world import World


@pytest.fixture(scope="session")
def config() -> RankerConfig:
    return RankerConfig(min_training_requests=30, min_validation_requests=20, rounds=(10, 30), min_rows_in_leaf=20)


@pytest.fixture(scope="session")
def slates_home(tmp_path_factory):
    """A home of a source that logs slates."""
    return World().write(tmp_path_factory.mktemp("slates"))


@pytest.fixture(scope="session")
def plays_home(tmp_path_factory):
    """A home of a source without impressions."""
    return World(has_impressions=False, profiles=120).write(tmp_path_factory.mktemp("plays"))
