"""What counts as a shift, and what does not."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from jobs.distribution import Limits, breaches, describe, load, psi, save

RNG = np.random.default_rng(5)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def table(n: int = 4000, scale: float = 1.0, missing: float = 0.1, days: float = 1.0) -> pa.Table:
    plays = RNG.gamma(2.0, 3.0 * scale, n)
    return pa.table({
        "plays": pa.array(plays, mask=RNG.random(n) < missing),
        "zeros": pa.array(np.where(RNG.random(n) < 0.9, 0, 5)),
        "market": pa.array(RNG.choice(["DE", "US", "FR"], n)),
        "id": pa.array([f"p{i}" for i in range(n)]),
        "kids": pa.array(RNG.random(n) < 0.2),
        "genres": pa.array([["a"] * int(k) for k in RNG.integers(0, 4, n)]),
        "last": pa.array([NOON + timedelta(days=days) - timedelta(hours=float(h)) for h in RNG.integers(0, 700, n)]),
    })


def found(reference: pa.Table, now: pa.Table, **limits) -> dict[str, str]:
    was = describe(reference)
    return {b.feature: b.figure for b in breaches("view", was, describe(now, reference=was), Limits(**limits))}


def test_another_sample_of_the_same_world_passes():
    assert found(table(), table()) == {}
    assert found(table(150), table(150)) == {}, "a nano world raises no alarm"


def test_time_that_only_moved_on_passes():
    assert found(table(), table(days=8)) == {}


def test_a_unit_that_changed_is_named():
    assert found(table(), table(scale=60.0)) == {"plays": "PSI"}


def test_values_that_went_missing_are_named():
    assert found(table(), table(missing=0.6)) == {"plays": "filled share"}
    assert found(table(), table(missing=1.0)) == {"plays": "filled share"}


def test_a_collapse_of_volume_is_named():
    assert found(table(), table(1500))["*"] == "rows"


def test_a_column_that_is_gone_is_named():
    assert found(table(), table().drop_columns(["kids"])) == {"kids": "column"}


def test_a_market_that_vanished_is_named():
    now = table()
    merged = pa.array(["US"] * now.num_rows)
    assert found(table(), now.set_column(now.column_names.index("market"), "market", merged)) == {"market": "PSI"}


@pytest.mark.parametrize(("factor", "said"), [(0.985, {}), (0.9, {"rating": "PSI"})])
def test_values_close_together_must_move_by_more_than_a_hundredth(factor, said):
    rating = RNG.normal(3.9, 0.05, 400)
    assert found(pa.table({"rating": rating}), pa.table({"rating": factor * rating})) == said


def test_a_column_of_one_value_that_begins_to_vary_is_named():
    was, now = np.zeros(4000), np.where(np.arange(4000) % 12 == 0, 3.0, 0.0)
    was[0] = 3.0
    assert found(pa.table({"skips": was}), pa.table({"skips": now})) == {"skips": "PSI"}


def test_limits_are_the_callers():
    assert found(table(), table(scale=60.0), psi=100.0) == {}


def test_psi_is_the_textbooks():
    assert psi([0.5, 0.5], [0.5, 0.5]) == 0
    assert psi([0.4, 0.6], [0.6, 0.4]) == pytest.approx(2 * 0.2 * np.log(1.5))
    assert np.isfinite(psi([1.0, 0.0], [0.0, 1.0]))


def test_what_is_saved_is_what_is_loaded(tmp_path):
    was = {"view": describe(table(200))}
    save(tmp_path / "a.json", was)
    save(tmp_path / "b.json", was)
    assert load(tmp_path / "a.json") == was
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]
