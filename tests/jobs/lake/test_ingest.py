"""Ingest: what is published, set aside and left out; what is refused; that it converges from any kill."""

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from contracts.errors import MarqueeError, UsageError
from contracts.marts import INGESTS, QUARANTINE
from jobs.lake import ingest, raw, read
from tests.jobs.lake.landings import at, catalogue, events, land, mark, write_parquet

FIRST, SECOND = "2026-03-01..2026-03-03", "2026-03-04"


def lines(*records: dict | str) -> list[str]:
    return [one if isinstance(one, str) else json.dumps(one, default=str) for one in records]


def play(event_id: str, **fields) -> dict:
    return {"event_id": event_id, "event_time": "2026-03-02T10:00:00Z", "profile_id": "profile1", "title_id": "title1"} | fields


BAD_PLAYS = {
    "not JSON": "{not json",
    "wrong type: watched_seconds": play("bad1", watched_seconds="abc"),
    "missing: profile_id": play("bad2", profile_id=None),
    "below 0: watched_seconds": play("bad3", watched_seconds=-3),
    "unknown title: title_id": play("bad4", title_id="nobody"),
    "in the future: event_time": play("bad5", event_time="2026-03-04T00:00:00Z"),
    "in the future: received_at": play("bad6", received_at="2026-03-04T00:00:01Z"),
    "received before it happened: received_at": play("bad7", received_at="2026-02-27T00:00:00Z"),
    "wrong type: event_time": play("bad8", event_time="yesterday"),
    "above 5: rating": play("bad9", rating=11),
    "before 1970: event_time": play("bad10", event_time="0001-01-01T00:00:00Z"),
    "longer than 200 characters: profile_id": play("bad11", profile_id="x" * 201),
}
LATE_AT_THE_END = play("good-late", event_time="2026-03-03T23:59:30Z", watched_seconds=600)


def twice(path: Path, column: str) -> None:
    rows = pq.read_table(path)
    pq.write_table(rows.append_column(column, rows[column]), path)


@pytest.fixture(scope="module")
def lake(new_home):
    """Two intervals with everything that may be wrong with a record."""
    settings = new_home()
    first = catalogue("2026-03-01") | events("2026-03-01", "2026-03-03")
    first["titles"].append(first["titles"][0] | {"event_id": "t-unrated", "title_id": "unrated", "maturity": None})
    first["licences"].append(first["licences"][0] | {"event_id": "l-bad", "window_id": "w-bad", "market": "D/E"})
    first["impressions"].append(first["impressions"][0] | {"event_id": "i-unknown", "title_id": "nobody"})
    first["plays"] += [first["plays"][0], first["plays"][0] | {"received_at": first["plays"][0]["received_at"] + timedelta(minutes=1)}]
    requests = [{"event_id": f"q{n}", "event_time": "2026-03-02T10:00:00Z", "profile_id": "profile1", "request": kind}
                for n, kind in enumerate(("erase", "forget me"))]
    land(settings.landing, FIRST, first, {"plays": lines(*BAD_PLAYS.values(), LATE_AT_THE_END), "privacy_requests": lines(*requests)},
         received_lag_seconds=60)
    second = events(SECOND, SECOND)
    second["plays"] += [first["plays"][2], first["plays"][3]]
    second["ratings"] = [{"event_id": "r-unknown", "event_time": at(SECOND, 1), "received_at": at(SECOND, 1), "profile_id": "profile1",
                          "title_id": "nobody", "rating": 4.0}]
    land(settings.landing, SECOND, second)
    result = ingest.run(settings, SECOND)
    return settings, result, first, second


def snapshots(settings) -> dict[str, int | None]:
    catalog = read.catalog(settings)
    return {".".join(name): raw.main_snapshot(catalog.load_table(name)) for name in catalog.list_tables("raw")}


def test_missed_days_are_ingested_in_order(lake):
    settings, result, *_ = lake
    assert result["intervals"] == [FIRST, SECOND]
    assert read.table(settings, INGESTS).sort_by("sequence")["interval"].to_pylist() == [FIRST, SECOND]


def test_landed_is_the_sum_of_published_quarantined_and_duplicates(lake):
    settings, result, first, second = lake
    for name, count in result["tables"].items():
        assert count["landed"] == count["published"] + count["quarantined"] + count["duplicates"], name
        assert count["published"] == read.table(settings, f"raw.{name}", columns=["event_id"]).num_rows, name
    plays = result["tables"]["plays"]
    assert plays["landed"] == len(first["plays"]) + len(BAD_PLAYS) + 1 + len(second["plays"])
    assert plays["duplicates"] == 4
    assert result["tables"]["impressions"]["quarantined"] == 1


def test_every_bad_record_is_set_aside_with_its_reason(lake):
    settings, *_ = lake
    rows = read.table(settings, QUARANTINE).to_pylist()
    reasons = Counter(row["reason"] for row in rows if row["table_name"] == "plays")
    assert reasons == dict.fromkeys(BAD_PLAYS, 1)
    others = {(row["table_name"], row["event_id"]): row["reason"] for row in rows if row["table_name"] != "plays"}
    assert others == {
        ("licences", "l-bad"): "not 1 to 32 letters, digits and _: market",
        ("impressions", "i-unknown"): "unknown title: title_id",
        ("privacy_requests", "q1"): "unknown kind: request",
        ("ratings", "r-unknown"): "unknown title: title_id",  # all that there was of its day: the others go on
    }
    unknown = next(row for row in rows if row["event_id"] == "bad4")
    assert json.loads(unknown["record"])["title_id"] == "nobody"
    assert unknown["file"] == "plays/part-1.jsonl"


def test_the_first_received_of_a_repeated_id_is_kept(lake):
    settings, _, first, _ = lake
    kept = read.table(settings, "raw.plays", row_filter=f"event_id == '{first['plays'][0]['event_id']}'").to_pylist()
    assert [row["received_at"] for row in kept] == [first["plays"][0]["received_at"]]


def test_a_record_without_received_at_gets_the_declared_lag_but_never_later_than_its_interval(lake):
    settings, *_ = lake
    row = read.table(settings, "raw.plays", row_filter="event_id == 'good-late'").to_pylist()[0]
    assert row["received_at"] == at("2026-03-04") - timedelta(microseconds=1)


def test_a_title_without_maturity_is_published_and_counted(lake):
    settings, result, *_ = lake
    assert result["warnings"][FIRST] == {"titles_without_maturity": 1, "titles_without_licence": 1}
    assert "unrated" in read.table(settings, "raw.titles")["title_id"].to_pylist()


def test_the_same_day_twice_changes_nothing(lake):
    settings, *_ = lake
    before = snapshots(settings)
    assert ingest.run(settings, SECOND)["intervals"] == []
    assert snapshots(settings) == before


def test_what_a_source_never_brings_is_an_empty_table(lake):
    settings, *_ = lake
    assert read.table(settings, "raw.privacy_requests").num_rows == 1
    assert not [name for name in ("raw.skips", "raw.ratings", "raw.households") if name not in snapshots(settings)]


def test_a_day_out_of_order_is_refused(lake):
    settings, *_ = lake
    folder = land(settings.landing, "2026-02-27", events("2026-02-27", "2026-02-27"))
    before = snapshots(settings)
    try:
        with pytest.raises(UsageError, match="2026-02-27: out of order: 2026-03-04 is published already"):
            ingest.run(settings, SECOND)
    finally:
        folder.rename(folder.with_name(".out"))
    assert snapshots(settings) == before


def test_overlapping_days_are_refused(lake):
    settings, *_ = lake
    folder = land(settings.landing, "2026-03-04..2026-03-05", events("2026-03-05", "2026-03-05"))
    try:
        with pytest.raises(UsageError, match=r"overlaps 2026-03-04; a day lands once"):
            ingest.run(settings, "2026-03-05")
    finally:
        folder.rename(folder.with_name(".overlapping"))


def test_a_gap_is_refused_with_what_to_do(lake):
    settings, *_ = lake
    folder = land(settings.landing, "2026-03-07", events("2026-03-07", "2026-03-07"))
    before = snapshots(settings)
    try:
        with pytest.raises(UsageError, match=r"out of order: 2026-03-05\.\.2026-03-06 has not landed.* as one interval 2026-03-05\.\.2026-03-07"):
            ingest.run(settings, "2026-03-07")
    finally:
        folder.rename(folder.with_name(".gap"))
    assert snapshots(settings) == before


def test_a_first_interval_without_a_catalogue_is_refused(new_home):
    settings = new_home()
    land(settings.landing, FIRST, catalogue("2026-03-01") | events("2026-03-01", "2026-03-03") | {"licences": []})
    with pytest.raises(UsageError, match=r"2026-03-03: has no licences .*; the first interval must bring them"):
        ingest.run(settings, "2026-03-03")
    assert raw.read_ingests(read.catalog(settings)) == []


def test_a_landing_that_may_not_be_read_is_named(new_home, monkeypatch):
    settings = new_home()
    folder = land(settings.landing, FIRST, events("2026-03-01", "2026-03-03"))
    real = Path.is_file

    def refuse(path):
        if path.parent == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(UsageError, match="may not be read"):
        ingest.run(settings, "2026-03-03")


def test_files_that_changed_after_landing_are_noticed(lake, caplog):
    settings, *_ = lake
    folder = land(settings.landing, "2026-03-05", {"plays": [{}]}, content_sha256="0" * 64)
    try:
        with pytest.raises(UsageError):
            ingest.run(settings, "2026-03-05")
    finally:
        folder.rename(folder.with_name(".changed"))
    assert "content_sha256 does not fit the files" in caplog.text


def test_a_day_that_has_not_landed_is_named_with_what_has(lake):
    settings, *_ = lake
    with pytest.raises(UsageError, match=r"ends on 2026-03-09; landed: 2026-03-01\.\.2026-03-03, 2026-03-04"):
        ingest.run(settings, "2026-03-09")


def test_too_little_disk(lake):
    settings, *_ = lake
    with pytest.raises(UsageError, match="GB free"):
        ingest.run(settings.model_copy(update={"min_free_gb": 1e9}), SECOND)


@pytest.mark.parametrize(("spoil", "complaint"), [
    (lambda folder: [path.write_bytes(b"PAR1nonsense") for path in (folder / "plays").glob("*.parquet")], "not a readable Parquet file"),
    (lambda folder: (folder / "plays" / "part-2.jsonl").write_text("{}\n"), None),
    (lambda folder: (folder / "plays" / "part-2.jsonl").write_text("{}\n" * 30), "plays: 30 of 34 records cannot be used, 30 of them: missing: event_id"),
    (lambda folder: (folder / "plays" / "part-2.csv").write_text("a,b"), r"part-2\.csv: neither \.parquet nor \.jsonl"),
    (lambda folder: mark(folder, ingest.Interval.parse("2026-03-05"), last="2026-03-06"), "last is '2026-03-06', the folder's name says 2026-03-05"),
    (lambda folder: mark(folder, ingest.Interval.parse("2026-03-05"), received_lag_seconds="soon"), "received_lag_seconds is 'soon'"),
    (lambda folder: twice(folder / "plays" / "part-0.parquet", "title_id"), "part-0.parquet: has column title_id 2 times"),
    (lambda folder: mark(folder, ingest.Interval.parse("2026-03-05"), tables={"plays": 99999}), "its marker says 99999"),
])
def test_a_refused_day_leaves_the_lake_as_it_was(lake, spoil, complaint):
    settings, *_ = lake
    folder = land(settings.landing, "2026-03-05", {"plays": events("2026-03-05", "2026-03-05")["plays"][:4]})
    if complaint is None:  # every plays record of the day lacks what it must have
        (folder / "plays" / "part-0.parquet").unlink()
        complaint = "an empty day: plays: 1 of 1 records cannot be used, 1 of them: missing: event_id"
    spoil(folder)
    before = snapshots(settings)
    try:
        with pytest.raises(UsageError, match=complaint):
            ingest.run(settings, "2026-03-05")
    finally:
        folder.rename(folder.with_name(f".refused-{len(list(settings.landing.iterdir()))}"))
    assert snapshots(settings) == before


def test_the_audit_stands_before_main(lake, monkeypatch):
    settings, *_ = lake
    folder = land(settings.landing, "2026-03-05", events("2026-03-05", "2026-03-05"))
    before = snapshots(settings)

    def refuse(*_):
        raise MarqueeError("the audit refused to publish")

    monkeypatch.setattr(ingest.quality, "audit", refuse)
    try:
        with pytest.raises(MarqueeError, match="refused to publish"):
            ingest.run(settings, "2026-03-05")
    finally:
        folder.rename(folder.with_name(".audited"))
    assert snapshots(settings) == before
    assert raw.AUDIT_BRANCH not in read.open_table(settings, "raw.plays").refs()


class Killed(BaseException):
    """Ends a run where kill -9 would: nothing catches it to clean up."""


@pytest.mark.parametrize(("day", "point"), [
    ("2026-03-05", "after the branches"), ("2026-03-06", "between two tables"),
    ("2026-03-07", "before the commit point"), ("2026-03-08", "after the commit point"),
])
def test_a_run_killed_anywhere_is_put_right_by_the_next(lake, monkeypatch, day, point):
    settings, *_ = lake
    land(settings.landing, day, events(day, day), {"plays": lines("{not json")})
    published = len(raw.read_ingests(read.catalog(settings)))
    with monkeypatch.context() as patch:
        kill(patch, point)
        with pytest.raises(Killed):
            ingest.run(settings, day)
    again = ingest.run(settings, day)
    ingests = raw.read_ingests(read.catalog(settings))
    assert [one.interval for one in ingests].count(day) == 1
    assert len(ingests) == published + 1
    assert again["intervals"] == ([] if point == "after the commit point" else [day])
    ids = read.table(settings, "raw.plays", columns=["event_id", "landed_interval"])
    assert len(ids["event_id"].unique()) == ids.num_rows
    assert ids["landed_interval"].to_pylist().count(day) == ingests[-1].counts["plays"]["published"] > 0
    assert read.table(settings, QUARANTINE, row_filter=f"interval == '{day}'").num_rows == 1
    assert raw.AUDIT_BRANCH not in read.open_table(settings, "raw.plays").refs()
    assert not (settings.lake / raw.JOURNAL).exists()
    assert ingest.run(settings, day)["intervals"] == []


def kill(patch, point: str) -> None:
    """Makes the next run die at `point`, with its audit branches left where they are."""
    def die(*_, **__):
        raise Killed

    recover = raw.recover
    calls = iter([recover, lambda *_: False])  # recovery at the start works; the clean-up of a crash never runs
    patch.setattr(raw, "recover", lambda *a: next(calls, recover)(*a))
    if point == "after the branches":
        patch.setattr(ingest.quality, "audit", die)
    elif point == "between two tables":
        real_write = ingest._write_quarantine

        def write_then_move_one(session, one, judged, sequence):
            real_write(session, one, judged, sequence)
            session.sql("call marquee.system.fast_forward('raw.plays', 'main', 'audit')")
            raise Killed

        patch.setattr(ingest, "_write_quarantine", write_then_move_one)
    elif point == "before the commit point":
        patch.setattr(raw, "append_ingest", die)
    else:
        patch.setattr(raw, "close_journal", die)


def test_a_day_landed_again_with_more_adds_only_what_is_new(lake):
    settings, _, _, second = lake
    folder = settings.landing / SECOND
    before = read.table(settings, "raw.plays", columns=["event_id"]).num_rows
    write_parquet(folder / "plays" / "part-5.parquet", "plays", [second["plays"][0] | {"event_id": "more"}])
    result = ingest.run(settings, SECOND)
    assert result["intervals"] == [SECOND]
    assert result["tables"]["plays"]["published"] == 1
    assert result["tables"]["plays"]["duplicates"] == len(second["plays"])
    assert read.table(settings, "raw.plays", columns=["event_id"]).num_rows == before + 1


def test_an_ingest_row_reads_back_as_it_was_written(lake):
    settings, *_ = lake
    first = raw.read_ingests(read.catalog(settings))[0]
    assert replace(first).counts["titles"]["published"] == 9
    assert first.earliest_received_at.date().isoformat() == "2026-03-01"
