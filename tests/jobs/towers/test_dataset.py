"""Windows against a slow oracle written from the rule: a play is predicted from what was known before it."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.query import DEVICES, MIN_GAP_SECONDS, Context, History, Profile, context_features, query_inputs
from jobs.towers.dataset import (
    MICROSECONDS,
    Plays,
    ProfileVersions,
    build_windows,
    context_rows,
    context_table,
    known_prefix,
    make_batch,
    plan_batches,
)


@st.composite
def plays_and_versions(draw):
    """Plays with ties and late knowledge, and profile versions that arrive in between."""
    size = draw(st.integers(1, 30))
    rows = sorted(
        (draw(st.integers(0, 3)), draw(st.integers(0, 12)) * 50) for _ in range(size)
    )
    late = [draw(st.sampled_from([0, 0, 0, 30, 200])) for _ in rows]
    profile = np.array([r[0] for r in rows])
    time = np.array([r[1] for r in rows]) * MICROSECONDS
    known = time + np.array(late) * MICROSECONDS
    nan = np.full(size, np.nan)
    plays = Plays(profile, np.arange(size), time, known, nan, nan, np.array([draw(st.booleans()) for _ in rows]), np.zeros(size, int))
    versions = sorted({(draw(st.integers(0, 3)), draw(st.integers(-1, 600))) for _ in range(draw(st.integers(0, 5)))})
    known_versions = np.array([v[1] for v in versions], np.int64) * MICROSECONDS
    return plays, ProfileVersions(np.array([v[0] for v in versions], np.int64), known_versions,
                                  np.arange((len(versions) + 1) * 2, dtype=np.float32).reshape(-1, 2))


def oracle(plays: Plays, versions: ProfileVersions) -> dict[int, tuple[int, int, int]]:
    """label -> (first play of the profile, plays of the known prefix, profile version row)."""
    out = {}
    for i in range(len(plays)):
        mine = [j for j in range(len(plays)) if plays.profile[j] == plays.profile[i]]
        prefix = 0
        for j in mine:
            if max(plays.known[j], plays.time[j]) >= plays.time[i]:
                break
            prefix += 1
        following = mine[prefix] if prefix < len(mine) else i
        if not plays.engaged[i] or plays.time[i] - plays.time[following] >= MIN_GAP_SECONDS * MICROSECONDS:
            continue
        known = [v for v in range(len(versions.profile)) if versions.profile[v] == plays.profile[i] and versions.known[v] < plays.time[i]]
        out[i] = (mine[0], prefix, known[-1] if known else len(versions.profile))
    return out


@given(plays_and_versions(), st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_windows_say_what_the_rule_says(made, length):
    plays, versions = made
    windows = build_windows(plays, versions, plays.engaged, length)
    expected = oracle(plays, versions)
    found = {}
    for w in range(len(windows)):
        assert windows.length[w] <= length
        for n in range(windows.label_start[w], windows.label_start[w + 1]):
            start, position = windows.start[w], windows.position[n]
            label = int(windows.target[n])  # titles are numbered like plays
            assert 0 <= position <= windows.length[w]
            first, prefix, row = expected[label]
            assert start + position == first + prefix, "a label is asked for after exactly its known plays"
            assert start == first or position > (length - 1) // 2 - 1, "a later window still shows half of its length"
            assert windows.profile_row[w] == row
            assert all(plays.known[start : start + position] < plays.time[label])
            found[label] = True
    assert sorted(found) == sorted(expected)
    assert windows.labels == len(expected), "every label once"


def test_removing_the_known_time_condition_would_show():
    """Two plays of which the first became known after the second: the second must not be predicted from the first."""
    nan = np.full(2, np.nan)
    plays = Plays(np.zeros(2, int), np.arange(2), np.array([0, 50]) * MICROSECONDS, np.array([60, 60]) * MICROSECONDS,
                  nan, nan, np.ones(2, bool), np.zeros(2, int))
    assert known_prefix(plays).tolist() == [0, 0]
    punctual = Plays(**{**vars(plays), "known": plays.time})
    assert known_prefix(punctual).tolist() == [0, 1]


def test_only_the_newest_windows_stay():
    size = 40
    nan = np.full(size, np.nan)
    time = np.arange(size) * 1000 * MICROSECONDS
    plays = Plays(np.zeros(size, int), np.arange(size), time, time, nan, nan, np.ones(size, bool), np.zeros(size, int))
    nobody = ProfileVersions(np.zeros(0, int), np.zeros(0, int), np.zeros((1, 2), np.float32))
    every, newest = (build_windows(plays, nobody, plays.engaged, 8, n) for n in (0, 2))
    assert len(newest) == 2
    assert len(every) > 2
    assert newest.target.tolist() == every.target[-len(newest.target):].tolist()


def test_batches_hold_every_window_once_within_the_limit():
    random = np.random.default_rng(0)
    size = 300
    profile = np.sort(random.integers(0, 60, size))
    time = np.arange(size) * 1000 * MICROSECONDS
    nan = np.full(size, np.nan)
    plays = Plays(profile, np.arange(size), time, time, nan, nan, np.ones(size, bool), np.zeros(size, int))
    nobody = ProfileVersions(np.zeros(0, int), np.zeros(0, int), np.zeros((1, 2), np.float32))
    windows = build_windows(plays, nobody, plays.engaged, 6)
    plan = plan_batches(windows, 40, np.random.default_rng(1))
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(windows)))
    labels = []
    for chosen in plan:
        batch = make_batch(plays, windows, chosen)
        assert len(chosen) == 1 or (batch.title_BL.shape[1] + 1) * len(chosen) <= 40
        assert ((batch.title_BL >= 0).sum(1) == batch.length_B).all()
        labels += batch.target_N.tolist()
        for row, position, target in zip(batch.label_row_N, batch.position_N, batch.target_N):
            assert (batch.title_BL[row, :position] < target).all(), "only earlier plays of the same profile"
    assert sorted(labels) == sorted(windows.target.tolist())


@pytest.mark.parametrize("device", [*DEVICES, ""])
def test_the_context_table_is_the_contract(device):
    code = DEVICES.index(device) if device else len(DEVICES)
    for hours in range(0, 24 * 9, 5):
        moment = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=hours, minutes=59, seconds=59)
        row = context_rows(np.array([int(moment.timestamp()) * MICROSECONDS]), np.array([code]))
        assert (context_table()[row[0]] == context_features(Context(moment, device))).all()


def test_play_features_are_what_serving_computes():
    """The state after three plays, asked for when the fourth happened, sees the features of a request at that time."""
    times = np.array([100, 150, 90_000, 90_700]) * MICROSECONDS
    completion, rating = np.array([0.5, np.nan, 1.0, 0.2]), np.array([np.nan, 4.0, np.nan, 3.0])
    plays = Plays(np.zeros(4, int), np.arange(4), times, times, completion, rating, np.ones(4, bool), np.zeros(4, int))
    history = History(["a", "b", "c"], (times[:3] / MICROSECONDS).tolist(), completion[:3], rating[:3])
    asked = Context(datetime.fromtimestamp(90_700, UTC))
    served = query_inputs(history, np.zeros((3, 4), np.float32), Profile("p", "AA"), asked, 5)
    assert np.array_equal(plays.features()[:3], served["history_features"][0, :3])
