"""Reading a landing root: intervals, markers, table files, content hash."""

import json
from datetime import date

import pytest

from contracts.errors import UsageError
from contracts.landing import MARKER, Interval, content_sha256, find_interval, list_intervals, read_marker, table_files


def make_interval(root, name, marker=True):
    folder = root / name
    folder.mkdir(parents=True)
    if marker:
        (folder / MARKER).write_text(json.dumps({"format_version": 1, "source": "x", "tables": {}}))
    return folder


def test_only_complete_intervals_are_listed_oldest_first(tmp_path):
    for name in ("2026-03-31", "2026-03-01..2026-03-30", "not-an-interval", "2026-04-02..2026-04-01", ".2026-04-01.17"):
        make_interval(tmp_path, name)
    make_interval(tmp_path, "2026-04-01", marker=False)
    assert [i.name for i, _ in list_intervals(tmp_path)] == ["2026-03-01..2026-03-30", "2026-03-31"]
    assert list_intervals(tmp_path / "absent") == []


def test_an_interval_is_found_by_its_last_day(tmp_path):
    make_interval(tmp_path, "2026-03-01..2026-03-30")
    interval, folder = find_interval(tmp_path, "2026-03-30")
    assert interval == Interval(date(2026, 3, 1), date(2026, 3, 30))
    assert folder.name == interval.name
    with pytest.raises(UsageError, match=r"no complete landed interval ends on 2026-03-15; landed: 2026-03-01\.\.2026-03-30"):
        find_interval(tmp_path, "2026-03-15")
    with pytest.raises(UsageError, match="not a date"):
        find_interval(tmp_path, "yesterday")


@pytest.mark.parametrize(("text", "message"), [
    (None, "missing"), ("{", "not readable as JSON"), ("[]", "has no `tables`"), ("[" * 5000, "not readable as JSON"),
    ('{"tables": {"caf\\ud800": 1}, "format_version": 1}', "not readable as JSON"),
    ('{"tables": {}, "format_version": 1, "received_lag_seconds": 1e300}', "not a number of seconds from 0 to 1,000,000,000"),
    ('{"tables": {"plays": 1' + "0" * 400 + '}, "format_version": 1}', "not a number of records"),
    ('{"tables": {}, "format_version": 9}', "format_version is 9"),
])
def test_a_bad_marker_says_what_is_wrong(tmp_path, text, message):
    if text is not None:
        (tmp_path / MARKER).write_text(text)
    with pytest.raises(UsageError, match=message):
        read_marker(tmp_path)


def test_a_table_is_a_file_or_a_folder_of_files(tmp_path):
    for name in ("plays.jsonl", "plays/event_day=2026-03-01/part-0.parquet", "plays/.hidden.parquet", "plays/_temporary/0/part-0.parquet", "plays/.spark/part-0.parquet", "plays/readme.txt", "skips.parquet"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [str(p.relative_to(tmp_path)) for p in table_files(tmp_path, "plays")] == [
        "plays/event_day=2026-03-01/part-0.parquet", "plays.jsonl"]
    before = content_sha256(tmp_path)
    (tmp_path / "plays/readme.txt").write_text("changed")
    assert content_sha256(tmp_path) == before
    (tmp_path / "skips.parquet").write_text("changed")
    assert content_sha256(tmp_path) != before
