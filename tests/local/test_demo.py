"""The demo's arguments, and a home's loyalty to the demo that it began with."""

from pathlib import Path

import pytest

from contracts.errors import UsageError
from contracts.settings import Settings
from local import demo, home


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(_env_file=None, home=tmp_path / "home")


@pytest.mark.parametrize(("arguments", "message"), [
    (("netflix", None, "demo", "yes"), "SOURCE=netflix"),
    (("world", None, "demo", "maybe"), "APPROVE=maybe"),
    (("movielens", None, "movielens", "yes"), "needs DATA"),
    (("movielens", Path("/nowhere"), "movielens", "yes"), "no such folder"),
])
def test_wrong_arguments_change_nothing(settings, arguments, message):
    with pytest.raises(UsageError, match=message):
        demo.run(settings, *arguments)
    assert not settings.home.exists()


def test_the_scheduler_gets_an_end_before_the_real_yesterday(settings):
    demo._agree(settings, "world", None, "nano", "yes")
    written = home.read_file(settings.home)
    assert written["MARQUEE_RECIPE"] == "nano"
    assert written["MARQUEE_NIGHTLY_UNTIL"] < str(demo.datetime.now(demo.UTC).date())


def test_a_home_stays_with_its_source(settings, tmp_path):
    demo._agree(settings, "world", None, "nano", "yes")
    assert demo._agree(settings, "world", None, "nano", "no") == demo.Demo("world", "nano")
    with pytest.raises(UsageError, match="holds a demo of world"):
        demo._agree(settings, "movielens", tmp_path, "demo", "yes")


def test_a_home_with_other_data_is_left_alone(settings):
    folder = settings.landing / "2026-03-01"
    folder.mkdir(parents=True)
    (folder / "_landed.json").write_text("{}")
    with pytest.raises(UsageError, match="no demo landed"):
        demo._agree(settings, "world", None, "nano", "yes")


def test_a_night_has_the_interval_that_the_schedule_would_give_it(settings):
    assert demo.interval(settings, "2026-03-31") == {
        "logical_date": "2026-03-31T03:00:00+00:00",
        "data_interval_start": "2026-03-31T03:00:00+00:00",
        "data_interval_end": "2026-04-01T03:00:00+00:00",
    }
    with pytest.raises(UsageError, match="future"):
        demo.interval(settings, "2999-01-01")
