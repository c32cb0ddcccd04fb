"""One hand-made lake a session: honest random rows, and canaries around every kind of label."""

import pytest

from . import canaries, small_lake


@pytest.fixture(scope="session")
def lake(tmp_path_factory):
    """The lake, written and tagged, before any job of this package ran on it."""
    made = small_lake.filled(small_lake.SmallLake(small_lake.home(tmp_path_factory.mktemp("small-lake"))))
    canaries.plant(made)
    made.write()
    return made


@pytest.fixture(scope="session")
def trained(lake):
    """The lake with its training rows, and the job's result."""
    from jobs.examples import training

    return lake, training.run(lake.settings, small_lake.DS)
