"""One nano world, landed in this process, for all tests of sources."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.landing import list_intervals, table_files
from contracts.settings import Settings
from jobs.sources import world


@dataclass
class Landed:
    """A home, what landing it said, and its clean rows (Parquet; malformed records are in JSON Lines)."""

    settings: Settings
    result: dict[str, Any]

    @property
    def home(self) -> Path:
        return self.settings.home

    def rows(self, table: str, interval: str | None = None) -> pa.Table:
        folders = [folder for i, folder in list_intervals(self.settings.landing) if interval in (None, i.name)]
        files = [f for folder in folders for f in table_files(folder, table) if f.suffix == ".parquet"]
        return pa.concat_tables([pq.ParquetFile(f).read() for f in files], promote_options="default")


def settings_for(home: Path) -> Settings:
    return Settings(_env_file=None, home=home, min_free_gb=0)


@pytest.fixture(scope="session")
def nano_world(tmp_path_factory) -> Landed:
    settings = settings_for(tmp_path_factory.mktemp("world"))
    return Landed(settings, world.land(settings, "nano", 7))
