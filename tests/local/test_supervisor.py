"""The supervisor's parts with real processes: what dies is started again, boundedly; what it owns ends with it."""

import socket
import subprocess
import sys
import time

import psutil
import pytest

from contracts.errors import UsageError
from contracts.settings import Settings
from local import processes, services, supervisor
from local.services import Service
from local.supervisor import Child


@pytest.fixture
def home(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path


def service(code: str) -> Service:
    return Service("sleeper", [sys.executable, "-c", code], {}, lambda: True)


def tend_until(child: Child, home, condition, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        child.tend(home)
        time.sleep(0.02)


def test_what_dies_is_started_again(home):
    child = Child(service("import time; time.sleep(600)"), home / "log")
    child.tend(home)
    first = child.process.pid
    assert processes.running(home, "sleeper").pid == first
    child.process.kill()
    tend_until(child, home, lambda: child.process is not None and child.process.pid != first)
    assert processes.running(home, "sleeper").pid == child.process.pid
    child.stop(home)
    assert processes.running(home, "sleeper") is None


def test_what_keeps_dying_is_given_up(home, monkeypatch):
    monkeypatch.setattr(supervisor, "BACKOFF_SECONDS", 0.01)
    child = Child(service("raise SystemExit('no')"), home / "log")
    tend_until(child, home, lambda: child.given_up)
    assert processes.given_up(home) == ["sleeper"]
    assert (home / "log").read_text().count("no") == supervisor.DEATHS
    child.tend(home)
    assert child.process is None


def test_stopping_takes_stubborn_grandchildren_along(home, tmp_path):
    told = tmp_path / "pid"
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
    child = Child(service(f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {stubborn!r}]); time.sleep(1); "
                          f"open({str(told)!r}, 'w').write(str(p.pid)); time.sleep(600)"), home / "log")
    child.tend(home)
    tend_until(child, home, lambda: told.exists() and told.read_text())
    grandchild = int(told.read_text())
    child.stop(home)
    assert not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE


def test_somebody_elses_pid_is_never_touched(home):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        processes.remember(home, "milvus", bystander.pid)
        path = processes.pid_file(home, "milvus")
        path.write_text(path.read_text().replace('"started": ', '"started": 1'))  # the pid was given anew since
        assert processes.running(home, "milvus") is None
        processes.stop_leftovers(home)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_killed_supervisors_services_are_stopped(home):
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    processes.remember(home, "milvus", orphan.pid)
    assert processes.stop(home) == ["milvus"]
    orphan.wait(10)
    assert not psutil.pid_exists(orphan.pid)
    assert processes.stop(home) == [], "stopping twice is harmless"


def test_a_taken_port_is_named_with_its_variable(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        settings = Settings(_env_file=None, home=tmp_path, serving_port=port)
        with pytest.raises(UsageError, match=rf"port {port} for serving .*MARQUEE_SERVING_PORT"):
            services.require_free_ports(settings, [Service("serving", [], {}, lambda: True, "serving_port")])
