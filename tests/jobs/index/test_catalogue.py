"""Which titles, versions and windows a release knows, and its fallback orders."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from contracts.eligibility import FAR, field_names
from contracts.marts import TITLE_FEATURES
from jobs.index.catalogue import TITLES_SCHEMA, current_windows, eligibility, join_profiles, title_table, with_windows
from jobs.index.collection import collection_rows
from jobs.index.fallback import GENERAL, KIDS, Popularity, fallback_rows

NIGHT = datetime(2026, 3, 31, tzinfo=UTC)
STAMP = pa.timestamp("us", "UTC")


def version(title: str, days: int, **facts) -> dict:
    moment = NIGHT + timedelta(days=days)
    return {"title_id": title, "known_at": moment, "valid_from": moment, "name": title, "synopsis": None, "genres": None,
            "credits": None, "language": None, "kind": None, "series_id": None, "year": None, "runtime_minutes": None,
            "maturity": None, "launched_at": None} | facts


def windows(rows: list[tuple]) -> pa.Table:
    names = ("window_id", "title_id", "market", "opens_at", "closes_at", "revoked", "known_at", "superseded_at")
    types = (pa.string(),) * 3 + (STAMP, STAMP, pa.bool_(), STAMP, STAMP)
    return pa.Table.from_pylist([dict(zip(names, row)) for row in rows], pa.schema(list(zip(names, types))))


def test_title_rows_have_id_index_and_newest_counts():
    titles = [version("a", -2), version("b", -2), version("c", -1)]
    counts = pa.Table.from_pylist([
        {"title_id": "b", "snapshot_day": NIGHT.date() - timedelta(days=back)} | dict.fromkeys(TITLE_FEATURES, value)
        for back, value in ((1, 5), (2, 9))
    ])
    table = title_table(titles, ["b", "c"], counts)
    assert table.schema.equals(TITLES_SCHEMA)
    assert table["id_index"].to_pylist() == [0, 1, 2]
    assert table["plays_30d"].to_pylist() == [None, 5, None]


def test_titles_say_which_windows_were_indexed():
    day, at = timedelta(days=1), int(NIGHT.timestamp())
    rows = windows([("w1", "a", "AA", NIGHT - 9 * day, NIGHT + day, False, NIGHT - day, None),
                    ("w2", "a", "AA", NIGHT + 2 * day, None, False, NIGHT - day, None),
                    ("w3", "a", "BB", NIGHT - 9 * day, NIGHT - day, False, NIGHT - day, None),
                    ("w4", "b", "BB", NIGHT + day, None, False, NIGHT - day, None)])
    titles = [version("a", -2), version("b", -1)]
    state = eligibility(titles, rows)
    table = with_windows(title_table(titles, [], pa.Table.from_pylist([], pa.schema([("title_id", pa.string()), ("snapshot_day", pa.date32())]))),
                         state, at)
    assert table["windows"].to_pylist() == [
        [{"market": "AA", "opens_at": at - 9 * 86400, "closes_at": at + 86400}],
        [{"market": "BB", "opens_at": at + 86400, "closes_at": FAR}]]
    indexed = collection_rows(["a", "b"], np.eye(2, dtype=np.float32), state, at).scalars
    for title, row in zip(table["windows"].to_pylist(), range(2)):
        for window in title:
            fields = field_names(window["market"])
            assert tuple(indexed[field][row] for field in fields) == (window["opens_at"], window["closes_at"])


def test_superseded_and_revoked_windows_are_gone():
    day = timedelta(days=1)
    rows = windows([
        ("w1", "a", "AA", NIGHT - 9 * day, NIGHT + 9 * day, False, NIGHT - 9 * day, NIGHT - day),  # replaced yesterday …
        ("w1", "a", "AA", NIGHT - 9 * day, NIGHT - 2 * day, False, NIGHT - day, None),  # … by one that has closed
        ("w2", "a", "BB", NIGHT, None, False, NIGHT - day, NIGHT + day),  # replaced after the night
        ("w3", "b", "AA", NIGHT, None, True, NIGHT - day, None),
        ("w4", "b", "BB", NIGHT + day, None, None, NIGHT - day, None),
    ])
    at = int(NIGHT.timestamp())
    state = eligibility([{"title_id": "a", "maturity": 7}, {"title_id": "b", "maturity": None}], current_windows(rows, NIGHT))
    assert state.window("a", "AA", at) is None
    assert state.window("a", "BB", at) == (at, FAR)
    assert state.window("b", "AA", at) is None
    assert state.window("b", "BB", at) == (at + 86400, FAR)
    assert state.why_not("b", "BB", 18, at + 86400) == "unknown_maturity"


def test_plays_get_the_newest_known_market_and_only_engaged_ones_count():
    plays = pa.table({"event_id": ["1", "2", "3"], "profile_id": ["q", "p", "p"], "title_id": ["a", "b", "c"],
                      "event_time": pa.array([NIGHT] * 3, STAMP), "engaged": [True, True, False]})
    profiles = pa.table({"profile_id": ["p", "p"], "market": ["BB", "AA"], "is_kids": [True, False],
                         "known_at": pa.array([NIGHT, NIGHT - timedelta(days=1)], STAMP)})
    joined = join_profiles(plays, profiles).select(["profile_id", "title_id", "market", "is_kids"]).to_pylist()
    assert [tuple(row.values()) for row in joined] == [("p", "b", "BB", True), ("q", "a", None, None)]


def test_fallback_orders_hold_every_licensed_title():
    """Titles 0-4: 0 played much elsewhere, 1 played here, 2 for kids, 3 new and unseen, 4 unlicensed here."""
    popularity = Popularity(np.array([1] * 9 + [0, 0, 0]), np.array([0] * 9 + [1, 1, 4]), np.zeros(12, bool), np.ones(12))
    licensed = {"AA": np.array([0, 1, 2, 3]), "BB": np.array([0])}
    orders = {
        (market, cohort): (rows.tolist(), score.tolist())
        for market, cohort, rows, score in fallback_rows(
            popularity, ["AA", "BB"], licensed, np.array([1.0, 1.0, 1.0, 9.0, 1.0]), np.array([18, 13, 0, 7, np.nan]), 7, 0.1)
    }
    assert list(orders) == [("AA", GENERAL), ("AA", KIDS), ("BB", GENERAL), ("BB", KIDS)]
    assert orders["AA", GENERAL][0] == [1, 0, 3, 2]
    assert orders["AA", KIDS][0] == [3, 2]
    assert orders["BB", KIDS][0] == []
    assert orders["AA", GENERAL][1][2:] == [0.0, 0.0]
