"""Nothing unjudged goes online: written after the comparison, or yesterday's rows stay."""

import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from contracts.errors import MarqueeError
from contracts.query import Context, History, Profile, query_inputs
from contracts.release import State
from contracts.settings import Settings
from feature_repo.feature_services import ONLINE_REFERENCES
from feature_repo.feature_views import profile_history
from feature_repo.store import apply, open_store
from jobs import distribution
from jobs.examples import online
from jobs.examples.population import newest, online_rows, profile_path
from jobs.lake import read
from ledger import open_ledger
from serving.hydrate import FeastHydrator
from serving.member import Ask

from .small_lake import DAY, DS, HOUR


def on_line(settings, *profiles) -> dict[str, dict]:
    asked = [{"profile_id": profile_id} for profile_id in profiles]
    columns = open_store(settings, offline=False).get_online_features(features=ONLINE_REFERENCES, entity_rows=asked).to_dict()
    return {profile_id: {name: values[i] for name, values in columns.items()} for i, profile_id in enumerate(profiles)}


@pytest.fixture
def fresh(trained):
    """The lake's home as after `examples`: nothing online, nothing live."""
    lake, _ = trained
    home = lake.settings.home
    for path in [home / "feast" / "materialised.json", *home.glob("feast/online.db*"), *home.glob("ledger.db*")]:
        path.unlink(missing_ok=True)
    return lake.settings


def make_live(settings, release_id="2026-03-10-aaaaaaaaaa") -> str:
    ledger = open_ledger(settings)
    ledger.begin(release_id, DS, "test")
    for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
        ledger.move(release_id, state, "test")
    pointer = ledger.propose(release_id, 0)
    pointer = ledger.switch(pointer.version, datetime.now(UTC) + timedelta(minutes=5))
    ledger.confirm(pointer.version)
    return release_id


def test_the_first_night_is_written_with_a_note(fresh):
    result = online.run(fresh, DS)
    rows = online_rows(fresh, read.tag_record(fresh, DS))
    assert result["written"] == {name: table.num_rows for name, table in rows.items()}
    assert result["note"] == "no live release to compare with"
    expected = {row["profile_id"]: row for row in rows["profile_daily"].to_pylist()}
    found = on_line(fresh, "p1", "p0", "nobody")
    assert found["p1"]["plays_7d"] == expected["p1"]["plays_7d"] is not None
    assert found["p1"]["profile_features_at"] == expected["p1"]["profile_features_at"]
    assert found["p0"]["plays_7d"] is None, "aged out"
    assert found["p0"]["market"] in ("DE", "US"), "declared facts do not age"
    assert found["p1"]["history_title_ids"] == ["t1", "t2"]
    assert math.isnan(found["p1"]["history_completion"][1])
    assert found["nobody"]["market"] is None


def test_a_rerun_writes_the_same(fresh):
    first = online.run(fresh, DS), repr(on_line(fresh, "p1", "p2"))
    assert (online.run(fresh, DS), repr(on_line(fresh, "p1", "p2"))) == first


def test_a_night_like_the_live_releases_is_written(fresh):
    release_id = make_live(fresh)
    assert online.run(fresh, DS)["compared_with"] == release_id


def test_a_night_unlike_the_live_releases_keeps_yesterdays_rows(fresh, monkeypatch):
    online.run(fresh, DS)
    before = repr(on_line(fresh, "p1", "p2"))  # as text: NaN equals nothing
    make_live(fresh)
    real = online.online_rows

    def broken(settings, record):
        rows = real(settings, record)
        names = rows["profile_daily"].column_names
        gone = pa.nulls(rows["profile_daily"].num_rows, pa.int32())
        return rows | {"profile_daily": rows["profile_daily"].set_column(names.index("plays_7d"), "plays_7d", gone)}

    monkeypatch.setattr(online, "online_rows", broken)
    with pytest.raises(MarqueeError, match=r"kept as they were: .*profile_daily\.plays_7d: filled share 0, was"):
        online.run(fresh, DS)
    assert repr(on_line(fresh, "p1", "p2")) == before


def test_a_live_release_without_distributions_keeps_the_rows(fresh):
    make_live(fresh)
    path = profile_path(fresh, DS)
    kept = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(MarqueeError, match="run `marquee examples --ds 2026-03-10`"):
            online.run(fresh, DS)
    finally:
        path.write_bytes(kept)
    assert not (fresh.home / "feast" / "materialised.json").exists()


def test_an_older_night_is_left_alone(fresh):
    online.run(fresh, DS)
    assert online.run(fresh, "2026-03-09") == {
        "ds": "2026-03-09", "written": {}, "note": "night 2026-03-10 is online already; an older night is not written"}


def test_killed_between_views_the_night_is_not_marked_and_a_rerun_completes_it(fresh, monkeypatch):
    real, calls = online._write, []

    def killed(store, view, table):
        calls.append(view)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(store, view, table)

    monkeypatch.setattr(online, "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        online.run(fresh, DS)
    assert not (fresh.home / "feast" / "materialised.json").exists()
    monkeypatch.setattr(online, "_write", real)
    assert set(online.run(fresh, DS)["written"]) == {"profile_daily", "profile_declared", "profile_history"}
    assert json.loads((fresh.home / "feast" / "materialised.json").read_text()) == {"ds": DS}


def test_newest_row_by_hand():
    rows = pa.table({
        "profile_id": ["a", "a", "a", "b", "c"],
        "feature_time": [DAY - 48 * HOUR, DAY - 24 * HOUR, DAY - 24 * HOUR, DAY - timedelta(days=33), DAY - HOUR],
        "known_at": [DAY - 48 * HOUR, DAY - 24 * HOUR, DAY - 2 * HOUR, DAY - timedelta(days=33), DAY + HOUR],
        "history_title_ids": [["x"], ["x"], ["x", "y"], ["x"], ["x"]],
        "history_times": [[1.0], [1.0], [1.0, 2.0], [1.0], [1.0]],
        "history_completion": [[1.0], [1.0], [1.0, None], [1.0], [1.0]],
        "history_rating": [[None], [1.0], [1.0, None], [1.0], [1.0]],
        "watched_title_ids": [["x"], ["x"], ["x"], ["x"], ["x"]],
    })
    found = {row["profile_id"]: row for row in newest(rows, rows.select(["profile_id"]), profile_history, DAY).to_pylist()}
    assert [found[key]["history_title_ids"] for key in "abc"] == [["x", "y"], ["x"], None], "c was not known yet"
    assert math.isnan(found["a"]["history_completion"][1]), "Feast's lists hold no nulls"
    assert found["c"]["feature_time"] == DAY
    assert found["c"]["history_at"] is None


@pytest.mark.parametrize("ratings", [
    [[None, None], [None]], [[None, 4.0], [None]], [[1.0, None], [5.0]], [[None, None], []],
], ids=["none known", "one known", "two known", "no play"])
def test_the_tower_reads_of_the_online_store_what_it_reads_of_the_lake(tmp_path, ratings):
    """Unknown ratings and completions are unknown on both sides of the real store, whatever else is in their chunk."""
    settings = Settings(_env_file=None, home=tmp_path)
    lists = pa.list_(pa.float64())
    plays = [len(row) for row in ratings]
    mart = pa.table({
        "profile_id": ["p0", "p1"], "feature_time": [DAY, DAY], "known_at": [DAY, DAY],
        "history_title_ids": [[f"t{i}" for i in range(n)] for n in plays],
        "history_times": pa.array([[1000.0 * i for i in range(n)] for n in plays], lists),
        "history_completion": pa.array([[None] * n for n in plays], lists), "history_rating": pa.array(ratings, lists),
        "watched_title_ids": [["t0"], ["t0"]],
    })
    store = open_store(settings, offline=False)
    apply(store, always=True)
    online._write(store, "profile_history", newest(mart, mart.select(["profile_id"]), profile_history, DAY))
    hydrator = FeastHydrator(settings, budget_seconds=10)
    hydrator.refresh()
    try:
        for row in mart.to_pylist():
            served = hydrator.hydrate(Ask(row["profile_id"], DAY)).history
            unknown = {name: [math.nan if value is None else value for value in row[name]] for name in ("history_completion", "history_rating")}
            lake = History(row["history_title_ids"], row["history_times"], unknown["history_completion"], unknown["history_rating"])
            assert list(served.title_ids) == list(lake.title_ids)
            for name, expected in tower_reads(lake).items():
                np.testing.assert_array_equal(tower_reads(served)[name], expected, err_msg=name)
    finally:
        hydrator.close()


def tower_reads(history: History) -> dict[str, np.ndarray]:
    return query_inputs(history, np.ones((len(history), 4), np.float32), Profile("p", "DE"), Context(DAY), 8)


def test_limits_come_from_the_caller(fresh):
    make_live(fresh)
    with pytest.raises(MarqueeError, match="rows"):
        online.run(fresh, DS, distribution.Limits(least_rows=1.1))
