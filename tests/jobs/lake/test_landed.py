"""What is wrong with an interval as a whole is said before Spark starts, naming file and field."""

import json

import pyarrow as pa
import pytest

from contracts.errors import UsageError
from contracts.landing import MARKER, TABLES
from jobs.lake.landed import check_files, name_corrupt_file
from tests.jobs.lake.landings import at, catalogue, events, land, write_parquet

NAME = "2026-03-01..2026-03-03"


@pytest.fixture
def folder(tmp_path):
    return land(tmp_path, NAME, catalogue("2026-03-01") | events("2026-03-01", "2026-03-03"))


def test_a_good_interval_passes(folder):
    check_files(folder)


def test_corrupt_parquet(folder):
    file = folder / "plays" / "part-0.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UsageError, match=r"plays/part-0\.parquet: not a readable Parquet file"):
        check_files(folder)


def test_corrupt_pages_below_a_good_footer(folder):
    file = folder / "plays" / "part-0.parquet"
    whole = bytearray(file.read_bytes())
    whole[4:400] = b"\0" * 396
    file.write_bytes(bytes(whole))
    check_files(folder)
    with pytest.raises(UsageError, match=r"plays/part-0\.parquet: a corrupt Parquet file"):
        name_corrupt_file(folder, "plays")


def test_column_of_another_type(folder):
    rows = [{"event_id": "x", "event_time": at("2026-03-01"), "profile_id": "p", "title_id": "t", "watched_seconds": "long"}]
    write_parquet(folder / "plays" / "part-9.parquet", "plays", rows, watched_seconds=pa.string())
    with pytest.raises(UsageError, match=r"part-9\.parquet: column watched_seconds is string; plays wants float"):
        check_files(folder)


def test_wrong_layout_lacks_a_required_column(folder):
    write_parquet(folder / "plays" / "part-9.parquet", "plays", [{"event_id": "x", "event_time": at("2026-03-01"), "title_id": "t"}])
    with pytest.raises(UsageError, match=r"part-9\.parquet: has no column profile_id"):
        check_files(folder)


@pytest.mark.parametrize("name", ["plays.csv", "clicks.parquet", "plays.part-2.parquet", "privacy_requests"])
def test_file_that_is_no_landing_table(folder, name):
    (folder / name).write_text("a,b\n")
    with pytest.raises(UsageError, match=f"{name}: not a landing table"):
        check_files(folder)


def test_day_without_events(tmp_path):
    folder = land(tmp_path, NAME, catalogue("2026-03-01"))
    with pytest.raises(UsageError, match="an empty day"):
        check_files(folder)


@pytest.mark.parametrize("marker", ["", "{", json.dumps({"format_version": 99, "tables": {}})])
def test_marker_that_says_nothing(folder, marker):
    (folder / MARKER).write_text(marker)
    with pytest.raises(UsageError, match=MARKER):
        check_files(folder)


def test_every_table_of_the_contract_is_written_by_the_tests_or_optional(folder):
    brought = {path.name for path in folder.iterdir()}
    assert {name for name, table in TABLES.items() if table.required} <= brought
