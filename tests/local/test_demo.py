"""The demo's arguments, a home's loyalty to the demo that it began with, and what is said of a blocked night."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from contracts.errors import MarqueeError, UsageError
from contracts.release import State
from contracts.settings import Settings
from ledger import open_ledger
from local import demo, home
from local.night import RedRun


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
    assert demo._agree(settings, None, None, None, "yes") == demo.Demo("world", "nano"), "`make demo` again is the next night"
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


RELEASE, NIGHT = "2026-03-31-aaaaaaaaaa", "2026-03-31"


@pytest.fixture
def red_night(settings, monkeypatch) -> list[str]:
    """A demo whose night ends red, with a candidate that waits to be judged; what `summary.show` was asked to show."""
    shown: list[str] = []

    def red(*_):
        raise RedRun("nightly: task judge.judge failed")

    monkeypatch.setattr(demo.services, "start", lambda settings: settings)
    monkeypatch.setattr(demo, "service_user", lambda settings: nullcontext())
    monkeypatch.setattr(demo, "_night", red)
    monkeypatch.setattr(demo.summary, "show", lambda settings, release: shown.append(release))
    for ds in ("2026-03-30", NIGHT):
        (settings.landing / ds).mkdir(parents=True)
        (settings.landing / ds / "_landed.json").write_text(json.dumps({"format_version": 1, "source": "world", "first": ds, "last": ds}))
    demo_file = settings.home / demo.DEMO_FILE
    demo_file.write_text(json.dumps({"source": "world", "recipe": "nano", "data": None}))
    ledger = open_ledger(settings)
    ledger.begin(RELEASE, NIGHT, "begin")
    ledger.move(RELEASE, State.BUILT, "seal")
    return shown


def block(settings: Settings) -> None:
    open_ledger(settings).move(RELEASE, State.BLOCKED, "judge", "failed: answered")
    evidence = settings.releases / RELEASE / "evidence"
    evidence.mkdir(parents=True)
    gates = [{"name": "answered", "verdict": "failed", "overridable": True}, {"name": "ineligible", "verdict": "passed", "overridable": False}]
    (evidence / "gates.json").write_text(json.dumps({"gates": gates}))


def test_a_blocked_night_says_which_gates_and_what_to_do_and_fails(settings, red_night):
    block(settings)
    with pytest.raises(MarqueeError) as failed:
        demo._run_night(settings, NIGHT, "yes")
    said = str(failed.value)
    assert f"{RELEASE} is blocked, no question is opened; failed: answered." in said
    assert "request-override" in said
    assert (settings.releases / RELEASE / "evidence" / "report.html").as_uri() in said
    assert said.endswith("`make demo` goes on with the next night.")
    assert red_night == [RELEASE]


def test_a_night_that_is_red_for_another_reason_says_that(settings, red_night):
    with pytest.raises(RedRun, match=r"judge\.judge failed"):
        demo._run_night(settings, NIGHT, "yes")
    assert red_night == []


def test_the_next_night_begins_with_how_the_last_one_ended(settings, red_night, monkeypatch, capsys):
    block(settings)
    monkeypatch.setattr(demo, "_marquee", lambda settings, *arguments: {"ds": arguments[-1]})
    assert demo._land(settings, demo.Demo("world", "nano")) == "--next"
    said = capsys.readouterr().err
    assert f"The night of {NIGHT} was blocked: {RELEASE}" in said
    assert "failed: answered." in said


def test_a_home_of_movielens_goes_on_with_its_data(settings, tmp_path):
    begun = demo._agree(settings, "movielens", tmp_path, None, "yes")
    assert demo._agree(settings, None, None, None, "yes") == begun == demo.Demo("movielens", "movielens", str(tmp_path))
    with pytest.raises(UsageError, match="holds a demo of movielens"):
        demo._agree(settings, "world", None, None, "yes")
