"""Shared by the steps' tests: one little lake with trained towers, since training, export and MLflow's first
migration take seconds each.
"""

import pytest

from contracts.settings import Settings
from jobs.towers import train
from tests.jobs.towers import little_lake


@pytest.fixture(scope="session")
def towers_home(tmp_path_factory, milvus_port) -> tuple[Settings, dict]:
    """Settings of a home with a begun release and its towers, and what `marquee towers` said."""
    settings = little_lake.write(tmp_path_factory.mktemp("towers"), milvus_port=milvus_port)
    return settings, train.run(settings, little_lake.RELEASE, little_lake.CONFIG)
