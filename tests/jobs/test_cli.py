"""The command line itself: what it refuses before any step, and that its help explains every argument."""

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from contracts.errors import UsageError
from jobs import cli


def commands(group, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found = {}
    for name, command in group.commands.items():
        found |= commands(command, (*path, name)) if hasattr(command, "commands") else {(*path, name): command}
    return found


COMMANDS = commands(typer.main.get_command(cli.app))
NIGHTLY = [path for path, command in COMMANDS.items() if any("--ds" in p.opts for p in command.params)]


@pytest.mark.parametrize("day", ["20260308", "2026-3-8", "2026-W10-7", "yesterday", "2026-02-30", ""])
@pytest.mark.parametrize("path", NIGHTLY, ids=" ".join)
def test_a_day_is_written_in_one_way(path, day):
    done = CliRunner().invoke(cli.app, [*path, "--ds", day])
    assert isinstance(done.exception, UsageError), done.output
    assert f"'{day}' is not a day; write YYYY-MM-DD" in str(done.exception)


def test_the_commands_of_a_night_were_looked_at():
    assert {("ingest",), ("warehouse",), ("examples",), ("materialise",), ("release", "begin")} <= set(NIGHTLY)


def test_no_folder_is_not_the_current_one():
    done = CliRunner().invoke(cli.app, ["land", "check", ""])
    assert isinstance(done.exception, UsageError), done.output


def test_a_seed_below_zero_is_refused():
    done = CliRunner().invoke(cli.app, ["land", "world", "--seed", "-1"])
    assert done.exit_code == 2
    assert "--seed" in done.output


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_argument_is_explained(path):
    assert all(p.help for p in COMMANDS[path].params if p.name not in ("help", "install_completion", "show_completion")), path
