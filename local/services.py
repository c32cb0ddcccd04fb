"""What runs beside the code in the embedded default, and `up` and `down`."""

import fcntl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console

from contracts.errors import MarqueeError, UsageError
from contracts.settings import REPOSITORY, Settings
from local import airflow_environment, home, processes
from local.airflow_api import Airflow
from local.ports import LOOPBACK, answers, is_free, wait_for_port

__all__ = ["Service", "all_services", "down", "milvus_command", "up", "wait_for_port"]

START_SECONDS = 180.0
"""Airflow is up in 20-30 s on a quiet machine of two cores."""

POOLS = {
    "spark": (1, "Tasks that write the lake or start a JVM: one at a time"),
    "launches": (2, "Eligibility must not wait for a night, nor a night for the minute's run"),
}


@dataclass(frozen=True)
class Service:
    """One supervised process; `answers` says whether it works, not only whether it runs."""

    name: str
    command: list[str]
    environment: dict[str, str]
    answers: Callable[[], bool]
    port_setting: str = ""


def milvus_command(data_dir: Path, port: int) -> list[str]:
    """Milvus Lite on loopback. One process owns a data folder, so jobs and serving share this server."""
    program = Path(sys.executable).with_name("milvus-lite")
    return [str(program), "server", "--data-dir", str(data_dir), "--host", LOOPBACK, "--port", str(port)]


def all_services(settings: Settings) -> list[Service]:
    """In the order of their start; they stop in the reverse order."""
    python, base = sys.executable, airflow_environment.base(settings)
    airflow, airflow_env = [python, "-m", "airflow"], airflow_environment.environment(settings)

    def airflow_part(part: str) -> Callable[[], bool]:
        return lambda: airflow_health(settings).get(part) == "healthy"

    return [
        Service("milvus", milvus_command(settings.home / "milvus", settings.milvus_port), base,
                lambda: answers(settings.milvus_port), "milvus_port"),
        Service("airflow-api", [*airflow, "api-server"], airflow_env, airflow_part("metadatabase"), "airflow_port"),
        Service("airflow-dag-processor", [*airflow, "dag-processor"], airflow_env, airflow_part("dag_processor")),
        Service("airflow-scheduler", [*airflow, "scheduler", "--skip-serve-logs"], airflow_env, airflow_part("scheduler")),
        Service("serving", [python, "-m", "serving", "--port", str(settings.serving_port)], base,
                lambda: ok(f"{settings.serving_address()}/healthz"), "serving_port"),
    ]


def up(settings: Settings, as_json: bool) -> None:
    """Starts the services of this home and returns when all of them answer; harmless where they run already.

    Raises UsageError where a port is taken by somebody else, MarqueeError where a service does not come up.
    """
    start(settings)
    from local.status import status

    print(status(home.reread(settings), as_json))


def start(settings: Settings) -> Settings:
    """`up` without the report; returns the home's settings with the ports that it chose."""
    with _one_at_a_time(settings):
        settings = home.prepare(settings)
        services = all_services(settings)
        if not processes.supervisor_pid(settings.home):
            processes.stop_leftovers(settings.home)
            require_free_ports(settings, services)
            with _saying("Preparing Airflow's metadata"):
                _migrate(settings)
            processes.spawn_supervisor(settings.home, airflow_environment.base(settings), settings.logs / "supervisor.log")
        _wait_until_all_answer(settings, services)
        _make_pools(settings)
    return settings


def down(settings: Settings) -> None:
    """Stops what `up` started, newest first; harmless where nothing runs."""
    with _one_at_a_time(settings), _saying("Stopping services"):
        stopped = processes.stop(settings.home)
    print(f"Stopped {', '.join(stopped)}." if stopped else "Nothing was running.")


def require_free_ports(settings: Settings, services: list[Service]) -> None:
    """UsageError names the port that somebody else listens on, and the variable that chooses another."""
    for service in services:
        if service.port_setting and not is_free(port := getattr(settings, service.port_setting)):
            raise UsageError(
                f"port {port} for {service.name} is taken by another program; stop it, or choose another port with "
                f"{home.variable(service.port_setting)} (or in {settings.home / home.SETTINGS_FILE})"
            )


def _migrate(settings: Settings) -> None:
    """Airflow's metadata tables, once per Airflow version."""
    from importlib.metadata import version

    done = settings.home / "airflow" / f"migrated-{version('apache-airflow')}"
    if done.exists():
        return
    log = settings.logs / "airflow-migrate.log"
    with log.open("a") as file:
        result = subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], cwd=REPOSITORY, stdout=file, stderr=file,
                                env=airflow_environment.environment(settings), stdin=subprocess.DEVNULL)
    if result.returncode:
        raise MarqueeError(f"Airflow's metadata could not be prepared; see {log}")
    done.touch()


def _wait_until_all_answer(settings: Settings, services: list[Service]) -> None:
    deadline = time.monotonic() + START_SECONDS
    waiting = list(services)
    with _saying("Starting services") as say:
        while waiting:
            waiting = [service for service in waiting if not service.answers()]
            say(f"Waiting for {', '.join(s.name for s in waiting)}")
            for name in processes.given_up(settings.home):
                raise MarqueeError(f"{name} keeps dying; see {settings.logs / f'{name}.log'}")
            if waiting and not processes.supervisor_pid(settings.home):
                raise MarqueeError(f"the supervisor died; see {settings.logs / 'supervisor.log'}")
            if waiting and time.monotonic() > deadline:
                logs = ", ".join(str(settings.logs / f"{s.name}.log") for s in waiting)
                raise MarqueeError(f"{', '.join(s.name for s in waiting)} did not answer in {START_SECONDS:.0f} s; see {logs}")
            if waiting:
                time.sleep(0.5)


def _make_pools(settings: Settings) -> None:
    passwords = home.airflow_secrets(settings)["passwords"]
    with Airflow(settings.airflow_address(), home.ADMIN, passwords[home.ADMIN]) as airflow:
        for name, (slots, why) in POOLS.items():
            airflow.ensure_pool(name, slots, why)


def airflow_health(settings: Settings) -> dict[str, str]:
    """`healthy` or not by part: metadatabase, scheduler, dag_processor; empty where Airflow does not answer."""
    try:
        answer = httpx.get(f"{settings.airflow_address()}/api/v2/monitor/health", timeout=5).json()
        return {part: details["status"] for part, details in answer.items() if details}
    except (httpx.HTTPError, ValueError, KeyError):
        return {}


def milvus_answers(settings: Settings) -> bool:
    """Something listens at Milvus's address."""
    address = httpx.URL(settings.milvus_address())
    return answers(address.port or 19530, address.host)


def ok(url: str) -> bool:
    """The address answers 200."""
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def _one_at_a_time(settings: Settings) -> Iterator[None]:
    """Two `up`s, or an `up` and a `down`, of one home take turns."""
    (settings.home / "run").mkdir(parents=True, exist_ok=True)
    with (settings.home / "run" / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _saying(text: str) -> Iterator[Callable[[str], None]]:
    """A status line while a person watches; nothing otherwise."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(text) as status:
        yield status.update
