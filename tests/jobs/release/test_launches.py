"""The eligibility log from landed folders: in order, once, when known, and closed where in doubt."""

import json
import logging
import os
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contracts import clock
from contracts.eligibility import FAR, Eligibility
from contracts.errors import MarqueeError
from contracts.landing import FORMAT_VERSION, MARKER
from jobs.release import launches

NOW = datetime(2026, 4, 1, 6, tzinfo=UTC)
NOON = int(datetime(2026, 4, 1, 12, tzinfo=UTC).timestamp())


def title(number: int, title_id: str = "t1", maturity=7, at: str = "2026-03-30T10:00:00Z", **more) -> dict:
    return {"event_id": f"e{number}", "event_time": at, "received_at": at, "title_id": title_id, "valid_from": at, "name": "n",
            "maturity": maturity, **more}


def window(number: int, opens: str = "2026-01-01T00:00:00Z", closes: str | None = None, at: str = "2026-03-30T10:00:00Z", **more) -> dict:
    return {"event_id": f"l{number}", "event_time": at, "received_at": at, "title_id": "t1", "window_id": "w1", "market": "nl",
            "opens_at": opens, "closes_at": closes, **more}


@pytest.fixture
def land(settings):
    """`land(titles, licences, name)` lands JSON Lines; strings go in as they are."""
    clock.set_now(settings.home, NOW)

    def land(titles: list, licences: list, name: str = "2026-03-30", marker: dict | None = None) -> None:
        folder = settings.landing / name
        folder.mkdir(parents=True, exist_ok=True)
        for table, rows in (("titles", titles), ("licences", licences)):
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            (folder / f"{table}.jsonl").write_text("\n".join(lines))
        (folder / MARKER).write_text(json.dumps({"format_version": FORMAT_VERSION, "tables": {}, **(marker or {})}))

    return land


def eligible(ledger, title_id: str = "t1", limit: int = 18, at: int = NOON, market: str = "nl") -> str | None:
    known = Eligibility()
    known.apply(ledger.eligibility_since(0))
    return known.why_not(title_id, market, limit, at)


def test_landed_versions_enter_once(settings, ledger, land):
    land([title(1)], [window(1)])
    assert launches.run(settings) == {"appended": 2, "head": 2, "malformed": 0, "overlay": {}, "reverted_overdue": False}
    assert launches.run(settings)["appended"] == 0
    assert eligible(ledger) is None
    assert [r.closes_at for r in ledger.eligibility_since(0) if r.kind == "licence"] == [FAR]


def test_an_interval_read_whole_is_not_read_again(settings, land, monkeypatch):
    land([title(1)], [window(1)])
    launches.run(settings)
    monkeypatch.setattr(launches, "read_interval", lambda *a: pytest.fail("read again"))
    launches.run(settings)


def test_an_interval_that_is_mended_after_landing_is_read_again(settings, ledger, land):
    """Whatever its marker says, and though size and time of the file stayed as they were."""
    marker, file = {"content_sha256": "as it was"}, settings.landing / "2026-03-30" / "titles.jsonl"
    land([title(1, maturity=99)], [window(1)], marker=marker)
    launches.run(settings)
    assert eligible(ledger) == "unknown_maturity"
    stat = file.stat()
    land([title(1, maturity=16)], [window(1)], marker=marker)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size
    launches.run(settings)
    assert eligible(ledger) is None


def test_a_watch_looks_again_until_its_time_is_up(settings, ledger, land, monkeypatch):
    """What failed at an earlier look and is mended is no failure."""
    land([title(1)], [window(1)])
    broken = settings.landing / "2026-03-30" / "titles.parquet"
    broken.write_bytes(b"PAR1 no")

    def meanwhile(_: float) -> None:
        broken.unlink(missing_ok=True)
        land([title(2, "t2", at="2026-03-31T10:00:00Z"), "no record"], [], "2026-03-31")

    # not the module itself: threads of other tests sleep too
    monkeypatch.setattr(launches, "time", SimpleNamespace(monotonic=time.monotonic, sleep=meanwhile))
    done = launches.watch(settings, 5, 3)
    assert (done["appended"], done["malformed"]) == (3, 1), "the last look found nothing more"
    broken.write_bytes(b"PAR1 no")
    with pytest.raises(MarqueeError, match="2026-03-30"):
        launches.watch(settings, 0, 1)


def test_a_closure_and_a_revocation_and_a_reopening(settings, ledger, land):
    land([title(1)], [window(1)])
    launches.run(settings)
    land([], [window(2, closes="2026-04-01T00:00:00Z", at="2026-03-31T10:00:00Z")], "2026-03-31")
    launches.run(settings)
    assert eligible(ledger) == "outside_window"
    land([], [window(3, window_id="w2", opens="2026-04-01T06:00:00Z", at="2026-04-01T01:00:00Z")], "2026-04-01")
    launches.run(settings)
    assert eligible(ledger) is None, "reopened by another window"
    clock.set_now(settings.home, datetime(2026, 4, 2, 6, tzinfo=UTC))
    land([], [window(4, window_id="w2", revoked=True, at="2026-04-02T01:00:00Z")], "2026-04-02")
    launches.run(settings)
    assert eligible(ledger) == "outside_window"


def test_nothing_enters_before_the_source_knew_it(settings, ledger, land):
    land([title(1)], [window(1), window(2, revoked=True, at="2026-04-01T08:00:00Z")], "2026-03-30..2026-04-01")
    assert launches.run(settings)["appended"] == 2
    assert eligible(ledger) is None
    clock.set_now(settings.home, datetime(2026, 4, 1, 9, tzinfo=UTC))
    assert launches.run(settings)["appended"] == 1
    assert eligible(ledger) == "no_licence"


def test_a_title_announced_for_later_is_unknown_until_then(settings, ledger, land):
    land([title(1, valid_from="2026-04-02T00:00:00Z")], [window(1)])
    launches.run(settings)
    assert eligible(ledger) == "unknown_title"
    clock.set_now(settings.home, datetime(2026, 4, 2, 6, tzinfo=UTC))
    launches.run(settings)
    assert eligible(ledger) is None


def test_a_late_version_never_undoes_a_newer_one(settings, ledger, land):
    land([title(1, maturity=16, at="2026-03-31T10:00:00Z")], [window(1)], "2026-03-31")
    launches.run(settings)
    land([title(2, maturity=0, at="2026-03-30T10:00:00Z")], [], "2026-04-01")
    launches.run(settings)
    assert eligible(ledger, limit=7) == "above_maturity"


@pytest.mark.parametrize(("nine", "ten"), [
    ({}, {"event_time": "2026-03-30T10:00:01Z"}),
    ({"received_at": "2026-03-30T10:00:00.1Z"}, {"received_at": "2026-03-30T10:00:00.6Z"}),
], ids=["event time", "within a second"])
def test_the_newer_of_two_versions_from_one_second_holds(settings, ledger, land, nine, ten):
    """As in the lake, whatever their ids sort like: 10 is before 9 as text."""
    land([title(9, maturity=0, **nine), title(10, maturity=18, **ten), title(1, "t2")],
         [window(1), window(9, title_id="t2", **nine), window(10, title_id="t2", revoked=True, **ten)])
    launches.run(settings)
    assert eligible(ledger, limit=12) == "above_maturity"
    assert eligible(ledger, "t2") == "no_licence"


def test_an_older_version_of_the_same_second_that_lands_later_undoes_nothing(settings, ledger, land):
    rows = [title(1, maturity=None, at="2026-03-30T10:00:00.900Z")]
    land(rows, [window(1)])
    launches.run(settings)
    land([*rows, title(2, maturity=0, at="2026-03-30T10:00:00.100Z")], [window(1)])
    launches.run(settings)
    assert eligible(ledger) == "unknown_maturity"


def test_of_two_versions_valid_from_one_moment_the_one_known_last_holds(settings, ledger, land):
    land([title(9, maturity=0, valid_from="2026-03-31T00:00:00Z"),
          title(10, maturity=18, at="2026-03-30T11:00:00Z", valid_from="2026-03-31T00:00:00Z")], [window(1)])
    launches.run(settings)
    assert eligible(ledger, limit=12) == "above_maturity"


def test_missing_maturity_closes_and_missing_licence_is_no_licence(settings, ledger, land):
    land([title(1, maturity=None), title(2, "t2")], [window(1)])
    launches.run(settings)
    assert eligible(ledger) == "unknown_maturity"
    assert eligible(ledger, "t2") == "no_licence"


def test_the_declared_lag_stands_in_for_received_at(settings, ledger, land):
    late = title(1, at="2026-04-01T05:00:00Z", received_at=None)
    land([late], [window(1)], "2026-04-01", marker={"received_lag_seconds": 7200})
    launches.run(settings)
    assert eligible(ledger) == "unknown_title", "event time plus two hours is after now"
    clock.set_now(settings.home, datetime(2026, 4, 1, 8, tzinfo=UTC))
    launches.run(settings)
    assert eligible(ledger) is None


@pytest.mark.parametrize("row", [
    "not json", "[1]", title(2, title_id=None), title(2, title_id=" "), title(2, title_id="x" * 300), title(2, title_id="caf\ud800"),
    "[" * 5000,
], ids=str)
def test_a_record_of_nobody_knows_what_title_is_counted_and_left_out(settings, ledger, land, row):
    land([title(1), row], [window(1)])
    done = launches.run(settings)
    assert (done["appended"], done["malformed"]) == (2, 1)
    assert eligible(ledger) is None, "the good version stands"


@pytest.mark.parametrize(("row", "field"), [
    (title(2, maturity=40), "maturity"), (title(2, maturity="high"), "maturity"), (title(2, maturity=True), "maturity"),
    (title(2, valid_from="soon"), "valid_from"), (title(2, event_id=True), "event_id"), (title(2, event_id="v\0"), "event_id"), (title(2, event_time=None), "event_time"),
    (title(2, received_at=3), "received_at"), (title(2, received_at="2099-01-01T00:00:00Z"), "received_at"),
    (title(2, received_at="2026-03-01T00:00:00Z"), "received_at"), (title(2, event_time="1969-12-31T00:00:00Z"), "event_time"),
    (title(2, event_time="2026-03-31T00:00:00Z"), "event_time"),
], ids=str)
def test_a_malformed_version_closes_its_title_until_a_good_one_lands(settings, ledger, land, caplog, row, field):
    """It may have raised the maturity: nobody knows."""
    caplog.set_level(logging.WARNING, "marquee")
    land([title(1), row], [window(1)])
    done = launches.run(settings)
    assert (done["appended"], done["malformed"]) == (3, 1)
    assert eligible(ledger) == "unknown_maturity"
    assert f"2026-03-30/titles.jsonl, record 2: {field}" in caplog.text
    land([title(2, at="2026-03-31T10:00:00Z")], [], "2026-03-31")
    assert launches.run(settings)["appended"] == 1, "though it has the event id that the malformed one had"
    assert eligible(ledger) is None


@pytest.mark.parametrize("more", [
    {"revoked": 1}, {"closes": "2026-03-05 24:30"}, {"opens": "never"}, {"revoked": "perhaps"}, {"event_id": None},
    {"received_at": "2099-01-01T00:00:00Z"},
], ids=str)
def test_a_malformed_version_closes_its_window_and_no_other(settings, ledger, land, more):
    land([title(1), title(2, "t2")], [window(1), window(2, title_id="t2"), window(3, market="de")])
    launches.run(settings)
    assert eligible(ledger) is None
    land([], [window(4, **{"at": "2026-03-31T10:00:00Z"} | more)], "2026-03-31")
    assert launches.run(settings)["malformed"] == 1
    assert (eligible(ledger), eligible(ledger, "t2"), eligible(ledger, market="de")) == ("no_licence", None, None)
    land([], [window(5, at="2026-04-01T01:00:00Z")], "2026-04-01")
    launches.run(settings)
    assert eligible(ledger) is None


def test_a_late_malformed_version_never_undoes_a_newer_one(settings, ledger, land):
    land([title(1, at="2026-03-31T10:00:00Z")], [window(1)], "2026-03-31")
    launches.run(settings)
    land([title(2, maturity="high", at="2026-03-30T10:00:00Z")], [], "2026-04-01")
    assert launches.run(settings)["malformed"] == 1
    assert eligible(ledger) is None


def test_a_broken_source_closes_nothing_but_is_red_until_it_is_mended(settings, ledger, land):
    """As the nightly ingest sees it: a column that changed its type must not empty every shelf. What is good enters."""
    everything = [title(n, f"t{n}") for n in range(1, 22)]
    land(everything, [window(n, title_id=f"t{n}") for n in range(1, 22)])
    launches.run(settings)
    broken = [title(100 + n, f"t{n}", maturity="PG", at="2026-03-31T10:00:00Z") for n in range(1, 22)]
    land(broken, [window(100, revoked=True, at="2026-03-31T10:00:00Z")], "2026-03-31")
    for _ in range(2):
        with pytest.raises(MarqueeError, match=r"2026-03-31/titles: 21 of 21 records .*titles.jsonl, record 1: maturity"):
            launches.run(settings)
    assert (eligible(ledger, "t2"), eligible(ledger, "t1")) == (None, "no_licence")
    land([row | {"maturity": 18} for row in broken], [], "2026-03-31")
    launches.run(settings)
    assert eligible(ledger, "t2", limit=16) == "above_maturity"


@pytest.mark.parametrize("row", [
    window(2, opens="never"), window(2, closes="x"), window(2, market=None), window(2, market="n-l"), window(2, revoked="perhaps"), window(2, window_id=""),
], ids=str)
def test_a_malformed_licence_opens_nothing(settings, ledger, land, row):
    land([title(1)], [row])
    assert launches.run(settings)["malformed"] == 1
    assert eligible(ledger) == "no_licence"


def test_an_id_may_be_a_whole_number_as_in_the_lake(settings, ledger, land):
    land([title(1, title_id=42)], [window(1) | {"title_id": 42}])
    assert launches.run(settings)["malformed"] == 0
    assert eligible(ledger, "42") is None


def test_parquet_and_nanoseconds(settings, ledger, land):
    land([], [window(1)])
    (settings.landing / "2026-03-30" / "titles.jsonl").unlink()
    moment = pa.array([1774864800_000000001], pa.timestamp("ns", tz="UTC"))
    table = pa.table({"event_id": ["e1"], "event_time": moment, "received_at": moment, "title_id": ["t1"], "valid_from": moment,
                      "name": ["n"], "maturity": pa.array([7], pa.int8())})
    (settings.landing / "2026-03-30" / "titles").mkdir()
    pq.write_table(table, settings.landing / "2026-03-30" / "titles" / "part-0.parquet")
    launches.run(settings)
    assert eligible(ledger) is None


def test_a_moment_or_a_text_that_python_cannot_hold_spoils_its_record_only(settings, ledger, land):
    land([title(1)], [window(1)])
    moment = pa.array([1774864800_000000] * 3, pa.timestamp("us", tz="UTC"))
    closes = pa.array([None, 577_239_000_000_000_000, None], pa.timestamp("us", tz="UTC"))
    ids = pa.Array.from_buffers(pa.string(), 3, pa.array([b"l1", b"l2", b"caf\xe9"]).buffers())
    table = pa.table({"event_id": ids, "event_time": moment, "title_id": ["t1", "t1", "t1"], "window_id": ["w1", "w1", "w1"],
                      "market": ["nl", "nl", "nl"], "opens_at": moment, "closes_at": closes})
    pq.write_table(table, settings.landing / "2026-03-30" / "licences.parquet")
    assert launches.run(settings)["malformed"] == 2
    assert eligible(ledger) is None


def test_a_byte_order_mark_is_nothing(settings, ledger, land):
    land([title(1)], [window(1)])
    path = settings.landing / "2026-03-30" / "licences.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert launches.run(settings)["malformed"] == 0
    assert eligible(ledger) is None


def test_latin_1_spoils_its_line_only(settings, ledger, land):
    land([title(1)], [window(1)])
    with (settings.landing / "2026-03-30" / "titles.jsonl").open("ab") as file:
        file.write(b"\n" + json.dumps(title(2, "caf#")).encode().replace(b"#", b"\xe9"))
        file.write(b"\n" + json.dumps(title(3, "t3", synopsis="caf#")).encode().replace(b"#", b"\xe9"))
    assert launches.run(settings)["malformed"] == 1
    assert eligible(ledger, "t3") == "no_licence", "its maturity holds, and it gets no vector"
    assert [r.content for r in ledger.eligibility_since(0) if r.title_id == "t3"] == [None]


def test_a_corrupt_file_is_named_and_the_other_days_still_enter(settings, ledger, land):
    land([title(1)], [window(1)], "2026-03-31")
    land([], [], "2026-03-30")
    (settings.landing / "2026-03-30" / "titles.parquet").write_bytes(b"PAR1 no")
    for _ in range(2):
        with pytest.raises(MarqueeError, match="2026-03-30"):
            launches.run(settings)
    assert eligible(ledger) is None
    (settings.landing / "2026-03-30" / "titles.parquet").unlink()
    assert launches.run(settings)["appended"] == 0


def test_an_interval_without_its_marker_is_not_there(settings, ledger, land):
    land([title(1)], [window(1)])
    (settings.landing / "2026-03-30" / MARKER).unlink()
    assert launches.run(settings)["head"] == 0
