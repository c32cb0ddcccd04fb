from datetime import UTC, datetime, timedelta

from contracts import clock

TOLERANCE = timedelta(seconds=5)


def test_without_an_offset_it_is_wall_time(tmp_path):
    assert abs(clock.now(tmp_path) - datetime.now(UTC)) < TOLERANCE


def test_a_simulated_world_runs_on_from_its_moment(tmp_path):
    moment = datetime(2001, 2, 3, 6, tzinfo=UTC)
    clock.set_now(tmp_path / "home", moment)
    assert timedelta(0) <= clock.now(tmp_path / "home") - moment < TOLERANCE


def test_two_homes_have_two_clocks(tmp_path):
    clock.set_now(tmp_path / "one", datetime(2001, 1, 1, tzinfo=UTC))
    clock.set_now(tmp_path / "two", datetime(2031, 1, 1, tzinfo=UTC))
    assert clock.now(tmp_path / "two") - clock.now(tmp_path / "one") > timedelta(days=10_000)
