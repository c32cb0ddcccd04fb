"""Runs a `marquee …` command as a task: a subprocess on this machine.

A task passes on the id that the command printed last; nothing else. What the command writes to standard error is the
task's log, and its last line is the reason where the task fails.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from contracts.settings import REPOSITORY

WRONG_USE = 2
"""Exit code of wrong use or bad input: trying again cannot help."""

GRACE_SECONDS = 3.0
"""Airflow kills a task 5 s after it asked it to end; its child must be gone before."""


class Marquee(BaseOperator):
    """One command.

    `arguments` are templated; `returns` names the value of the command's JSON that the task passes on, or is a function
    of that JSON which gives the value or raises.
    """

    template_fields = ("arguments",)
    ui_color = "#e8eef7"

    def __init__(self, *, arguments: Sequence[str], returns: str | Callable[[dict[str, Any]], str] | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.arguments = list(arguments)
        self.returns = returns
        self._command: Command | None = None

    def execute(self, context: Any) -> str | None:
        """Raises what Command.run raises, and AirflowException where the JSON lacks the value to pass on."""
        self._command = Command([sys.executable, "-m", "jobs.cli", *filter(None, self.arguments)], self.log)
        result = self._command.run()
        if self.returns is None:
            return None
        if callable(self.returns):
            return self.returns(result)
        if self.returns not in result:
            raise AirflowException(f"the command's result has no {self.returns!r}: {sorted(result)}")
        return str(result[self.returns])

    def on_kill(self) -> None:
        """The task was told to end: the command and all that it started end with it."""
        if self._command is not None:
            self._command.kill()


class Command:
    """A subprocess in a process group of its own, whose last line of standard output is a JSON object."""

    def __init__(self, command: list[str], log: logging.Logger) -> None:
        self.command, self.log = command, log
        self._child: subprocess.Popen[str] | None = None

    def run(self) -> dict[str, Any]:
        """The JSON. Raises AirflowFailException (no retry) for wrong use or bad input, AirflowException for a failed
        command; the message is the last line that the command said."""
        name = " ".join(self.command[2:])
        self.log.info("%s", name)
        self._child = subprocess.Popen(self.command, cwd=REPOSITORY, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, start_new_session=True, preexec_fn=_die_with_parent())
        last_words: deque[str] = deque(maxlen=1)
        reader = threading.Thread(target=self._relay, args=(self._child.stderr, last_words), daemon=True)
        reader.start()
        try:
            output = self._child.stdout.read()
            code = self._child.wait()
        finally:
            self.kill()
        reader.join(timeout=5)
        if code:
            reason = _reason(output, last_words) or f"`{name}` ended with exit code {code} without a word"
            raise (AirflowFailException if code == WRONG_USE else AirflowException)(reason)
        return _last_json(output)

    def kill(self) -> None:
        """Ends the process group; harmless where it has ended."""
        if self._child is not None:
            _end_group(self._child)

    def _relay(self, stream: IO[str], last_words: deque[str]) -> None:
        for line in stream:
            if line := line.rstrip():
                last_words.append(line)
                self.log.info("%s", line)


def _reason(output: str, last_words: Sequence[str]) -> str:
    """The last line of standard error; else the problems of a report (`land check --json`), or the last line of output."""
    if last_words:
        return last_words[-1]
    last = output.strip().rpartition("\n")[2]
    try:
        return "; ".join(json.loads(last)["problems"])
    except (ValueError, KeyError, TypeError):
        return last


def _last_json(output: str) -> dict[str, Any]:
    """The last line of standard output, which must be a JSON object."""
    lines = output.strip().splitlines()
    try:
        result = json.loads(lines[-1])
        if not isinstance(result, dict):
            raise ValueError
    except (IndexError, ValueError):
        raise AirflowException(f"the command's last line is not a JSON object: {lines[-1] if lines else '(no output)'}") from None
    return result


def _end_group(child: subprocess.Popen) -> None:
    """SIGTERM to the child's process group, SIGKILL after a grace period; what the child left behind goes too."""
    for what in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, what)
        except (ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            return
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _die_with_parent() -> Callable[[], None] | None:
    """On Linux the command gets SIGKILL when its task is killed, so that a retry never runs beside it."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
