"""The warehouse: what the marts say, that a night is a function of its inputs however it was built, and the tag."""

import json
from datetime import date, timedelta

import pytest

from contracts.errors import UsageError
from contracts.marts import MART_COLUMNS, TAGGED, tag_name
from jobs.lake import ingest, read, warehouse
from jobs.lake.session import spark_session
from tests.jobs.lake.landings import at, catalogue, events, land

FIRST, SECOND, THIRD = "2026-03-01..2026-03-09", "2026-03-10", "2026-03-11"
NIGHTS = ("2026-03-09", SECOND, THIRD)


def late(record: dict, arrives) -> dict:
    return record | {"event_id": f"late-{record['event_id']}", "received_at": arrives}


def play(event_id: str, moment, title: str, seconds: float | None, **fields) -> dict:
    return {"event_id": event_id, "event_time": moment, "received_at": moment + timedelta(minutes=1), "profile_id": "lone",
            "title_id": title, "watched_seconds": seconds} | fields


def nights() -> dict[str, dict[str, list[dict]]]:
    """Three nights. The later ones bring plays that happened, and slates that were shown, nights before; a new version
    of a title; a household that moves; and a profile, `lone`, whose every number can be worked out by hand."""
    first = catalogue("2026-03-01") | events("2026-03-01", "2026-03-09")
    second, third = events(SECOND, SECOND), events(THIRD, THIRD)
    start = at("2026-03-02", 10)
    shown = {"event_time": start, "received_at": start, "slate_id": "lone-slate", "profile_id": "lone"}
    first["impressions"] += [shown | {"event_id": f"lone{n}", "title_id": f"title{n}", "position": n + 1} for n in range(4)]
    first["plays"] += [
        play("lone-finished", start + timedelta(minutes=1), "title0", 3500.0, slate_id="lone-slate", rating=4.0),
        play("lone-half", start + timedelta(minutes=80), "title1", 1800.0, slate_id="lone-slate"),
        play("lone-sampled", start + timedelta(minutes=120), "title2", 60.0, slate_id="lone-slate"),
        play("lone-unknown", start + timedelta(minutes=130), "title4", None),
    ]
    first["skips"].append({"event_id": "lone-skip", "event_time": start, "received_at": start, "profile_id": "lone",
                           "title_id": "title1", "slate_id": "lone-slate"})
    # an outcome that arrives a week after its impression, with a play that happened days before it arrived
    second["plays"].append(play("lone-late", at("2026-03-08", 9), "title3", 3600.0, slate_id="lone-slate", received_at=at(SECOND, 5)))
    second["titles"] = [first["titles"][3] | {"event_id": "t3-new", "event_time": at(SECOND, 6), "received_at": at(SECOND, 6), "runtime_minutes": 120.0}]
    third["plays"].append(play("lone-longer", at(THIRD, 9), "title3", 3600.0))
    third["households"] = [first["households"][0] | {"event_id": "h0-moves", "event_time": at(THIRD, 1), "received_at": at(THIRD, 1), "market": "AT"}]
    third["plays"].append(late(first["plays"][5], at(THIRD, 3)))
    return {FIRST: first, SECOND: second, THIRD: third}


@pytest.fixture(scope="module")
def lake(new_home):
    """Every night built as it came: the first in full, the others on top."""
    settings = new_home()
    results = {}
    for (name, tables), ds in zip(nights().items(), NIGHTS, strict=True):
        land(settings.landing, name, tables)
        ingest.run(settings, ds)
        results[ds] = warehouse.run(settings, ds)
    return settings, results


def mart(settings, name: str, ds: str = THIRD, **wanted) -> list[dict]:
    rows = read.table(settings, f"marts.{name}", tag=tag_name(ds)).to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_nights_after_the_first_build_only_what_arrived(lake):
    _, results = lake
    assert [result["built"] for result in results.values()] == [
        "built in full", "built what arrived from 2026-03-10", "built what arrived from 2026-03-11"]


def test_marts_have_the_columns_of_the_contract(lake):
    settings, _ = lake
    session = spark_session(settings)
    for name, columns in MART_COLUMNS.items():
        assert dict(session.table(f"marquee.marts.{name}").dtypes) == columns, name
        assert session.table(f"marquee.marts.{name}").columns == list(columns), name


def test_building_on_top_gives_the_rows_of_a_full_build(lake, new_home):
    settings, _ = lake
    whole = new_home()
    for name, tables in nights().items():
        land(whole.landing, name, tables)
    ingest.run(whole, THIRD)
    assert warehouse.run(whole, THIRD)["built"] == "built in full"
    for name in TAGGED:
        assert _sorted(mart(whole, name)) == _sorted(mart(settings, name)), name
    hashes = [{name: table.logical_hash for name, table in read.tag_record(home, THIRD).tables.items()} for home in (settings, whole)]
    assert hashes[0] == hashes[1]


def test_an_unchanged_night_is_not_built_again(lake):
    settings, results = lake
    before = read.tag_record(settings, SECOND)
    again = warehouse.run(settings, SECOND)
    assert again["built"].startswith("unchanged")
    assert again["logical_hashes"] == results[SECOND]["logical_hashes"]
    assert read.tag_record(settings, SECOND) == before


def test_an_old_night_whose_tag_is_lost_comes_out_the_same_and_newer_tags_stand(lake):
    settings, _ = lake
    old, new = read.tag_record(settings, SECOND), read.tag_record(settings, THIRD)
    (settings.lake / "tags" / "nightly_2026-03-10.json").unlink()
    assert warehouse.run(settings, SECOND)["built"] == "built in full"
    again = read.tag_record(settings, SECOND)
    assert {n: (t.rows, t.logical_hash) for n, t in again.tables.items()} == {n: (t.rows, t.logical_hash) for n, t in old.tables.items()}
    session = spark_session(settings)
    for name, version in new.tables.items():
        assert warehouse.logical_hash(session, name, version.snapshot_id) == (version.rows, version.logical_hash), name
    # and the next night is built on top of it again
    (settings.lake / "tags" / "nightly_2026-03-11.json").unlink()
    assert warehouse.run(settings, THIRD)["built"] == "built what arrived from 2026-03-11"
    assert read.tag_record(settings, THIRD).tables["feat_title_daily"].logical_hash == new.tables["feat_title_daily"].logical_hash


def test_a_night_that_has_not_been_published_is_refused(lake):
    settings, _ = lake
    with pytest.raises(UsageError, match="no published interval ends on 2026-03-12: run `marquee ingest --ds 2026-03-12`"):
        warehouse.run(settings, "2026-03-12")


def test_what_came_of_an_impression(lake):
    settings, _ = lake
    engaged = {ds: {row["title_id"]: row["engagement"] for row in mart(settings, "fct_impression", ds, slate_id="lone-slate")} for ds in NIGHTS}
    # title1 was watched to the half and skipped: a skip counts
    assert engaged["2026-03-09"] == {"title0": 3, "title1": 0, "title2": 1, "title3": 0}
    assert engaged[SECOND] == {"title0": 3, "title1": 0, "title2": 1, "title3": 3}


def test_completion_is_of_the_runtime_known_with_the_play(lake):
    settings, _ = lake
    completion = {row["event_id"]: row["completion"] for row in mart(settings, "fct_play", profile_id="lone")}
    assert completion["lone-late"] == 1.0
    assert completion["lone-longer"] == 0.5
    assert completion["lone-unknown"] is None
    assert [row["engaged"] for row in mart(settings, "fct_play", event_id="lone-unknown")] == [True]


def test_a_profile_has_snapshots_where_a_window_changes_and_they_count_by_arrival(lake):
    settings, _ = lake
    rows = {str(row["snapshot_day"]): row for row in mart(settings, "feat_profile_daily", profile_id="lone")}
    assert sorted(rows) == ["2026-03-02", "2026-03-09", "2026-03-10", "2026-03-11"]
    assert [rows[day]["plays_7d"] for day in sorted(rows)] == [4, 0, 1, 2]
    assert [rows[day]["plays_30d"] for day in sorted(rows)] == [4, 4, 5, 6]
    assert [rows[day]["skips_7d"] for day in sorted(rows)] == [1, 0, 0, 0]
    assert [rows[day]["impressions_7d"] for day in sorted(rows)] == [4, 0, 0, 0]
    first = rows["2026-03-02"]
    assert first["feature_time"] == first["known_at"] == at("2026-03-03")
    assert first["watch_hours_30d"] == pytest.approx((3500 + 1800 + 60) / 3600)
    assert first["completion_30d"] == pytest.approx((3500 + 1800 + 60) / 3600 / 3, abs=1e-6)
    # title0 drama, title1 comedy and family, title2 crime and drama, title4 drama
    assert first["top_genres_30d"] == ["drama", "comedy", "crime", "family"]
    assert first["top_genre_shares_30d"] == pytest.approx([3 / 6, 1 / 6, 1 / 6, 1 / 6])
    assert first["last_play_at"] == at("2026-03-02", 10) + timedelta(minutes=130)


def test_snapshots_equal_counting_by_hand(lake):
    """Every snapshot of titles and profiles against plain Python over the facts: by arrival, never later."""
    settings, _ = lake
    plays, impressions = mart(settings, "fct_play"), mart(settings, "fct_impression")

    def arrived(rows, key, who, day, days):
        return sum(1 for row in rows if row[key] == who and day - timedelta(days=days) < row["known_at"].date() <= day)

    titles = mart(settings, "feat_title_daily")
    assert len(titles) == 8 * 11
    for row in titles:
        title, day = row["title_id"], row["snapshot_day"]
        assert [row["plays_1d"], row["plays_7d"], row["plays_30d"]] == [arrived(plays, "title_id", title, day, n) for n in (1, 7, 30)]
        assert [row["impressions_7d"], row["impressions_30d"]] == [arrived(impressions, "title_id", title, day, n) for n in (7, 30)]
    for row in mart(settings, "feat_profile_daily"):
        profile, day = row["profile_id"], row["snapshot_day"]
        assert [row["plays_7d"], row["plays_30d"]] == [arrived(plays, "profile_id", profile, day, n) for n in (7, 30)]


def test_no_snapshot_of_an_earlier_night_changes_with_a_later_one(lake):
    settings, _ = lake
    for name, key in (("feat_title_daily", "title_id"), ("feat_profile_daily", "profile_id")):
        then = {(row[key], row["snapshot_day"]): row for row in mart(settings, name, "2026-03-09")}
        now = {(row[key], row["snapshot_day"]): row for row in mart(settings, name) if row["snapshot_day"] <= date(2026, 3, 9)}
        assert then == now, name


def test_rates_are_smoothed_and_null_where_nothing_is_known(lake):
    settings, _ = lake
    rows = {row["title_id"]: row for row in mart(settings, "feat_title_daily", snapshot_day=date(2026, 3, 1))}
    impressions = mart(settings, "fct_impression", event_day=date(2026, 3, 1))
    for title, row in rows.items():
        shown = sum(1 for one in impressions if one["title_id"] == title and one["known_at"] < at("2026-03-02"))
        assert (row["play_rate_30d"] is None) == (shown == 0)
        if shown:
            assert 0 < row["play_rate_30d"] < 1
    assert any(row["rating_mean"] is None for row in rows.values())
    assert all(1 <= row["rating_mean"] <= 5 for row in mart(settings, "feat_title_daily") if row["rating_mean"] is not None)


def test_the_history_is_in_order_and_holds_all_plays(lake):
    settings, _ = lake
    row = mart(settings, "feat_profile_history", profile_id="lone")[0]
    assert row["history_title_ids"] == ["title0", "title1", "title2", "title4", "title3", "title3"]
    assert row["history_times"] == sorted(row["history_times"])
    assert row["history_rating"] == [4.0, None, None, None, None, None]
    assert row["watched_title_ids"] == ["title0", "title1", "title4", "title3"]
    assert row["feature_time"] == at("2026-03-12")


def test_a_household_that_moves_makes_a_version_of_its_profiles(lake):
    settings, _ = lake
    versions = sorted(mart(settings, "dim_profile_version", profile_id="profile0"), key=lambda row: row["valid_from"])
    assert [row["market"] for row in versions] == ["DE", "AT"]
    assert versions[0]["valid_to"] == versions[1]["valid_from"] == at(THIRD, 1)


def test_title_versions_follow_each_other(lake):
    settings, _ = lake
    versions = sorted(mart(settings, "dim_title_version", title_id="title3"), key=lambda row: row["valid_from"])
    assert [(row["runtime_minutes"], row["valid_to"]) for row in versions] == [(60.0, at(SECOND, 6)), (120.0, None)]


def test_the_record_pins_what_the_tag_pins(lake):
    settings, _ = lake
    record = read.tag_record(settings, SECOND)
    assert (record.first, record.last, record.has_impressions) == (date(2026, 3, 10), date(2026, 3, 10), True)
    assert set(record.tables) == set(TAGGED)
    for name, version in record.tables.items():
        pinned = read.open_table(settings, f"marts.{name}").refs()[tag_name(SECOND)]
        assert pinned.snapshot_id == version.snapshot_id
        assert version.rows == len(mart(settings, name, SECOND))
    assert json.loads((settings.lake / "tags" / "nightly_2026-03-10.json").read_text())["ds"] == SECOND


def test_a_source_without_impressions_has_marts_without_them(new_home):
    settings = new_home()
    day = events("2026-03-01", "2026-03-04")
    tables = catalogue("2026-03-01") | {"plays": [row | {"slate_id": None} for row in day["plays"]]}
    tables["profiles"] = [row | {"market": "all", "household_id": None} for row in tables["profiles"]]
    del tables["households"]
    land(settings.landing, "2026-03-01..2026-03-04", tables)
    ingest.run(settings, "2026-03-04")
    result = warehouse.run(settings, "2026-03-04")
    assert result["rows"]["fct_impression"] == 0
    assert result["has_impressions"] is False
    rows = mart(settings, "feat_title_daily", "2026-03-04")
    assert len(rows) == 32
    assert all(row["impressions_30d"] == 0 and row["play_rate_30d"] is None for row in rows)
    assert {row["household_id"] for row in mart(settings, "dim_profile_version", "2026-03-04")} == {f"profile{n}" for n in range(5)}


def _sorted(rows: list[dict]) -> list[str]:
    return sorted(json.dumps(row, default=str, sort_keys=True) for row in rows)
