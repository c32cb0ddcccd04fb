"""The writer: whole or not at all, and only what the contract allows."""

import json
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from contracts.errors import UsageError
from contracts.landing import Interval, list_intervals, read_marker
from jobs.sources.landing import REJECTED, Landing, landed_by

DAY = Interval(date(2026, 3, 1), date(2026, 3, 1))
AT = datetime(2026, 3, 1, 20, tzinfo=UTC)


def plays(**changes) -> pa.Table:
    columns = {"event_id": ["a", "b"], "event_time": pa.array([AT, AT], pa.timestamp("us", "UTC")),
               "profile_id": ["p1", "p2"], "title_id": ["t1", "t2"], "watched_seconds": [60.0, 90.0]}
    return pa.table({name: values for name, values in {**columns, **changes}.items() if values is not None})


def land(root: Path, rows: pa.Table, interval: Interval = DAY) -> None:
    with Landing(root, interval, "mine") as out:
        out.write("plays", rows)


def test_what_lands_is_complete_and_counted(tmp_path):
    with Landing(tmp_path, DAY, "mine", {"received_lag_seconds": 5}) as out:
        out.write("plays", plays(), "event_day=2026-03-01")
        out.write_lines("plays", [{"event_id": "c", "event_time": "yesterday"}], "event_day=2026-03-01")
        out.set_aside([{"line": 3, "problem": "unreadable"}])
        assert list_intervals(tmp_path) == []
    ((interval, folder),) = list_intervals(tmp_path)
    marker = read_marker(folder)
    assert interval == DAY
    assert marker["tables"] == {"plays": 3}
    assert (marker["source"], marker["rejected"], marker["received_lag_seconds"]) == ("mine", 1, 5)
    assert json.loads((folder / REJECTED).read_text())["line"] == 3
    assert sorted(p.name for p in (folder / "plays/event_day=2026-03-01").iterdir()) == ["part-0.parquet", "part-1.jsonl"]


def test_an_error_leaves_nothing(tmp_path):
    def interrupted():
        with Landing(tmp_path, DAY, "mine") as out:
            out.write("plays", plays())
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".2026-03-01.999999999"
    left.mkdir()
    land(tmp_path, plays())
    assert [p.name for p in tmp_path.iterdir()] == ["2026-03-01"]


def test_landing_the_same_again_changes_nothing_and_other_content_is_refused(tmp_path):
    land(tmp_path, plays())
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    land(tmp_path, plays())
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    with pytest.raises(UsageError, match="landed with other content"):
        land(tmp_path, plays(watched_seconds=[61.0, 90.0]))
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_an_overlapping_interval_is_refused(tmp_path):
    land(tmp_path, plays())
    with pytest.raises(UsageError, match=r"overlaps 2026-02-28\.\.2026-03-01"):
        land(tmp_path, plays(), Interval(date(2026, 2, 28), date(2026, 3, 1)))


@pytest.mark.parametrize(("changes", "message"), [
    ({"profile_id": None}, r"plays\.profile_id: is required and missing"),
    ({"profile_id": pa.array(["p1", None])}, r"plays\.profile_id: is required and 1 rows have none"),
    ({"mood": ["good", "bad"]}, "no such column mood"),
    ({"watched_seconds": ["60", "90"]}, r"plays\.watched_seconds: is text, wanted double"),
    ({"watched_seconds": [-1.0, 2.0]}, r"plays\.watched_seconds: has values from -1\.0"),
    ({"event_time": pa.array([AT.replace(tzinfo=None)] * 2)}, r"plays\.event_time: has no time zone"),
])
def test_what_the_contract_does_not_allow_is_refused(tmp_path, changes, message):
    with pytest.raises(UsageError, match=message):
        land(tmp_path, plays(**changes))
    assert list_intervals(tmp_path) == []


def test_an_unknown_table_is_refused(tmp_path):
    with pytest.raises(UsageError, match="films: no such landing table"), Landing(tmp_path, DAY, "mine") as out:
        out.write("films", plays())


def test_another_source_is_refused(tmp_path):
    land(tmp_path, plays())
    assert landed_by(tmp_path, "mine") == [DAY]
    with pytest.raises(UsageError, match="came from 'mine'; world wants a MARQUEE_HOME of its own"):
        landed_by(tmp_path, "world")
