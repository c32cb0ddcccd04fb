"""Hydration: Feast's rows with their age, and the judge's folder as of a moment."""

import time
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast.errors import FeastObjectNotFoundException

from contracts.errors import UsageError
from contracts.marts import PROFILE_FEATURES
from contracts.settings import Settings
from serving.hydrate import NEWEST_PLAYS, PLAYS, PROFILES, FeastHydrator, FolderHydrator
from serving.member import Ask
from tests.serving.online_rows import write_online_rows
from tests.serving.tiny_world import NOW


def test_a_members_rows_come_together(feast):
    who = feast.hydrate(Ask("adult", NOW, market="de", token_limit=18))
    assert who.known
    assert (who.profile.market, who.profile.maturity_limit, who.profile.household_id) == ("de", 18, "h1")
    assert list(who.history.title_ids) == ["t003", "t005", "t008"]
    assert np.isnan(who.history.rating).all(), "unknown, as in training, rather than 0"
    assert who.watched == {"t003", "t005", "t008"}
    assert set(who.aggregates) == set(PROFILE_FEATURES)
    assert who.aggregates["top_genres_30d"] == ["drama", "crime"]
    assert who.aggregates["last_play_at"].tzinfo is not None


def test_rows_past_their_validity_are_cold(feast):
    assert feast.hydrate(Ask("kid", NOW, market="de")).aggregates == {}
    assert feast.hydrate(Ask("kid", NOW - timedelta(days=50), market="de")).aggregates
    who = feast.hydrate(Ask("kid", NOW, market="de", token_limit=18))
    assert who.profile.is_kids
    assert who.profile.maturity_limit == 7


def test_an_unknown_profile_is_cold(feast):
    who = feast.hydrate(Ask("stranger", NOW, market="fr", token_limit=12, vouched=True))
    assert not who.known
    assert (who.profile.market, who.profile.maturity_limit, who.watched, len(who.history)) == ("fr", 12, frozenset(), 0)


@pytest.mark.parametrize("profile", ["stranger", "nolimit"])
def test_a_households_limit_is_not_that_of_a_profile_that_declares_none(feast, profile):
    """A child's profile made today has no row yet; an empty store knows nobody."""
    assert feast.hydrate(Ask(profile, NOW, market="de", token_limit=18)).profile.maturity_limit == 0
    assert feast.hydrate(Ask(profile, NOW, market="de", token_limit=18, vouched=True)).profile.maturity_limit == 18
    assert feast.hydrate(Ask("adult", NOW, market="de", token_limit=16)).profile.maturity_limit == 16


def test_history_ends_at_the_request(feast):
    who = feast.hydrate(Ask("adult", NOW - timedelta(hours=8), market="de"))
    assert list(who.history.title_ids) == ["t003"]


@pytest.fixture
def folder(tmp_path):
    """Two rows of one profile, and 600 plays of which some became known late."""
    rng = np.random.default_rng(3)
    moments = [NOW - timedelta(hours=5), NOW]
    base = {"profile_id": "p1", "market": "de", "is_kids": False, "preferred_genres": ["drama"], "language": "en",
            "attributes": None, "device": "tv", "surface": "home", **dict.fromkeys(PROFILE_FEATURES)}
    rows = [base | {"request_id": f"r{i}", "event_time": at, "maturity_limit": (12, None)[i], "last_play_at": at}
            for i, at in enumerate(moments)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / PROFILES)
    times = [NOW - timedelta(seconds=int(s)) for s in rng.integers(-3000, 40_000, 600)]
    pq.write_table(pa.table({
        "profile_id": [("p1", "p2")[i % 2] for i in range(600)], "title_id": [f"t{i:03d}" for i in range(600)],
        "event_time": pa.array(times, pa.timestamp("us", "UTC")),
        "known_at": pa.array([t + timedelta(seconds=int(rng.choice([1, 20_000]))) for t in times], pa.timestamp("us", "UTC")),
        "completion": [None if i % 7 == 0 else 0.5 for i in range(600)], "rating": pa.array([None] * 600, pa.float64()),
        "engaged": [i % 3 == 0 for i in range(600)],
    }), tmp_path / PLAYS)
    return tmp_path


@pytest.mark.parametrize("ago", [0, 1, 3600, 4 * 3600, 6 * 3600, 50_000])
def test_the_folder_knows_what_was_known_then(folder, ago):
    moment = NOW - timedelta(seconds=ago)
    who = FolderHydrator(folder).hydrate(Ask("p1", moment))
    rows = [r for r in pq.read_table(folder / PLAYS).to_pylist() if r["profile_id"] == "p1"
            and r["event_time"] < moment and r["known_at"] < moment]
    rows.sort(key=lambda r: r["event_time"])
    assert sorted(who.history.title_ids) == sorted(r["title_id"] for r in rows[-NEWEST_PLAYS:])
    np.testing.assert_allclose(who.history.times, [r["event_time"].timestamp() for r in rows[-NEWEST_PLAYS:]])
    assert who.watched == {r["title_id"] for r in rows if r["engaged"]}
    assert who.known == (ago <= 5 * 3600)
    assert who.profile.maturity_limit == {True: 0, False: 12}[ago == 0] * who.known


def test_a_folder_without_member_state_is_bad_input(tmp_path):
    with pytest.raises(UsageError, match=PROFILES):
        FolderHydrator(tmp_path)


def test_a_store_slower_than_its_budget_is_not_waited_for(world):
    hydrator = FeastHydrator(world.settings, budget_seconds=0.05)
    hydrator._read = lambda profile_id: time.sleep(1)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        hydrator.hydrate(Ask("adult", NOW, market="de"))
    assert time.monotonic() - began < 0.9
    hydrator.close()


def test_the_store_may_come_later_than_serving(tmp_path):
    """A fresh home has no registered views; once the nightly run made them, no restart of serving is needed."""
    settings = Settings(_env_file=None, home=tmp_path)
    hydrator = FeastHydrator(settings, budget_seconds=5.0)
    hydrator.start()
    ask = Ask("adult", NOW, market="de", token_limit=18)
    try:
        deadline = time.monotonic() + 30
        while hydrator._store is None:  # two processes that make an empty registry at once get in each other's way
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(FeastObjectNotFoundException):
            hydrator.hydrate(ask)
        write_online_rows(settings)
        while True:
            try:
                who = hydrator.hydrate(ask)
                break
            except FeastObjectNotFoundException:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert who.known
    finally:
        hydrator.close()
