"""Point in time, proven: every row equals the oracle's, canaries never show, and the tests would see it if they did."""

import random
from datetime import timedelta
from functools import partial

import pytest

from contracts.errors import MarqueeError, UsageError
from contracts.marts import TRAINING_COLUMNS
from feature_repo.feature_views import profile_daily, title_daily
from feature_repo.store import open_store
from jobs.examples import retrieval, training
from jobs.lake import read
from jobs.lake.session import spark_session

from . import canaries
from .oracle import Oracle
from .small_lake import CANARY, DAY, DS, HOUR, MICRO


def rows_by(table, *key):
    rows = table.to_pylist()
    found = {tuple(row[name] for name in key) if len(key) > 1 else row[key[0]]: row for row in rows}
    assert len(found) == len(rows), f"{key} is not unique"
    return found


def test_every_request_equals_the_oracle(trained):
    lake, result = trained
    expected = Oracle(lake.settings, DS).requests()
    found = rows_by(read.training(lake.settings, "requests", DS), "request_id")
    assert found == expected
    assert {row["role"] for row in found.values()} == {"ranker", "judge"}
    assert sum(result["requests"].values()) == len(expected) > 60


def test_every_impression_equals_the_oracle(trained):
    lake, _ = trained
    expected = Oracle(lake.settings, DS).impressions()
    found = rows_by(read.training(lake.settings, "impressions", DS), "request_id", "title_id")
    assert found == expected
    assert len(expected) > 100


def test_the_lake_has_the_cases_that_matter(trained):
    lake, _ = trained
    rows = read.training(lake.settings, "requests", DS).to_pylist()
    assert any(row["profile_features_at"] is None for row in rows), "no aged-out profile"
    assert any(not row["relevant_titles"] for row in rows), "no slate without engagement"
    assert any(row["known_at"] > row["feature_time"] for row in lake.rows["feat_profile_daily"]), "no late snapshot"


def test_columns_and_order_are_the_contracts(trained):
    lake, _ = trained
    for name, columns in TRAINING_COLUMNS.items():
        schema = spark_session(lake.settings).table(f"training.{name}").schema
        assert {field.name: field.dataType.simpleString() for field in schema} == columns


def test_canaries_never_show(trained):
    lake, _ = trained
    requests = read.training(lake.settings, "requests", DS).to_pylist()
    impressions = read.training(lake.settings, "impressions", DS).to_pylist()
    assert canaries.seen(requests, impressions) == (set(), set())
    asked = {row["profile_id"] for row in requests}
    assert {f"canary-{role}-{name}" for role in ("ranker", "judge") for name in canaries.PROFILE_CANARIES} <= asked
    assert {f"t-title-{name}" for name in canaries.TITLE_CANARIES} <= {row["title_id"] for row in impressions}


def test_a_row_known_an_instant_before_the_label_does_show(trained):
    lake, _ = trained
    requests = read.training(lake.settings, "requests", DS).to_pylist()
    controls = [row for row in requests if row["profile_id"].startswith("canary-") and row["profile_id"].endswith("-control")]
    assert [(row["plays_7d"], row["maturity_limit"]) for row in controls] == [(canaries.LAST_MOMENT,) * 2] * 2
    impressions = read.training(lake.settings, "impressions", DS).to_pylist()
    assert [row["plays_1d"] for row in impressions if row["title_id"] == "t-title-control"] == [canaries.LAST_MOMENT]


def test_without_the_condition_on_known_time_the_canaries_show(trained, monkeypatch):
    lake, _ = trained
    monkeypatch.setattr(training, "with_features", partial(retrieval.with_features, as_known=False))
    marts = retrieval.bind(spark_session(lake.settings), f"nightly_{DS}", training.MARTS_READ)
    rows = training.training_rows(open_store(lake.settings, offline=True), marts, read.tag_record(lake.settings, DS))
    found = {name: [row.asDict() for row in frame.collect()] for name, frame in rows.items()}
    assert canaries.seen(found["requests"], found["impressions"]) == (
        canaries.LEAKS_UNLESS_KNOWN, canaries.TITLE_LEAKS_UNLESS_KNOWN)


def test_a_rerun_changes_nothing(trained):
    lake, first = trained
    tags = lake.settings.lake / "tags"
    before = {path.name: path.read_bytes() for path in tags.iterdir()}
    assert training.run(lake.settings, DS) == first
    assert {path.name: path.read_bytes() for path in tags.iterdir()} == before


def test_a_source_without_slates_asks_at_plays(trained):
    lake, _ = trained
    path = lake.settings.lake / "tags" / f"nightly_{DS}.json"
    kept = path.read_text()
    record = read.tag_record(lake.settings, DS).model_copy(update={"has_impressions": False})
    path.write_text(record.model_dump_json())
    try:
        expected = Oracle(lake.settings, DS).requests()
    finally:
        path.write_text(kept)
    marts = retrieval.bind(spark_session(lake.settings), f"nightly_{DS}", training.MARTS_READ)
    rows = training.training_rows(open_store(lake.settings, offline=True), marts, record)
    found = {row["request_id"]: row["relevant_titles"] for row in rows["requests"].collect()}
    assert found == {key: row["relevant_titles"] for key, row in expected.items()}
    assert rows["impressions"].count() == 0
    assert any(key.startswith("play:") for key in found)


def test_one_retrieval_over_a_grid_of_times_equals_the_definition(trained):
    """400 keys, each with a few snapshots on a coarse grid of event and known times, so that equal times are common."""
    lake, _ = trained
    rng, spark = random.Random(11), spark_session(lake.settings)
    store, lag = open_store(lake.settings, offline=True), timedelta(hours=6)
    moments = [DAY + step * HOUR for step in range(-8, 3)] + [DAY - 6 * HOUR - MICRO, DAY - timedelta(days=32, hours=6), DAY - timedelta(days=33)]
    snapshots, asked = [], []
    for number in range(400):
        key = f"k{number}"
        asked.append((key, DAY))
        for value, moment in enumerate(rng.sample(moments, rng.randrange(0, 5))):
            snapshots.append((key, moment, moment + rng.choice([0, 0, 1, 3]) * HOUR, value))
    columns = retrieval.bind(spark, f"nightly_{DS}", ["feat_title_daily"])["feat_title_daily"]
    planted = spark.createDataFrame(snapshots, "title_id string, feature_time timestamp, known_at timestamp, plays_1d int")
    columns.limit(0).unionByName(planted, allowMissingColumns=True).createOrReplaceTempView("at_tag_feat_title_daily")
    frame = spark.createDataFrame(asked, "title_id string, event_time timestamp")
    found = {row["title_id"]: row["plays_1d"] for row in retrieval.with_features(store, frame, [title_daily], lag).collect()}
    latest = DAY - lag
    expected = {key: None for key, _ in asked}
    for key, moment, known, value in sorted(snapshots, key=lambda row: row[1]):
        if latest - timedelta(days=32) <= moment <= latest and known <= latest:
            expected[key] = value
    assert found == expected
    assert len(set(expected.values())) > 3


def test_equal_times_of_one_key_are_refused(trained):
    lake, _ = trained
    spark = spark_session(lake.settings)
    bound = retrieval.bind(spark, f"nightly_{DS}", ["feat_profile_daily"])["feat_profile_daily"]
    bound.unionByName(bound).createOrReplaceTempView("at_tag_feat_profile_daily")
    frame = spark.createDataFrame([("p1", DAY)], "profile_id string, event_time timestamp")
    with pytest.raises(MarqueeError, match="1 rows in, 2 out"):
        retrieval.with_features(open_store(lake.settings, offline=True), frame, [profile_daily], MICRO)


def test_features_as_old_as_the_label_are_refused(trained):
    lake, _ = trained
    with pytest.raises(ValueError, match="older than the label"):
        retrieval.with_features(open_store(lake.settings, offline=True), None, [profile_daily], timedelta(0))


def test_a_night_that_is_not_there(lake):
    with pytest.raises(UsageError, match="marquee warehouse --ds 2026-01-01"):
        training.run(lake.settings, "2026-01-01")


def test_an_empty_block_says_which(lake):
    early = read.tag_record(lake.settings, DS).model_copy(update={"first": (DAY + timedelta(days=20)).date(), "last": (DAY + timedelta(days=20)).date()})
    marts = retrieval.bind(spark_session(lake.settings), f"nightly_{DS}", training.MARTS_READ)
    with pytest.raises(MarqueeError, match="no ranker request: nobody engaged with a new title from 2026-03-29"):
        training.training_rows(open_store(lake.settings, offline=True), marts, early)


def test_planted_counts_stand_out(lake):
    assert max(row["plays_7d"] or 0 for row in lake.rows["feat_profile_daily"] if row["plays_7d"] != CANARY) < CANARY / 100
