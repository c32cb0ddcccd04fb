"""What was known at a moment, against plain-Python oracles."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from contracts.marts import MART_COLUMNS, TITLE_FEATURES
from jobs.ranker.asof import EligibleAsOf, Plays, TitleFeaturesAsOf

from .ranker_world import schema

START = datetime(2026, 3, 1, tzinfo=UTC)
INDEX = {f"t{i}": i for i in range(12)}


def day(n: float) -> datetime:
    return START + timedelta(days=float(n))


def us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def mart(name: str, rows: list[dict]) -> pa.Table:
    columns = MART_COLUMNS[name]
    return pa.Table.from_pylist([{c: row.get(c) for c in columns} for row in rows], schema(columns))


def maybe(rng: np.random.Generator, value, share: float = 0.7):
    return value if rng.random() < share else None


def test_eligible_as_of_by_brute_force():
    rng = np.random.default_rng(5)
    versions, licences = [], []
    for title in [*list(INDEX)[:10], "elsewhere"]:
        change = day(rng.integers(3, 8))
        for since, until in ((day(0), change), (change, None)):
            versions.append({"title_id": title, "valid_from": since, "valid_to": until, "known_at": since,
                             "maturity": maybe(rng, int(rng.choice([0, 12, 18])), 0.8)})
        for window in range(2):
            known = day(rng.integers(0, 6))
            for since, until in ((known, day(7)), (day(7), None)):
                opens = day(rng.integers(0, 9))
                licences.append({"window_id": f"{title}{window}", "title_id": title, "market": str(rng.choice(["de", "fr"])),
                                 "opens_at": opens, "closes_at": maybe(rng, opens + timedelta(days=4)),
                                 "revoked": bool(rng.random() < 0.2), "known_at": since, "superseded_at": until})
    found = EligibleAsOf.from_marts(mart("dim_title_version", versions), mart("dim_licence_window", licences), INDEX)

    def oracle(title: str, market: str, limit: int, at: datetime) -> bool:
        held = [v for v in versions if v["title_id"] == title and v["valid_from"] <= at and (v["valid_to"] is None or at < v["valid_to"])]
        open_now = any(
            w["title_id"] == title and w["market"] == market and not w["revoked"] and w["known_at"] <= at
            and (w["superseded_at"] is None or at < w["superseded_at"]) and w["opens_at"] <= at
            and (w["closes_at"] is None or at < w["closes_at"]) for w in licences)
        return any(v["maturity"] is not None and v["maturity"] <= limit for v in held) and open_now

    looked = 0
    for at in (day(0.5), day(2), day(5), day(7), day(9), day(20)):
        for market in ("de", "fr", "nowhere"):
            for limit in (0, 12, 18):
                expected = [oracle(title, market, limit, at) for title in INDEX]
                assert found.mask(market, limit, us(at)).tolist() == expected
                looked += sum(expected)
    assert looked > 10


def test_title_counts_as_of_by_brute_force():
    rng = np.random.default_rng(6)
    rows = []
    for title in INDEX:
        for n in range(8):
            if title != "t11" and rng.random() < 0.7:
                rows.append({"title_id": title, "feature_time": day(n + 1), "known_at": day(n + 1 + rng.choice([0, 0, 0.5])),
                             **{name: maybe(rng, float(rng.integers(100)), 0.9) for name in TITLE_FEATURES}})
    rng.shuffle(rows)
    found = TitleFeaturesAsOf.from_marts(mart("feat_title_daily", rows), INDEX)
    for at in (day(0), day(1), day(3.25), day(3.5), day(30)):
        columns = found.at(np.array([3, 11, 0, 3]), us(at))
        for k, title in enumerate(("t3", "t11", "t0", "t3")):
            known = [r for r in rows if r["title_id"] == title and max(r["feature_time"], r["known_at"]) <= at]
            newest = max(known, key=lambda r: r["feature_time"], default={})
            for name in TITLE_FEATURES:
                expected = newest.get(name)
                np.testing.assert_equal(columns[name][k], np.nan if expected is None else expected)


def test_a_history_has_what_happened_and_was_known_before_and_nothing_else():
    rows = [
        {"profile_id": "p", "title_id": "late", "event_id": "1", "event_time": day(1), "known_at": day(6), "completion": 1.0, "engaged": True},
        {"profile_id": "p", "title_id": "b", "event_id": "3", "event_time": day(2), "known_at": day(2), "completion": None, "engaged": True},
        {"profile_id": "p", "title_id": "a", "event_id": "2", "event_time": day(2), "known_at": day(2), "completion": 0.1, "engaged": False},
        {"profile_id": "p", "title_id": "now", "event_id": "4", "event_time": day(5), "known_at": day(5), "completion": 1.0, "engaged": True},
        {"profile_id": "q", "title_id": "c", "event_id": "5", "event_time": day(1), "known_at": day(1), "completion": 1.0, "engaged": True},
    ]
    plays = Plays.from_marts(mart("fct_play", rows), ["p", "nobody"])
    history, watched = plays.before("p", us(day(5)))
    assert history.title_ids == ["a", "b"]  # ties by event id
    assert watched == {"b"}
    assert np.isnan(history.completion[1])
    assert len(plays.before("nobody", us(day(5)))[0]) == len(plays.before("q", us(day(5)))[0]) == 0
