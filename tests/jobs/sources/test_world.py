"""The simulated service: deterministic, honest about its defects and propensities, learnable."""

import json
import os
import shutil
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow.compute as pc
import pytest

from contracts import clock
from contracts.eligibility import FAR, Eligibility, Record
from contracts.errors import UsageError
from contracts.landing import TABLES, Interval, content_sha256, list_intervals, read_marker, table_files
from jobs.sources import world
from jobs.sources.world import behaviour, slates, truth
from jobs.sources.world.behaviour import Memory
from jobs.sources.world.catalogue import UNKNOWN
from jobs.sources.world.recipes import world_recipe
from jobs.sources.world.slates import EMPTY

from .conftest import Landed, settings_for

NANO = world_recipe("nano")
HISTORY, NIGHT = "2026-03-01..2026-03-08", "2026-03-09"


@pytest.fixture(scope="module")
def nano_model() -> world.World:
    return world.build(NANO, 7)


def digests(landed: Landed) -> dict[str, str]:
    return {folder.name: content_sha256(folder) for _, folder in list_intervals(landed.settings.landing)}


# --- what lands ---------------------------------------------------------------------------------------------------

def test_history_and_the_next_day_have_landed(nano_world):
    assert nano_world.result["ds"] == NIGHT
    assert nano_world.result["intervals"] == [HISTORY, NIGHT]
    assert [i.name for i, _ in list_intervals(nano_world.settings.landing)] == [HISTORY, NIGHT]
    for _, folder in list_intervals(nano_world.settings.landing):
        marker = read_marker(folder)
        assert marker["content_sha256"] == content_sha256(folder)
        assert marker["tables"]["plays"] > 100
    days = sorted(p.name for p in (nano_world.settings.landing / HISTORY / "plays").iterdir())
    assert days == [f"event_day=2026-03-0{n}" for n in range(1, 9)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(nano_world, tmp_path):
    same = Landed(settings_for(tmp_path / "same"), {})
    assert world.land(same.settings, "nano", 7) == nano_world.result
    assert digests(same) == digests(nano_world)
    for name in ("titles.npz", "profiles.npz", "planted.json"):
        assert (same.home / truth.FOLDER / name).read_bytes() == (nano_world.home / truth.FOLDER / name).read_bytes()
    other = world.build(NANO, 8)
    assert list(other.catalogue.names[:20]) != list(world.build(NANO, 7).catalogue.names[:20])


def test_landing_again_changes_nothing(nano_world):
    before = {p: p.stat().st_mtime_ns for p in nano_world.settings.landing.rglob("*")}
    moment = (nano_world.home / clock.CLOCK_FILE).read_text()
    assert world.land(nano_world.settings) == nano_world.result
    assert {p: p.stat().st_mtime_ns for p in nano_world.settings.landing.rglob("*")} == before
    assert (nano_world.home / clock.CLOCK_FILE).read_text() == moment


def test_a_crash_between_history_and_night_is_made_good(nano_world, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(nano_world.home, home)
    shutil.rmtree(home / "landing" / NIGHT)
    shutil.rmtree(home / "world")
    again = Landed(settings_for(home), {})
    assert world.land(again.settings, "nano", 7) == nano_world.result
    assert digests(again) == digests(nano_world)


def test_the_clock_stands_on_the_morning_after(nano_world):
    moment = clock.now(nano_world.home)
    assert timedelta(0) <= moment - datetime(2026, 3, 10, 6, tzinfo=UTC) < timedelta(hours=2)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"recipe": "demo"}, "its world has --recipe nano, not demo"), ({"seed": 8}, "its world has --seed 7, not 8"),
])
def test_a_home_has_one_world(nano_world, arguments, message):
    with pytest.raises(UsageError, match=message):
        world.land(nano_world.settings, **arguments)


def test_wrong_use_is_said(tmp_path):
    with pytest.raises(UsageError, match="no such world; there are nano, demo, large"):
        world.land(settings_for(tmp_path), "huge")
    with pytest.raises(UsageError, match="no history to go on from"):
        world.land(settings_for(tmp_path), "nano", 7, next_day=True)
    assert list(tmp_path.iterdir()) == []


def test_every_record_is_received_within_its_interval_and_after_it_happened(nano_world):
    for interval, folder in list_intervals(nano_world.settings.landing):
        start = datetime.combine(interval.first, datetime.min.time(), UTC)
        end = datetime.combine(interval.last + timedelta(days=1), datetime.min.time(), UTC)
        for table in TABLES:
            if any(f.suffix == ".parquet" for f in table_files(folder, table)):
                rows = nano_world.rows(table, interval.name)
                received = rows["received_at"]
                assert pc.min(received).as_py() >= start, table
                assert pc.max(received).as_py() < end, table
                assert pc.all(pc.less_equal(rows["event_time"], received)).as_py(), table


def test_yesterdays_late_records_land_today(nano_world):
    plays = nano_world.rows("plays", NIGHT)
    late = pc.sum(pc.less(plays["event_time"], datetime(2026, 3, 9, tzinfo=UTC))).as_py()
    assert 0 < late < 0.2 * plays.num_rows


# --- planted defects ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("interval", [HISTORY, NIGHT])
def test_planted_counts_are_what_landed(nano_world, interval):
    planted = truth.planted(nano_world.home, interval)
    marker = read_marker(nano_world.settings.landing / interval)
    for table in ("impressions", "plays", "skips", "ratings"):
        counts = planted[table]
        malformed = sum(counts["malformed"].values())
        assert counts["clean"] + counts["duplicates"] + malformed == marker["tables"][table]
        rows = nano_world.rows(table, interval)
        assert rows.num_rows - len(pc.unique(rows["event_id"])) == counts["duplicates"]
        lines = [line for f in table_files(nano_world.settings.landing / interval, table) if f.suffix == ".jsonl"
                 for line in f.read_text().splitlines()]
        assert len(lines) == malformed


def test_defects_come_at_the_recipes_rates(nano_world):
    counts = truth.planted(nano_world.home, HISTORY)["impressions"]
    assert counts["duplicates"] / counts["clean"] == pytest.approx(NANO.duplicated, rel=0.3)
    assert sum(counts["malformed"].values()) / counts["clean"] == pytest.approx(NANO.malformed, rel=0.3)
    # slates are late as a whole, so there are fewer draws; what is received after the history is not counted here
    assert counts["late"] / counts["clean"] == pytest.approx(NANO.late, rel=0.6)
    assert set(counts["malformed"]) == {"missing profile", "position as text", "position zero", "unknown title"}


def test_a_repeated_record_differs_in_its_receipt_only(nano_world):
    rows = nano_world.rows("plays", HISTORY).to_pandas()
    repeated = rows[rows.duplicated("event_id", keep=False)]
    assert len(repeated) >= 4
    for _, pair in repeated.groupby("event_id"):
        assert len(pair) == 2
        assert len(pair.drop(columns=["received_at"]).astype(str).drop_duplicates()) == 1
        assert pair["received_at"].dt.date.nunique() == 1


# --- slates -------------------------------------------------------------------------------------------------------

def test_exploration_is_as_frequent_and_as_uniform_as_its_propensity_says(nano_world):
    rows = nano_world.rows("impressions").to_pandas().drop_duplicates("event_id")
    assert rows.explored.mean() == pytest.approx(NANO.exploration, rel=0.05)
    assert np.allclose(rows[~rows.explored].propensity, 1 - NANO.exploration)
    explored = rows[rows.explored]
    # 1/propensity estimates what showing every title everywhere would give: the unexplored titles, slot by slot
    slots = rows.groupby("slate_id").size()
    others = (NANO.exploration / explored.groupby("slate_id").propensity.first()).reindex(slots.index)
    expected = (slots * others)[others.notna()].sum() / others.notna().mean()
    assert (1 / explored.propensity).sum() == pytest.approx(expected, rel=0.15)


def test_exploration_draws_every_title_equally():
    rng = np.random.default_rng(0)
    titles = 60
    audience = slates.Audience(np.arange(titles), np.ones(titles, bool), np.linspace(0, 3, titles), np.ones((titles, 4), np.float32))
    ranked = np.tile(np.arange(20), (40_000, 1))
    slate = slates.explore(rng, audience, ranked, 0.1)
    assert not slates.repeats(slate.title).any()
    assert slate.explored.mean() == pytest.approx(0.1, rel=0.02)
    counts = np.bincount(slate.title[slate.explored], minlength=titles)
    assert counts[:20].sum() == 0
    assert np.allclose(counts[20:] / ranked.size, 0.1 / 40, rtol=0.1)
    assert np.allclose(slate.propensity[slate.explored], 0.1 / 40)


def test_a_small_pool_is_not_explored():
    audience = slates.Audience(np.arange(30), np.ones(30, bool), np.zeros(30), np.ones((30, 4), np.float32))
    ranked = np.tile(np.concatenate([np.arange(18), [EMPTY, EMPTY]]), (50, 1))
    slate = slates.explore(np.random.default_rng(0), audience, ranked, 0.1)
    assert (slate.title == ranked).all()
    assert (slate.propensity == 1).all()


def test_positions_count_from_one_without_repeats(nano_world):
    rows = nano_world.rows("impressions").to_pandas().drop_duplicates("event_id")
    for _, slate in rows.groupby("slate_id"):
        assert sorted(slate.position) == list(range(1, len(slate) + 1))
        assert slate.title_id.is_unique


def test_nobody_is_shown_or_plays_what_is_not_licensed_or_too_grown_up(nano_world):
    licences = nano_world.rows("licences").to_pylist()
    titles = nano_world.rows("titles").to_pylist()
    log = Eligibility()
    records = [(t["received_at"], "title", t) for t in titles] + [(w["received_at"], "licence", w) for w in licences]
    records.sort(key=lambda r: (r[0], r[1] != "title"))
    entries = [
        Record(n, kind, row["title_id"], maturity=row.get("maturity")) if kind == "title" else
        Record(n, kind, row["title_id"], window_id=row["window_id"], market=row["market"], opens_at=int(row["opens_at"].timestamp()),
               closes_at=int(row["closes_at"].timestamp()) if row["closes_at"] else FAR)
        for n, (_, kind, row) in enumerate(records, 1)
    ]
    profiles = {p["profile_id"]: p for p in nano_world.rows("profiles").to_pylist()}
    events = nano_world.rows("impressions").to_pylist() + nano_world.rows("plays").to_pylist()
    events.sort(key=lambda e: e["event_time"])
    applied, refused = 0, []
    for event in events:
        while applied < len(records) and records[applied][0] <= event["event_time"]:
            log.apply([entries[applied]])
            applied += 1
        who = profiles[event["profile_id"]]
        why = log.why_not(event["title_id"], who["market"], who["maturity_limit"], int(event["event_time"].timestamp()))
        if why:
            refused.append((why, event["event_id"]))
    assert len(events) > 10_000
    assert refused == []


def test_windows_open_close_and_reopen_and_titles_lack_what_they_may(nano_model):
    windows, last = nano_model.catalogue.windows, NANO.history_days + NANO.horizon_days
    assert ((windows.opens > 0) & (nano_model.catalogue.launch_day[windows.title] <= 0)).any()
    closing = windows.closes < last
    assert closing.any()
    keys = list(zip(windows.title.tolist(), windows.market.tolist()))
    assert len(set(keys)) < len(keys)  # some have a second window
    assert (windows.revised_on < last).any()
    demo = world.catalogue.make(world_recipe("demo"), 7)
    assert (demo.maturity == UNKNOWN).mean() == pytest.approx(0.008, abs=0.004)
    assert len(set(demo.names)) == len(demo.names)


def test_new_titles_launch_on_the_judged_day(nano_world, nano_model):
    launched = nano_model.catalogue.ids[nano_model.catalogue.launch_day == NANO.history_days]
    assert len(launched) >= 2
    versions = {row["title_id"]: row for row in nano_world.rows("titles").to_pylist()}
    for title in launched:
        assert versions[title]["launched_at"] == datetime(2026, 3, 9, tzinfo=UTC)
        assert versions[title]["received_at"] < datetime(2026, 3, 9, tzinfo=UTC)


# --- behaviour ----------------------------------------------------------------------------------------------------

def test_attention_falls_with_place_and_faster_on_a_phone():
    places = np.arange(1, 21)
    tv, phone = (behaviour.attention(places, np.full(20, d)) for d in (0, 1))
    assert (np.diff(tv) < 0).all()
    assert tv[0] == phone[0] == 1
    assert (phone[1:] < tv[1:]).all()


def test_position_bias_shows_in_explored_slots(nano_world):
    """Explored slots hold random titles, so that only attention makes the first places better."""
    shown = nano_world.rows("impressions").to_pandas().drop_duplicates("event_id")
    played = nano_world.rows("plays").to_pandas().dropna(subset="slate_id")
    played = set(zip(played.slate_id, played.title_id))
    shown["played"] = [pair in played for pair in zip(shown.slate_id, shown.title_id)]
    explored = shown[shown.explored]
    assert explored[explored.position <= 5].played.mean() > 1.5 * explored[explored.position > 10].played.mean()


def test_plays_are_partly_abandoned_and_series_go_on(nano_world, nano_model):
    plays = nano_world.rows("plays").to_pandas().drop_duplicates("event_id")
    completion = plays.watched_seconds / plays.runtime_seconds
    assert completion.between(0, 1).all()
    assert 0.1 < (completion < 0.5).mean() < 0.6
    assert set(plays.surface) == {"home", "continue", "similar", "search"}
    following = nano_model.catalogue.next_in_series
    row = {title: i for i, title in enumerate(nano_model.catalogue.ids)}
    went_on = 0
    for _, mine in plays.sort_values("event_time").groupby("profile_id"):
        order = [row[t] for t in mine.title_id]
        went_on += sum(following[a] == b for a, b in pairwise(order))
    assert went_on > 0.03 * len(plays)


def test_tastes_drift(nano_model):
    people = np.arange(100)
    now, later = nano_model.population.taste(people, 0), nano_model.population.taste(people, 60)
    assert np.allclose(now.sum(axis=1), 1, atol=1e-3)
    assert np.abs(now - later).sum(axis=1).mean() > 0.1


def test_kids_profiles_have_limits_and_households_have_one_to_five(nano_model):
    people = nano_model.population
    assert (people.limit[people.is_kids] <= 10).all()
    assert 0.1 < people.is_kids.mean() < 0.4
    sizes = np.unique(people.household_ids.astype(str), return_counts=True)[1]
    assert set(sizes) == {1, 2, 3, 4, 5}


def test_true_relevance_ranks_what_is_played_far_above_popularity():
    """Learnable: who knew the tastes would find the next plays; who knows only what is popular would not."""
    recipe = world_recipe("nano")
    model = world.build(recipe, 11)
    memory = Memory.fresh(len(model.population))
    titles = np.arange(len(model.catalogue))
    popularity = np.zeros(len(titles))
    for day in range(recipe.history_days):
        popularity += np.bincount(model.simulate(day, memory).plays["title"], minlength=len(titles))
    last = memory.last_engaged.copy()
    seen = memory.watched
    plays = model.simulate(recipe.history_days, memory).plays
    licensed = model.licensed(recipe.history_days)
    ranks = {"truth": [], "popular": []}
    for profile, title in zip(plays["profile"], plays["title"]):
        watched = np.isin(profile * len(titles) + titles, seen)
        may = licensed[model.population.market[profile]] & (model.catalogue.strictest_maturity() <= model.population.limit[profile]) & ~watched
        liking = model.liking(np.array([profile]), titles[None], recipe.history_days, last[[profile]])[0]
        for name, score in (("truth", liking), ("popular", popularity)):
            score = np.where(may, score, -np.inf)
            ranks[name].append((score > score[title]).sum())
    hit = {name: float((np.array(values) < 10).mean()) for name, values in ranks.items()}
    assert len(ranks["truth"]) > 150
    assert hit["truth"] > 1.7 * hit["popular"]


# --- the next night -----------------------------------------------------------------------------------------------

def test_the_next_day_goes_on_where_the_last_one_ended(nano_world, tmp_path, caplog):
    home = tmp_path / "home"
    shutil.copytree(nano_world.home, home)
    settings = settings_for(home).model_copy(update={"serving_url": "http://127.0.0.1:9"})
    result = world.land(settings, next_day=True)
    assert result["ds"] == "2026-03-10"
    assert set(result["shown_by"]) == {"bootstrap"}
    assert "no live release answered at http://127.0.0.1:9" in caplog.text
    landed = Landed(settings, result)
    before, after = landed.rows("plays", HISTORY), landed.rows("plays", "2026-03-10")
    assert not set(before["event_id"].to_pylist()) & set(after["event_id"].to_pylist())
    assert clock.now(home) > datetime(2026, 3, 11, 6, tzinfo=UTC)
    assert world.land(settings, "nano", 7) == nano_world.result  # and the first night is as it was
    assert clock.now(home) > datetime(2026, 3, 11, 6, tzinfo=UTC)
    assert json.loads((home / truth.FOLDER / "planted.json").read_text()).keys() == {HISTORY, NIGHT, "2026-03-10"}


def test_a_crash_before_the_next_day_landed_is_made_good(nano_world, tmp_path):
    results = []
    for name in ("whole", "crashed"):
        home = tmp_path / name
        shutil.copytree(nano_world.home, home)
        settings = settings_for(home).model_copy(update={"serving_url": "http://127.0.0.1:9"})
        if name == "crashed":
            world.land(settings, next_day=True)
            shutil.rmtree(settings.landing / "2026-03-10")  # its memory was written, its folder was not
            (settings.landing / f".2026-03-10.{os.getpid() + 10**7}").mkdir()
        world.land(settings, next_day=True)
        results.append(digests(Landed(settings, {})))
    assert results[0] == results[1]


def test_the_world_ends_at_its_horizon(nano_world, tmp_path, monkeypatch):
    home = tmp_path / "home"
    shutil.copytree(nano_world.home, home)
    far = Interval(date(2026, 3, 10), NANO.date(NANO.history_days + NANO.horizon_days - 1))
    (home / "landing" / NIGHT).rename(home / "landing" / far.name)
    with pytest.raises(UsageError, match="the world ends 120 days after its history"):
        world.land(settings_for(home), next_day=True)


def test_demo_and_large_have_the_agreed_sizes():
    demo = world_recipe("demo")
    model = world.build(demo, 7)
    assert (model.population.joined_day < demo.history_days).sum() == pytest.approx(20_000, rel=0.02)
    assert (model.catalogue.launch_day <= demo.history_days).sum() == pytest.approx(5_000, rel=0.05)
    assert demo.sessions_per_day * demo.history_days * demo.slate_size == pytest.approx(2e6, rel=0.25)
    large = world_recipe("large")
    assert large.sessions_per_day * large.history_days * large.slate_size == pytest.approx(50e6, rel=0.05)
