"""`python -m local.supervisor`: owns the services of MARQUEE_HOME until it gets SIGTERM. One log file a service;
a service that dies is started again, more slowly each time; one that keeps dying is left alone and said to be.
"""

import logging
import signal
import subprocess
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from contracts.settings import REPOSITORY, Settings, load
from local import processes
from local.services import Service, all_services

DEATHS, WITHIN_SECONDS = 6, 300.0
"""A service that dies this often within this time is given up."""

BACKOFF_SECONDS = 2.0
"""Before the first restart; doubled at each further one, 30 s at most."""

log = logging.getLogger("marquee.supervisor")


@dataclass
class Child:
    """A service and its life so far."""

    service: Service
    log_file: Path
    process: subprocess.Popen | None = None
    deaths: deque[float] = field(default_factory=lambda: deque(maxlen=DEATHS))
    not_before: float = 0.0
    given_up: bool = False

    def start(self, home: Path) -> None:
        with self.log_file.open("a") as file:
            self.process = subprocess.Popen(self.service.command, cwd=REPOSITORY, env=self.service.environment,
                                            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
        processes.remember(home, self.service.name, self.process.pid)
        log.info("%s started, pid %d", self.service.name, self.process.pid)

    def tend(self, home: Path) -> None:
        """Starts the service where it does not run and may."""
        now = time.monotonic()
        if self.process and self.process.poll() is not None:
            self.deaths.append(now)
            log.warning("%s died with exit code %s", self.service.name, self.process.returncode)
            self.process = None
            self.not_before = now + min(BACKOFF_SECONDS * 2 ** (len(self.deaths) - 1), 30.0)
            if len(self.deaths) == DEATHS and now - self.deaths[0] < WITHIN_SECONDS:
                self.given_up = True
                processes.give_up(home, self.service.name)
                log.error("%s died %d times; see %s", self.service.name, DEATHS, self.log_file)
        if self.process is None and not self.given_up and now >= self.not_before:
            self.start(home)

    def stop(self, home: Path) -> None:
        if self.process and self.process.poll() is None:
            processes.end_tree(psutil.Process(self.process.pid), processes.STOP_SECONDS)
            self.process.wait()
            log.info("%s stopped", self.service.name)
        processes.pid_file(home, self.service.name).unlink(missing_ok=True)


def run(settings: Settings) -> None:
    """Tends the services until SIGTERM or SIGINT, then stops them, newest first."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    processes.remember(settings.home, processes.SUPERVISOR, psutil.Process().pid)
    children = [Child(service, settings.logs / f"{service.name}.log") for service in all_services(settings)]
    while not stopping:
        for child in children:
            child.tend(settings.home)
        time.sleep(0.5)
    for child in reversed(children):
        child.stop(settings.home)
    processes.pid_file(settings.home, processes.SUPERVISOR).unlink(missing_ok=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run(load())
