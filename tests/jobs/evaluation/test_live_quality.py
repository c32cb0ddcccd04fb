"""Live quality with a real shadow server, Milvus Lite and ledger, over releases whose quality is known; skew against a
real online store."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from contracts import release as names
from contracts.errors import MarqueeError
from contracts.marts import PROFILE_FEATURES
from contracts.release import Provenance, RankerSpec, State
from jobs.evaluation import live_plot, live_quality, skew
from jobs.evaluation.config import JudgeConfig
from tests.jobs.evaluation.conftest import JudgeHome
from tests.jobs.ranker.ranker_world import DAY

GOOD, WORSE, TONIGHT = "2026-03-30-aaaaaaaaa1", "2026-03-30-bbbbbbbbb1", f"{DAY}-ccccccccc1"
CONFIG = JudgeConfig(max_requests=60, bootstrap_samples=100, client_threads=2)


def built_on(home: JudgeHome, release: str, day: date, **options) -> None:
    """A sealed release whose night was `day`."""
    folder = home.build(release, RankerSpec(kind="retrieval"), **options)
    found = Provenance.model_validate_json((folder / names.PROVENANCE).read_text())
    tag = found.tag.model_copy(update={"ds": str(day), "first": day, "last": day})
    (folder / names.PROVENANCE).write_text(found.model_copy(update={"day": str(day), "tag": tag}).model_dump_json())
    home.ledger.move(release, State.JUDGED, "test")


@pytest.fixture(scope="module")
def home(tmp_path_factory, milvus_port) -> JudgeHome:
    home = JudgeHome(tmp_path_factory.mktemp("live"), milvus_port)
    assert live_quality.run(home.settings, str(DAY), CONFIG) == {"ds": str(DAY), "arms": {}, "skipped": "no release is live yet"}
    built_on(home, GOOD, DAY - timedelta(days=1))
    home.go_live(GOOD)
    return home


@pytest.fixture(scope="module")
def measured(home) -> dict:
    return live_quality.run(home.settings, str(DAY), CONFIG)


def test_live_is_scored_on_the_day_as_the_judge_would(home, measured):
    figures = measured["arms"]["control"]
    assert (figures["release_id"], figures["trained_by"], figures["requests"], figures["failed"]) == (GOOD, GOOD, 60, 0)
    suits = {row["title_id"]: row["maturity"] <= 12 for row in home.world.titles}
    asked = {one.request_id for one in live_quality.requests.load(
        home.settings, str(DAY), f"nightly_{DAY}", datetime(2026, 4, 1, tzinfo=UTC), CONFIG)[0]}
    wanted = [[suits[t] for t in row["relevant_titles"]] for row in home.world.requests if row["request_id"] in asked]
    assert len(wanted) == 60
    assert figures["recall_at_200"] == pytest.approx(np.mean([np.mean(found) for found in wanted]), abs=0.02), "the pool holds the catalogue"
    low, high = figures["bounds"]["ndcg_at_10"]
    assert low < figures["ndcg_at_10"] < high
    assert figures["pool"]["min"] > 20
    assert 0.3 < figures["coverage_at_10"] <= 1
    assert (figures["age_days"], figures["models_age_days"], figures["unlearnt_share"]) == (1, 1, 0.0)
    assert figures["skew"] == {"note": "no night's rows are online"}


def test_a_night_is_written_once(home, measured):
    again = live_quality.run(home.settings, str(DAY), JudgeConfig(max_requests=5))
    assert again["arms"]["control"] == measured["arms"]["control"]
    assert len(home.ledger.live_quality(GOOD)) == 1
    assert live_quality.history(home.settings)[0]["ndcg_at_10"] == measured["arms"]["control"]["ndcg_at_10"]
    assert GOOD in live_quality.as_text(live_quality.history(home.settings))


def test_no_row_of_a_member_outlives_it(home, measured):
    assert [path for path in home.settings.work.rglob("*.parquet")] == []
    members = {row["profile_id"] for row in home.world.requests}
    text = json.dumps(home.ledger.live_quality(GOOD)[0].figures)
    assert not [member for member in members if member in text]


def test_the_plot_needs_nothing_from_outside(home, measured):
    svg = Path(measured["plot"]).read_text()
    assert "recall@200" in svg
    assert not re.findall(r"(?:href|src)=\"(?!#)[^\"]*\"|@import|DOCTYPE|<metadata", svg)
    assert not re.search(r"url\((?!#)", svg)
    assert (home.settings.home / "quality" / "live.png").stat().st_size > 10_000
    assert live_plot.write(home.settings, []) is None


def test_a_worse_release_scores_worse_and_one_of_that_night_is_not_scored(home, measured):
    built_on(home, WORSE, DAY - timedelta(days=1), shuffled=True)
    home.go_live(WORSE)
    worse = live_quality.run(home.settings, str(DAY), CONFIG)["arms"]["control"]
    assert worse["ndcg_at_10"] < 0.7 * measured["arms"]["control"]["ndcg_at_10"]
    built_on(home, TONIGHT, DAY)
    home.go_live(TONIGHT)
    found = live_quality.run(home.settings, str(DAY), CONFIG)
    assert found["skipped"] == f"control: {TONIGHT} was built on {DAY}, so {DAY} is not new to it"
    (home.settings.releases / TONIGHT / names.PROVENANCE).unlink()
    with pytest.raises(MarqueeError, match="restore it, or roll back"):
        live_quality.run(home.settings, str(DAY), CONFIG)


# --- skew -----------------------------------------------------------------------------------------------------------

STAMP = datetime(2026, 3, 31, tzinfo=UTC)
VALUES = {"top_genres_30d": ["drama", "crime"], "top_genre_shares_30d": [0.6, 0.4], "last_play_at": STAMP - timedelta(hours=3),
          "watch_hours_30d": 1.25, "completion_30d": 0.5}


def trained(profile: str, stamp: datetime | None = STAMP, **other) -> dict:
    declared = {"market": "de", "is_kids": False, "maturity_limit": 18, "preferred_genres": [], "language": "de", "attributes": []}
    row = {name: VALUES.get(name, 3) if stamp else None for name in PROFILE_FEATURES}
    return {"profile_id": profile, "event_time": STAMP + timedelta(hours=5), "profile_features_at": stamp, **declared, **row, **other}


@pytest.fixture(scope="module")
def online(tmp_path_factory, home):
    """The profiles' rows as the materialise job writes them, in a real store of its own home."""
    from feature_repo.store import apply, open_store

    settings = home.settings.model_copy(update={"home": tmp_path_factory.mktemp("online")})
    store = open_store(settings, offline=False)
    apply(store, always=True)
    profiles = ["same", "other", "late"]
    stamps = {"same": STAMP, "other": STAMP, "late": STAMP - timedelta(days=1)}
    rows = [{"profile_id": p, "profile_features_at": pd.Timestamp(stamps[p]), "feature_time": pd.Timestamp(stamps[p]),
             "known_at": pd.Timestamp(stamps[p]), **{n: VALUES.get(n, 3) for n in PROFILE_FEATURES}} for p in profiles]
    store.write_to_online_store("profile_daily", pd.DataFrame(rows))
    declared = [{"profile_id": p, "household_id": "h", "market": "de", "is_kids": False, "maturity_limit": 18, "preferred_genres": [],
                 "language": "de", "attributes": [], "declared_at": pd.Timestamp(STAMP), "valid_from": pd.Timestamp(STAMP),
                 "known_at": pd.Timestamp(STAMP)} for p in [*profiles, "bare", "cold"]]
    store.write_to_online_store("profile_declared", pd.DataFrame(declared))
    (settings.home / "feast" / "materialised.json").write_text(json.dumps({"ds": "2026-03-30"}))
    return settings


def test_skew_is_told_from_staleness(online):
    rows = [trained("same"), trained("other", plays_7d=4, completion_30d=0.25), trained("late"), trained("bare"), trained("cold", None)]
    found = skew.compare(online, str(DAY), pa.Table.from_pylist(rows))
    assert found == {"profiles": 5, "same_snapshot": 2, "skewed": 1, "stale": 1, "missing": 1, "declared_stale": 0, "skewed_share": 0.5,
                     "by_feature": {"completion_30d": 1, "plays_7d": 1}, "online_night": "2026-03-30"}


def test_a_newer_declaration_is_stale(online):
    found = skew.compare(online, str(DAY), pa.Table.from_pylist([trained("same", maturity_limit=7)]))
    assert (found["declared_stale"], found["skewed"], found["same_snapshot"]) == (1, 0, 1)


def test_rows_that_have_seen_the_day_are_not_compared(online):
    assert "is gone" in skew.compare(online, "2026-03-30", pa.Table.from_pylist([trained("same")]))["note"]
