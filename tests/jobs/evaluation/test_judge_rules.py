"""Rules one by one, on figures that are known: what they stop, what they let pass, what they decline to say."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.eligibility import FAR, Eligibility, Record
from contracts.split import split_for
from jobs.bootstrap import PairedBootstrap
from jobs.evaluation.config import JudgeConfig
from jobs.evaluation.eligible import Windows
from jobs.evaluation.gates import FAILED, NOT_APPLICABLE, PASSED
from jobs.evaluation.rules import completeness, data, quality
from jobs.evaluation.rules.data import Blocks
from jobs.evaluation.shadow import Answer

CONFIG = JudgeConfig()
DAY = date(2026, 3, 31)
CASE = SimpleNamespace(config=CONFIG, provenance=SimpleNamespace(tag=SimpleNamespace(split=split_for(DAY, DAY))))


def plays(rows: int, seed: int = 0, late: float = 0.0, unit: float = 1.0, filled: float = 1.0) -> pa.Table:
    random = np.random.default_rng(seed)
    at = datetime(2026, 3, 31, tzinfo=UTC)
    known = [at + (timedelta(days=2) if lag else timedelta(0)) for lag in random.random(rows) < late]
    watched = random.lognormal(7, 0.6, rows) * unit
    return pa.table({
        "profile_id": [f"p{i}" for i in range(rows)], "event_time": pa.array([at] * rows, pa.timestamp("us", "UTC")),
        "known_at": pa.array(known, pa.timestamp("us", "UTC")), "watched_seconds": watched,
        "completion": np.minimum(watched / 5000, 1.0), "rating": pa.nulls(rows, pa.float64()), "slate_id": pa.nulls(rows, pa.string()),
        "device": [value if keep else None for value, keep in zip(["tv"] * rows, random.random(rows) < filled)],
        "surface": ["home"] * rows,
    })


def nights(count: int = 5, rows: int = 300, **kind) -> list[pa.Table]:
    return [plays(rows, seed, **kind) for seed in range(1, count + 1)]


@pytest.mark.parametrize(("tonight", "verdict"), [(300, PASSED), (160, PASSED), (60, FAILED), (590, PASSED), (900, FAILED), (0, FAILED)])
def test_the_volume_of_a_night_is_held_against_earlier_nights(tonight, verdict):
    assert data._volume(CASE, "plays", Blocks(plays(tonight), nights())).verdict == verdict


def test_few_earlier_nights_or_none_at_all_have_nothing_to_say():
    for blocks, says in ((Blocks(plays(5), nights(2)), "2 earlier nights"), (None, "brings no plays")):
        for rule in (data._volume, data._filled, data._late):
            gate = rule(CASE, "plays", blocks)
            assert gate.verdict == NOT_APPLICABLE
            assert says in gate.reason


@pytest.mark.parametrize(("filled", "verdict"), [(1.0, PASSED), (0.9, PASSED), (0.5, FAILED)])
def test_a_column_that_is_not_filled_any_more_is_named(filled, verdict):
    gate = data._filled(CASE, "plays", Blocks(plays(300, 9, filled=filled), nights()))
    assert gate.verdict == verdict
    assert verdict == PASSED or "device" in gate.reason


@pytest.mark.parametrize(("late", "before", "verdict"), [(0.02, 0.02, PASSED), (0.5, 0.02, FAILED), (0.5, 0.4, PASSED)])
def test_late_records_are_too_many_beyond_what_earlier_nights_had(late, before, verdict):
    assert data._late(CASE, "plays", Blocks(plays(300, 9, late=late), nights(late=before))).verdict == verdict


@pytest.mark.parametrize(("unit", "verdict"), [(1.0, PASSED), (1 / 60, FAILED), (1000.0, FAILED)])
def test_a_unit_that_flips_moves_what_plays_measure(unit, verdict):
    gate = data._measured(CASE, Blocks(plays(300, 9, unit=unit), nights()))
    assert gate.verdict == verdict
    assert verdict == PASSED or "watched_seconds" in gate.reason


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_small_good_nights_raise_no_alarm(seed):
    """Thirty plays a night: nothing here is a fault, whatever the seed."""
    blocks = Blocks(plays(30, seed), [plays(30, seed + n) for n in range(1, 9)])
    for gate in (data._volume(CASE, "plays", blocks), data._filled(CASE, "plays", blocks), data._late(CASE, "plays", blocks),
                 data._measured(CASE, blocks)):
        assert gate.verdict == PASSED, gate


def test_duplicates_and_quarantine_name_the_table_that_is_worst():
    def row(landed, duplicates):
        return {"landed": landed, "published": landed - duplicates, "quarantined": 0, "duplicates": duplicates}

    usual = {"plays": row(1000, 20), "titles": row(50, 0)}
    assert data._worst_table(CASE, "duplicates", "rule", "duplicates", [usual, usual]).verdict == PASSED
    gate = data._worst_table(CASE, "duplicates", "rule", "duplicates", [usual, usual | {"plays": row(3000, 2000)}])
    assert gate.verdict == FAILED
    assert "of plays" in gate.reason


def test_a_feature_that_knows_the_label_has_an_auc_near_one():
    engaged = np.arange(400) % 4 == 0
    random = np.random.default_rng(1)
    assert data._auc(pa.chunked_array([engaged.astype(float)]), engaged) == 1.0
    assert data._auc(pa.chunked_array([-engaged.astype(float)]), engaged) == 1.0
    assert data._auc(pa.chunked_array([random.random(400)]), engaged) < 0.6
    assert data._auc(pa.chunked_array([pa.nulls(400, pa.float64())]), engaged) == 0.5


def test_holm_rejects_step_by_step():
    assert quality.holm({"a": 0.001, "b": 0.02, "c": 0.03, "d": 0.5}, 0.05) == ["a"]
    assert quality.holm({"a": 0.001, "b": 0.01, "c": 0.02, "d": 0.04}, 0.05) == ["a", "b", "c", "d"]
    assert quality.holm({"a": 0.04, "b": 0.04}, 0.05) == []


def test_holm_over_equal_slices_alarms_in_at_most_one_of_twenty():
    random, alarms = np.random.default_rng(3), 0
    bootstrap = PairedBootstrap([f"p{i}" for i in range(400)], 300, 1)
    for _ in range(100):
        difference_N = random.normal(0, 0.3, 400)
        p = {str(s): bootstrap.p_below(difference_N, np.arange(400) % 10 == s, 0.0, 40) for s in range(10)}
        alarms += bool(quality.holm(p, 0.05))
    assert alarms <= 12  # 5 expected; 12 or more in one of a thousand


def test_a_slice_that_loses_is_found():
    bootstrap = PairedBootstrap([f"p{i}" for i in range(400)], 300, 1)
    random, rows = np.random.default_rng(3), np.arange(400) % 10 == 3
    difference_N = random.normal(0, 0.3, 400) - 0.3 * rows
    p = {str(s): bootstrap.p_below(difference_N, np.arange(400) % 10 == s, 0.0, 40) for s in range(10)}
    assert quality.holm(p, 0.05) == ["3"]
    assert bootstrap.p_below(difference_N, rows, -10.0, 40) > 0.99


records = st.lists(st.tuples(
    st.sampled_from(["title", "licence"]), st.sampled_from(["a", "b"]), st.sampled_from([None, 0, 12, 18]), st.sampled_from(["w1", "w2"]),
    st.sampled_from(["de", "fr"]), st.integers(0, 5), st.sampled_from([3, 6, FAR]), st.booleans()), max_size=12)


@given(records, st.sampled_from(["de", "fr", "nl"]), st.sampled_from([0, 12, 18]), st.integers(0, 8))
def test_the_two_readings_of_the_log_agree(drawn, market, limit, at):
    """`Windows` shares no line with contracts.eligibility: what one of them gets wrong, the other shows."""
    log = [Record(seq, kind, title, maturity, window, place, opens, closes, revoked)
           for seq, (kind, title, maturity, window, place, opens, closes, revoked) in enumerate(drawn, 1)]
    state = Eligibility()
    state.apply(log)
    expected = [state.why_not(title, market, limit, at) is None for title in ("a", "b")]
    assert Windows(log, ["a", "b"]).allowed_T(market, limit, at).tolist() == expected


def test_thresholds_are_part_of_what_was_judged():
    from jobs.evaluation.judge import rules_digest
    assert rules_digest(CONFIG) != rules_digest(replace(CONFIG, leak_auc=0.9))


@pytest.mark.parametrize(("empty", "verdict"), [(0, PASSED), (5, PASSED), (6, FAILED), (50, FAILED)])
def test_an_empty_shelf_for_everybody_is_an_alarm_whatever_the_reason(empty, verdict):
    answers = [Answer(f"r{i}", titles=() if i < empty else ("t1",)) for i in range(50)]
    case = SimpleNamespace(config=CONFIG, ours=SimpleNamespace(answers=answers), answered=answers, judged=answers, titles=pa.table({"t": [1]}))
    found = {gate.name: gate for gate in completeness.gates(case, SimpleNamespace(count=1, error=""))}
    assert found["shelves_filled"].verdict == verdict
