"""Which processes belong to a home: pid files under `<home>/run/`, each with the process's start time, so that a pid
that the system gave to somebody else is never touched.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from contracts import durable
from contracts.errors import MarqueeError

SUPERVISOR = "supervisor"
STOP_SECONDS = 40.0


def pid_file(home: Path, name: str) -> Path:
    return home / "run" / f"{name}.pid"


def remember(home: Path, name: str, pid: int) -> None:
    """Writes the pid file of a process that runs."""
    path = pid_file(home, name)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(json.dumps({"pid": pid, "started": psutil.Process(pid).create_time()}))
    durable.publish(aside, path)


def running(home: Path, name: str) -> psutil.Process | None:
    """The process that the pid file names, where it still is that one."""
    try:
        record = json.loads(pid_file(home, name).read_text())
        process = psutil.Process(record["pid"])
        if abs(process.create_time() - record["started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except (FileNotFoundError, ValueError, KeyError, psutil.Error):
        pass
    return None


def supervisor_pid(home: Path) -> int | None:
    process = running(home, SUPERVISOR)
    return process.pid if process else None


def spawn_supervisor(home: Path, environment: dict[str, str], log: Path) -> None:
    """Starts the supervisor detached from this terminal; returns when it has written its pid file."""
    with log.open("a") as file:
        child = subprocess.Popen([sys.executable, "-m", "local.supervisor"], cwd=Path(__file__).parent.parent, env=environment,
                                 stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    for _ in range(300):
        if supervisor_pid(home) == child.pid:
            return
        if child.poll() is not None:
            break
        time.sleep(0.1)
    raise MarqueeError(f"the supervisor did not start; see {log}")


def stop(home: Path) -> list[str]:
    """Stops the supervisor, which stops its services, and whatever a killed supervisor left. Returns what ran."""
    names = [name for name in _known(home) if running(home, name)]
    if process := running(home, SUPERVISOR):
        process.terminate()
        try:
            process.wait(STOP_SECONDS + 20)
        except psutil.TimeoutExpired:
            end_tree(process, seconds=1)
    stop_leftovers(home)
    return [name for name in names if name != SUPERVISOR]


def stop_leftovers(home: Path) -> None:
    """Ends services whose supervisor is gone, newest first."""
    for name in reversed(_known(home)):
        if process := running(home, name):
            end_tree(process, STOP_SECONDS)
        pid_file(home, name).unlink(missing_ok=True)
    for flag in (home / "run").glob("*.gave-up"):
        flag.unlink(missing_ok=True)


def end_tree(process: psutil.Process, seconds: float) -> None:
    """SIGTERM to the process; SIGKILL to it and to all of its descendants that still live after `seconds`."""
    try:
        family = [*process.children(recursive=True), process]
        process.send_signal(signal.SIGTERM)
        psutil.wait_procs([process], timeout=seconds)
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.terminate()
        except psutil.NoSuchProcess:
            continue
    _, alive = psutil.wait_procs(family, timeout=5)
    for member in alive:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=5)


def give_up(home: Path, name: str) -> None:
    """Says to whoever waits that a service is not restarted any more."""
    (home / "run" / f"{name}.gave-up").touch()


def given_up(home: Path) -> list[str]:
    return sorted(path.stem for path in (home / "run").glob("*.gave-up"))


def _known(home: Path) -> list[str]:
    """Names with a pid file, in the order of their start."""
    files = sorted((home / "run").glob("*.pid"), key=lambda path: path.stat().st_mtime)
    return [path.stem for path in files]
