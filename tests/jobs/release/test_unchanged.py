"""A release is built of one code and one recipe: an edit between two steps is refused before anything is made."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from contracts.errors import UsageError
from jobs import cli
from jobs.recipes import demo, nano
from jobs.release import begin, inputs, unchanged
from tests.jobs.release.conftest import DAY
from tests.jobs.release.test_begin import land


@pytest.fixture
def begun(settings, ledger, code) -> str:
    (code / "jobs" / "step.py").write_text("print(1)\n")
    land(settings)
    return begin.run(settings, DAY, nano())["release_id"]


def test_what_did_not_change_is_built(settings, begun):
    unchanged.require(settings, begun, nano())
    unchanged.require(settings.model_copy(update={"device": "cuda"}), begun, nano())


def test_an_edit_is_refused_until_it_is_taken_back_or_begun(settings, begun, code):
    before = inputs.code_hash(code)[:12]
    (code / "jobs" / "step.py").write_text("print(2)\n")
    with pytest.raises(UsageError, match=f"code {before}, here {inputs.code_hash(code)[:12]}.*release begin --ds {DAY}"):
        unchanged.require(settings, begun, nano())
    unchanged.require(settings, begin.run(settings, DAY, nano())["release_id"], nano())
    (code / "jobs" / "step.py").write_text("print(1)\n")
    unchanged.require(settings, begun, nano())


@pytest.mark.parametrize(("recipe", "says"), [
    (demo(), "recipe nano, here demo"), (replace(nano(), towers=replace(nano().towers, epochs=99)), "recipe nano, here nano, or values in it"),
])
def test_another_recipe_is_refused(settings, begun, recipe, says):
    with pytest.raises(UsageError, match=says):
        unchanged.require(settings, begun, recipe)


def test_other_threads_and_libraries_are_refused(settings, begun, monkeypatch):
    with pytest.raises(UsageError, match=f"threads {settings.threads}, here 7"):
        unchanged.require(settings.model_copy(update={"threads": 7}), begun, nano())
    monkeypatch.setattr(inputs, "library_versions", lambda: {"torch": "1.0"})
    with pytest.raises(UsageError, match=r"torch .*, here 1\.0"):
        unchanged.require(settings, begun, nano())


def test_a_release_that_was_never_begun(settings, ledger):
    with pytest.raises(UsageError, match="no release 'r9'"):
        unchanged.require(settings, "r9", nano())
    (settings.releases / "r9").mkdir(parents=True)
    with pytest.raises(UsageError, match="run `marquee release begin`"):
        unchanged.require(settings, "r9", nano())


@pytest.mark.parametrize("step", ["towers", "index", "ranker"])
def test_every_build_step_asks(settings, begun, code, monkeypatch, step):
    monkeypatch.setattr(cli, "load", lambda: settings.model_copy(update={"recipe": "nano"}))
    (code / "jobs" / "step.py").write_text("print(2)\n")
    done = CliRunner().invoke(cli.app, [step, "--release", begun])
    assert isinstance(done.exception, UsageError)
    assert "was begun with other inputs than this step has" in str(done.exception)
