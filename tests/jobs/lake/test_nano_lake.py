"""The nano world through the real commands: sums, rates, and the marts against its landing files."""

import pyarrow.dataset as ds

from contracts.landing import list_intervals
from contracts.marts import TAGGED
from jobs.lake import read


def test_landed_published_quarantined_and_duplicates_add_up(nano):
    nano.reach("ingest")
    tables = nano.done["ingest"]["tables"]
    landed = nano.done["land"]["records"]
    assert {name: count["landed"] for name, count in tables.items()} == landed
    for name, count in tables.items():
        assert count["landed"] == count["published"] + count["quarantined"] + count["duplicates"], name
    # the simulator lands malformed and repeated records at small rates
    assert 0 < tables["impressions"]["quarantined"] < 0.02 * landed["impressions"]
    assert 0 < tables["impressions"]["duplicates"] < 0.02 * landed["impressions"]


def test_marts_hold_what_was_published(nano):
    nano.reach("warehouse")
    tables, rows = nano.done["ingest"]["tables"], nano.done["warehouse"]["rows"]
    assert rows["fct_play"] == tables["plays"]["published"]
    assert rows["fct_impression"] == tables["impressions"]["published"]
    assert rows["dim_licence_window"] == tables["licences"]["published"]
    assert all(rows[name] > 0 for name in TAGGED)


def test_no_mart_knows_a_play_before_its_source_did(nano):
    nano.reach("warehouse")
    received = {}
    for _, folder in list_intervals(nano.settings.landing):
        files = [str(path) for path in (folder / "plays").rglob("*.parquet")]
        landed = ds.dataset(files).to_table(columns=["event_id", "received_at"])
        for event_id, moment in zip(landed["event_id"].to_pylist(), landed["received_at"].to_pylist(), strict=True):
            if event_id and moment:
                received[event_id] = min(moment, received.get(event_id, moment))
    plays = read.table(nano.settings, "marts.fct_play", tag=f"nightly_{nano.ds}", columns=["event_id", "known_at"])
    assert plays.num_rows > 1000
    early = [i for i, moment in zip(plays["event_id"].to_pylist(), plays["known_at"].to_pylist(), strict=True)
             if i in received and moment < received[i]]
    assert early == []
