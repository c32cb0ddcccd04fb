"""`marquee land check` on real files: each bad case has a message that names file and field."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts.landing import MARKER, Interval, read_marker
from jobs.sources.check import check
from jobs.sources.landing import Landing

HISTORY = Interval(date(2026, 3, 1), date(2026, 3, 3))
NIGHT = Interval(date(2026, 3, 4), date(2026, 3, 4))
PLAYS = 60


def stamps(day: date, count: int = 1) -> pa.Array:
    start = datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=12)
    return pa.array([start + timedelta(seconds=n) for n in range(count)], pa.timestamp("us", "UTC"))


def good(table: str, interval: Interval) -> pa.Table:
    """A valid table of the interval."""
    key, days = interval.name, [interval.first + timedelta(days=n) for n in range(interval.days)]
    at = stamps(interval.first)
    if table == "titles":
        return pa.table({"event_id": [f"t-{key}"], "event_time": at, "received_at": at, "title_id": ["t1"], "valid_from": at,
                         "name": ["The Silent Harbour"], "genres": [["Crime"]], "maturity": pa.array([12], pa.int32())})
    if table == "licences":
        return pa.table({"event_id": [f"l-{key}"], "event_time": at, "window_id": ["w1"], "title_id": ["t1"], "market": ["SE"], "opens_at": at})
    if table == "profiles":
        return pa.table({"event_id": [f"p-{key}"], "event_time": at, "profile_id": ["p1"], "market": ["SE"]})
    count = PLAYS // len(days)
    times = pa.concat_arrays([stamps(day, count) for day in days])
    total = len(times)
    return pa.table({"event_id": [f"{key}-{n}" for n in range(total)], "event_time": times, "received_at": times,
                     "profile_id": ["p1"] * total, "title_id": ["t1"] * total, "watched_seconds": [60.0] * total})


@pytest.fixture
def root(tmp_path) -> Path:
    """A landing of a history and a night in which nothing is wrong."""
    landing = tmp_path / "landing"
    for interval, tables in ((HISTORY, ("titles", "licences", "profiles", "plays")), (NIGHT, ("plays",))):
        with Landing(landing, interval, "test") as out:
            for table in tables:
                out.write(table, good(table, interval))
    return landing


def history(root: Path) -> Path:
    return root / HISTORY.name


def remark(folder: Path, **changes) -> None:
    """Another marker; without the hash, so that changed files are not what is noticed."""
    marker = {**read_marker(folder), **changes}
    marker.pop("content_sha256", None)
    (folder / MARKER).write_text(json.dumps(marker))


def rewrite(folder: Path, table: str, change: Callable[[pa.Table], pa.Table]) -> Path:
    path = next((folder / table).glob("*.parquet"))
    rows = change(pq.ParquetFile(path).read())
    pq.write_table(rows, path)
    remark(folder, tables={**read_marker(folder)["tables"], table: rows.num_rows})
    return path


def with_value(rows: pa.Table, name: str, value, places: range | None = None) -> pa.Table:
    """Rows with another value of one column in the given places (all)."""
    old = rows[name].to_pylist() if name in rows.column_names else [None] * rows.num_rows
    new = [value if places is None or n in places else v for n, v in enumerate(old)]
    array = pa.array(new, rows.schema.field(name).type if name in rows.column_names else None)
    return rows.set_column(rows.column_names.index(name), name, array) if name in rows.column_names else rows.append_column(name, array)


def test_nothing_is_said_of_good_data(root):
    report = check(root)
    assert report.ok, report.as_text()
    assert report.notes == []
    assert report.rows[HISTORY.name]["plays"] == report.rows[NIGHT.name]["plays"] == PLAYS
    assert f"{HISTORY.name}: 1 titles, 1 licences, 1 profiles, 60 plays" in report.as_text()
    assert json.loads(report.as_json())["ok"] is True


def test_one_interval_may_be_checked_alone(root):
    assert check(history(root)).ok
    report = check(root / NIGHT.name)
    assert report.ok
    assert any("no titles here; an earlier interval must have brought them" in note for note in report.notes)


BLOCK = Interval(date(2026, 3, 4), date(2026, 3, 6))


@pytest.fixture
def blocks(tmp_path) -> Path:
    """Two landed spans of three days; the second brings one more title, and its plays name both."""
    landing = tmp_path / "blocks"
    for interval, title in ((HISTORY, "t1"), (BLOCK, "t2")):
        with Landing(landing, interval, "test") as out:
            for table in ("titles", "licences", "profiles", "plays"):
                rows = good(table, interval)
                if table == "titles":
                    rows = with_value(rows, "title_id", title)
                if table == "plays" and title == "t2":
                    rows = with_value(rows, "title_id", title, range(0, PLAYS, 2))
                out.write(table, rows)
    return landing


def test_a_span_of_days_alone_knows_the_titles_that_the_spans_before_it_brought(blocks):
    assert check(blocks).ok
    report = check(blocks / BLOCK.name)
    assert report.ok, report.as_text()
    rewrite(blocks / BLOCK.name, "plays", lambda rows: with_value(rows, "title_id", "t9", range(9)))
    report = check(blocks / BLOCK.name)
    assert any("9 records of 60: title_id is of no title that has landed (t9)" in problem for problem in report.problems)


def test_a_span_alone_is_not_judged_by_spans_that_are_gone(blocks):
    rewrite(blocks / HISTORY.name, "titles", lambda rows: with_value(rows, "title_id", "t0"))
    rewrite(blocks / BLOCK.name, "plays", lambda rows: with_value(with_value(rows, "title_id", "t7", range(9)), "title_id", "t8", range(9, 20)))
    assert check(blocks / BLOCK.name).ok, "t1, t7 and t8 of four came from a span that is gone"


def test_a_simulated_world_can_be_ingested_and_its_defects_are_counted(nano_world):
    from jobs.sources.world import truth
    report = check(nano_world.settings.landing)
    assert report.ok, report.as_text()
    interval = nano_world.result["intervals"][0]
    planted = truth.planted(nano_world.home, interval)
    for table, kind, reason in (("impressions", "position zero", "position is outside 1 to 10000"), ("impressions", "missing profile", "profile_id is missing"),
                                ("plays", "watched as text", 'watched_seconds is "about an hour", wanted float'),
                                ("impressions", "unknown title", "title_id is of no title that has landed")):
        wanted = f"{table}: {planted[table]['malformed'][kind]} records of"
        assert any(wanted in note and reason in note and interval in note for note in report.notes), (wanted, reason, report.notes)
    repeats = f"{planted['impressions']['duplicates']} records of"
    assert any("event_id stands more than once" in note and repeats in note for note in report.notes)


# --- folders and markers ------------------------------------------------------------------------------------------

def break_marker(text: str) -> Callable[[Path], object]:
    return lambda root: (history(root) / MARKER).write_text(text)


FOLDER_CASES = {
    "marker missing": (lambda root: (history(root) / MARKER).unlink(), f"{HISTORY.name}/{MARKER}: missing"),
    "marker broken": (break_marker("{"), f"{MARKER}: not readable as JSON"),
    "marker of another version": (lambda root: remark(history(root), format_version=2), "format_version is 2; this Marquee reads 1"),
    "marker of another interval": (lambda root: remark(history(root), last="2026-03-09"), "last is '2026-03-09', the folder's name says 2026-03-03"),
    "marker without source": (lambda root: remark(history(root), source=""), "has no `source`"),
    "marker counts otherwise": (lambda root: remark(history(root), tables={"titles": 1, "licences": 1, "profiles": 1, "plays": 9}), "says 9 plays, the files have 60"),
    "files changed": (lambda root: pq.write_table(good("plays", HISTORY).slice(0, 60).set_column(5, "watched_seconds", pa.array([61.0] * 60)), history(root) / "plays/part-0.parquet"),
                      "content_sha256 does not fit the files"),
    "lag as text": (lambda root: remark(history(root), received_lag_seconds="soon"), "received_lag_seconds is 'soon', not a number of seconds"),
    "count as text": (lambda root: remark(history(root), tables={"plays": "many"}), "tables: plays is 'many', not a number of records"),
    "no interval": (lambda root: history(root).rename(root / "march"), "march: not a landed interval"),
    "gap": (lambda root: ((root / NIGHT.name).rename(root / "2026-03-06"), remark(root / "2026-03-06", first="2026-03-06", last="2026-03-06")),
            "2026-03-04..2026-03-05 is missing before it"),
    "overlap": (lambda root: ((root / NIGHT.name).rename(root / "2026-03-03"), remark(root / "2026-03-03", first="2026-03-03", last="2026-03-03")),
                "overlaps 2026-03-01..2026-03-03"),
    "unknown file": (lambda root: (history(root) / "films.parquet").write_text(""), "films.parquet: not a table of the landing format"),
    "part of a table": (lambda root: (history(root) / "plays.part-2.parquet").write_text(""), "plays.part-2.parquet: not a table of the landing format"),
    "table without a type": (lambda root: (history(root) / "skips").write_text(""), "skips: not a table of the landing format"),
    "file of another type": (lambda root: (history(root) / "plays" / "more.csv").write_text("a,b"), "more.csv: neither .parquet nor .jsonl"),
    "no titles": (lambda root: ((history(root) / "titles/part-0.parquet").unlink(), remark(history(root), tables={"licences": 1, "profiles": 1, "plays": 60})),
                  "has no titles (one row per version of a title"),
    "empty day": (lambda root: ((root / NIGHT.name / "plays/part-0.parquet").unlink(), remark(root / NIGHT.name, tables={})),
                  f"{NIGHT.name}: an empty day: neither plays nor impressions have a record"),
}


@pytest.mark.parametrize("case", FOLDER_CASES)
def test_what_is_wrong_with_folders_is_named(root, case):
    spoil, message = FOLDER_CASES[case]
    spoil(root)
    report = check(root)
    assert not report.ok
    assert any(message in problem for problem in report.problems), report.as_text()


def test_a_missing_and_an_empty_root_are_named(tmp_path):
    assert check(tmp_path / "absent").problems == [f"{tmp_path / 'absent'}: no such folder"]
    assert "nothing has landed here" in check(tmp_path).problems[0]


def test_what_an_interrupted_landing_left_is_a_note(root):
    (root / ".2026-03-05.77").mkdir()
    report = check(root)
    assert report.ok
    assert "left by an interrupted landing" in report.notes[0]


def test_a_hidden_folder_that_no_landing_left_is_nobodys(root):
    (root / ".git").mkdir()
    report = check(root)
    assert report.ok
    assert report.notes == []


# --- columns and rows ---------------------------------------------------------------------------------------------

ROW_CASES = {
    "column missing": ("plays", lambda rows: rows.drop_columns(["title_id"]), "has no column title_id, which plays must have (what)"),
    "column of another type": ("plays", lambda rows: rows.set_column(rows.column_names.index("watched_seconds"), "watched_seconds", pa.array(["60"] * rows.num_rows)),
                               "column watched_seconds is string, wanted float"),
    "time as text": ("plays", lambda rows: rows.set_column(1, "event_time", pa.array(["2026-03-01"] * rows.num_rows)), "column event_time is string, wanted timestamp"),
    "null": ("plays", lambda rows: with_value(rows, "profile_id", None, range(3, 9)), "row 4: plays: 6 records of 60: profile_id is missing"),
    "blank text": ("plays", lambda rows: with_value(rows, "profile_id", " ", range(9)), "9 records of 60: profile_id is empty"),
    "long id": ("plays", lambda rows: with_value(rows, "profile_id", "x" * 201), "60 records of 60: profile_id is longer than 200 characters"),
    "no clock": ("plays", lambda rows: with_value(rows, "event_time", datetime(1, 1, 1, tzinfo=UTC)), "60 records of 60: event_time is before 1970"),
    "half a year": ("titles", lambda rows: rows.append_column("year", pa.array([1999.5])), "titles: 1 record of 1: year is not a whole number"),
    "column twice": ("plays", lambda rows: rows.append_column("title_id", rows["title_id"]), "has column title_id 2 times"),
    "empty text": ("plays", lambda rows: with_value(rows, "profile_id", "", range(9)), "9 records of 60: profile_id is empty"),
    "out of range": ("plays", lambda rows: with_value(rows, "watched_seconds", -5.0), "60 records of 60: watched_seconds is outside 0 to 1e+06"),
    "maturity out of range": ("titles", lambda rows: with_value(rows, "maturity", 21), "titles: 1 record of 1: maturity is outside 0 to 18"),
    "unknown title": ("plays", lambda rows: with_value(rows, "title_id", "t9"), "title_id is of no title that has landed (t9)"),
    "unknown profile": ("plays", lambda rows: with_value(rows, "profile_id", "p9"), "profile_id is of no profile that has landed (p9)"),
    "market": ("licences", lambda rows: with_value(rows, "market", "S-E"), "licences: 1 record of 1: market is not 1 to 32 letters, digits or _"),
    "future": ("plays", lambda rows: with_value(rows, "event_time", datetime(2026, 4, 1, tzinfo=UTC)), f"event_time is after {HISTORY.name}: in the future"),
    "received later": ("plays", lambda rows: with_value(rows, "received_at", datetime(2026, 3, 4, 1, tzinfo=UTC)), f"received_at is after {HISTORY.name}"),
    "received before the interval": ("plays", lambda rows: with_value(with_value(rows, "event_time", datetime(2026, 2, 1, tzinfo=UTC)), "received_at", datetime(2026, 2, 2, tzinfo=UTC)),
                                     f"received before {HISTORY.name}"),
    "received before it happened": ("plays", lambda rows: with_value(with_value(rows, "event_time", datetime(2026, 3, 3, 23, tzinfo=UTC)), "received_at", datetime(2026, 3, 1, 1, tzinfo=UTC)),
                                    "received_at is more than a day before event_time"),
    "window closes before it opens": ("licences", lambda rows: with_value(rows.append_column("closes_at", rows["opens_at"]), "market", "SE"), "closes_at is not after opens_at"),
    "repeats": ("plays", lambda rows: with_value(rows, "event_id", "same"), "59 records of 60: event_id stands more than once"),
}


@pytest.mark.parametrize("case", ROW_CASES)
def test_what_is_wrong_with_rows_is_named(root, case):
    table, change, message = ROW_CASES[case]
    path = rewrite(history(root), table, change)
    report = check(root)
    assert not report.ok
    assert any(message in problem and str(path.parent) in problem for problem in report.problems), report.as_text()


def test_one_bad_record_in_many_is_a_note(root):
    rewrite(history(root), "plays", lambda rows: with_value(rows, "profile_id", None, range(1)))
    report = check(root)
    assert report.ok
    assert any("1 record of 60: profile_id is missing; it would be set aside" in note for note in report.notes)


def test_a_corrupt_parquet_file_is_named(root):
    path = history(root) / "plays/part-0.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    report = check(root)
    assert any(f"{path}: not a readable Parquet file" in problem for problem in report.problems)


def test_corrupt_pages_behind_a_good_footer_are_named(root):
    path = history(root) / "plays/part-0.parquet"
    data = bytearray(path.read_bytes())
    data[4:400] = bytes(396)
    path.write_bytes(bytes(data))
    assert any(f"{path}: not a readable Parquet file" in problem for problem in check(root).problems)


def test_bad_lines_are_named_by_their_number(root):
    lines = [json.dumps({"event_id": f"x{n}", "event_time": "2026-03-04T10:00:00Z", "profile_id": "p1", "title_id": "t1"}) for n in range(5)]
    lines[1] = "{not json"
    lines[3] = json.dumps({"event_id": "y", "event_time": "noon", "profile_id": "p1", "title_id": "t1"})
    path = root / NIGHT.name / "plays" / "part-1.jsonl"
    path.write_text("\n".join(lines) + "\n")
    remark(root / NIGHT.name, tables={"plays": PLAYS + 5})
    problems = check(root).problems
    assert any(f"{path}, line 2: plays: 1 record of 65: the line is not a JSON object" in p for p in problems), problems
    assert any(f'{path}, line 4: plays: 1 record of 65: event_time is "noon", wanted timestamp' in p for p in problems), problems


def test_lines_that_python_cannot_hold_are_named(root):
    play = json.dumps({"event_id": "x", "event_time": "2026-03-04T10:00:00Z", "profile_id": "p1", "title_id": "t1", "note": "#"}).encode()
    path = root / NIGHT.name / "plays" / "part-1.jsonl"
    path.write_bytes(b"\n".join([b"\xef\xbb\xbf" + play, play.replace(b"#", b"\xe9"), play.replace(b"#", b"\\ud800"), b"[" * 5000]))
    remark(root / NIGHT.name, tables={"plays": PLAYS + 4})
    problems = check(root).problems
    assert any(f"{path}, line 2: plays: 2 records of 64: the line is not UTF-8" in p for p in problems), problems
    assert any(f"{path}, line 4: plays: 1 record of 64: the line is not a JSON object" in p for p in problems), problems
    assert not any("line 1:" in p or "says" in p for p in problems), "a byte order mark is nothing"


def test_text_of_a_parquet_file_that_is_not_utf_8_is_named(root):
    ids = pa.Array.from_buffers(pa.string(), PLAYS, pa.array([b"caf\xe9"] * PLAYS).buffers())
    path = rewrite(history(root), "plays", lambda rows: rows.set_column(rows.column_names.index("profile_id"), "profile_id", ids))
    assert any(f"{path}: not a readable Parquet file (" in problem for problem in check(root).problems)


def test_numbers_are_read_as_ingest_reads_them(root):
    """Whole numbers as ids, digits as text, and floats for integers with gaps are usual; NaN is no value."""
    rewrite(history(root), "titles", lambda rows: rows.append_column("year", pa.array([1999.0])))
    record = {"event_id": 7, "event_time": "2026-03-04T10:00:00Z", "profile_id": "p1", "title_id": "t1", "watched_seconds": "12.5"}
    path = root / NIGHT.name / "plays" / "part-1.jsonl"
    path.write_text(json.dumps(record) + "\n" + json.dumps(record | {"event_id": 8, "watched_seconds": float("nan")}) + "\n")
    remark(root / NIGHT.name, tables={"plays": PLAYS + 2})
    report = check(root)
    assert report.ok, report.as_text()
    assert [note for note in report.notes if "wanted" in note] == [
        f"{path}, line 2: plays: 1 record of 62: watched_seconds is NaN, wanted float; it would be set aside"]


def test_a_folder_that_may_not_be_read_is_named(root, monkeypatch):
    real = Path.iterdir

    def refuse(path):
        if path == history(root):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert f"{history(root)}: not readable (Permission denied)" in check(root).problems


def test_a_day_without_plays_in_the_history_is_noted(root):
    rewrite(history(root), "plays", lambda rows: pa.concat_tables([rows.slice(0, 20), rows.slice(40)]))
    assert any("1 day without any play: 2026-03-02" in note for note in check(root).notes)


def test_columns_that_nobody_reads_are_noted(root):
    rewrite(history(root), "plays", lambda rows: rows.append_column("mood", pa.array(["good"] * rows.num_rows)))
    report = check(root)
    assert report.ok
    assert any("nobody reads the column mood" in note for note in report.notes)
