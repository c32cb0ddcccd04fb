"""One Spark session for the lake's tests; homes of their own on it, made by the small landings beside this file."""

import itertools
from pathlib import Path

import pytest

from contracts.settings import Settings

_number = itertools.count()


@pytest.fixture(scope="package")
def new_home(tmp_path_factory):
    """Makes an empty home a call."""

    def make() -> Settings:
        folder = Path(tmp_path_factory.mktemp(f"home{next(_number)}"))
        return Settings(_env_file=None, home=folder, min_free_gb=0.1)

    return make
