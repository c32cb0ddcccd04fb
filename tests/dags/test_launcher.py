"""The launcher with real processes: what it passes on, how it fails, and that nothing outlives it."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from contracts.settings import REPOSITORY
from dags.lib.launcher import Command

LOG = logging.getLogger("test")


def command(code: str) -> Command:
    return Command([sys.executable, "-c", code], LOG)


def test_passes_on_the_last_line():
    assert command("print('noise'); print('{\"release_id\": \"a\"}')").run() == {"release_id": "a"}


@pytest.mark.parametrize(("code", "kind"), [(1, AirflowException), (2, AirflowFailException)])
def test_the_last_words_are_the_reason(code, kind):
    with pytest.raises(kind, match=r"^marquee: the day is empty$") as caught:
        command(f"import sys; print('first', file=sys.stderr); print('marquee: the day is empty', file=sys.stderr); sys.exit({code})").run()
    assert isinstance(caught.value, AirflowFailException) == (code == 2), "bad input is not tried again"


def test_the_problems_of_a_report_are_the_reason():
    with pytest.raises(AirflowFailException, match=r"^plays: empty; titles: missing$"):
        command("import json, sys; print(json.dumps({'ok': False, 'problems': ['plays: empty', 'titles: missing']})); sys.exit(2)").run()


def test_a_silent_death_is_told(caplog):
    with pytest.raises(AirflowException, match="ended with exit code -9 without a word"):
        command("import os; os.kill(os.getpid(), 9)").run()


@pytest.mark.parametrize("said", ["", "done", "[1]"])
def test_a_result_that_is_no_object_fails(said):
    with pytest.raises(AirflowException, match="not a JSON object"):
        command(f"print({said!r})").run()


def test_more_errors_than_a_pipe_holds_do_not_block():
    assert command("import sys; sys.stderr.write('x' * 99 + chr(10)) and [sys.stderr.write('y' * 99 + chr(10)) for _ in range(5000)]; "
                   "print('{}')").run() == {}


def test_killing_ends_the_command_and_what_it_started(tmp_path):
    pids = tmp_path / "pids"
    running = command(
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)'])\n"
        f"open({str(pids)!r} + '.new', 'w').write(f'{{os.getpid()}} {{child.pid}}'); os.rename({str(pids)!r} + '.new', {str(pids)!r})\n"
        "time.sleep(600)\n")
    errors = []

    def run() -> None:
        try:
            running.run()
        except AirflowException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    found = _wait_for(pids)
    running.kill()
    thread.join(20)
    assert errors, "the command's end is a failure"
    psutil.wait_procs([psutil.Process(pid) for pid in found if _lives(pid)], timeout=10)  # a killed process ends when it next runs
    assert [pid for pid in found if _lives(pid)] == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux's parent-death signal")
def test_a_killed_task_takes_its_command_along(tmp_path):
    pids = tmp_path / "pids"
    inner = f"import os, time; open({str(pids)!r} + '.new', 'w').write(str(os.getpid())); os.rename({str(pids)!r} + '.new', {str(pids)!r}); time.sleep(600)"
    outer = f"import logging, sys; from dags.lib.launcher import Command; Command([sys.executable, '-c', {inner!r}], logging.getLogger()).run()"
    task = subprocess.Popen([sys.executable, "-c", outer], cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    (pid,) = _wait_for(pids)
    task.send_signal(signal.SIGKILL)
    task.wait(10)
    deadline = time.monotonic() + 10
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(pid)


def _wait_for(path) -> list[int]:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, "the command did not start"
        time.sleep(0.05)
    return [int(pid) for pid in path.read_text().split()]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
