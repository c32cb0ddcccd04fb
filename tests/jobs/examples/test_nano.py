"""The nano world's training rows, by the real commands, against the oracle."""

import pytest

from contracts.marts import tag_name
from jobs.distribution import load
from jobs.examples.population import profile_path
from jobs.lake import read

from .oracle import Oracle


@pytest.fixture(scope="module")
def night(nano):
    nano.reach("examples")
    return nano, Oracle(nano.settings, nano.ds)


def test_every_request_equals_the_oracle(night):
    nano, oracle = night
    found = {row["request_id"]: row for row in read.training(nano.settings, "requests", nano.ds).to_pylist()}
    assert found == oracle.requests()
    assert nano.done["examples"]["requests"] == {
        role: sum(row["role"] == role for row in found.values()) for role in ("ranker", "judge")}
    assert sum(row["profile_features_at"] is not None for row in found.values()) > len(found) / 2


def test_every_impression_equals_the_oracle(night):
    nano, oracle = night
    found = {(row["request_id"], row["title_id"]): row for row in read.training(nano.settings, "impressions", nano.ds).to_pylist()}
    assert found == oracle.impressions()
    assert len(found) > 1000


def test_nothing_of_the_judges_block_reaches_a_ranker_request(night):
    nano, oracle = night
    split = oracle.split
    ranker = read.training(nano.settings, "requests", nano.ds, role="ranker").to_pylist()
    assert all(split.retriever_end <= row["event_time"] < split.ranker_end for row in ranker)
    later = {
        (play["profile_id"], play["title_id"], play["slate_id"])
        for play in read.table(nano.settings, "marts.fct_play", tag=tag_name(nano.ds)).to_pylist()
        if play["event_time"] >= split.ranker_end
    }
    assert later
    assert not {(row["profile_id"], title, row["request_id"]) for row in ranker for title in row["relevant_titles"]} & later


def test_titles_are_as_old_in_training_as_in_serving(night):
    nano, oracle = night
    times = {row["request_id"]: row["event_time"] for row in read.training(nano.settings, "requests", nano.ds).to_pylist()}
    rows = read.training(nano.settings, "impressions", nano.ds).to_pylist()
    ages = [times[row["request_id"]] - row["title_features_at"] for row in rows if row["title_features_at"]]
    assert ages
    assert min(ages) >= oracle.split.counts_lag


def test_the_nights_distributions_are_kept_for_the_online_guard(night):
    nano, _ = night
    kept = load(profile_path(nano.settings, nano.ds))
    assert set(kept) == {"profile_daily", "profile_declared", "profile_history"}
    assert kept["profile_daily"].features["plays_7d"].filled > 0
    assert abs(sum(kept["profile_declared"].features["market"].shares) - 1) < 1e-9


def test_materialise_writes_every_profile_and_prints_it(night):
    nano, _ = night
    profiles = read.table(nano.settings, "marts.dim_profile_version", tag=tag_name(nano.ds), columns=["profile_id"])
    count = len(set(profiles["profile_id"].to_pylist()))
    result = nano.result("materialise", "--ds", nano.ds)
    assert result["written"] == {"profile_daily": count, "profile_declared": count, "profile_history": count}
