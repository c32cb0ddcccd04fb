"""A throw-away home of a small seeded catalogue with one live release, and the real processes that serve it."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx

from contracts import clock
from contracts.landing import FORMAT_VERSION, MARKER
from contracts.release import State
from contracts.settings import REPOSITORY, Settings
from ledger import open_ledger
from local.services import milvus_command, wait_for_port
from tests.serving.online_rows import write_online_rows
from tests.serving.tiny_world import KEY, NOW, Catalogue, build_release

RELEASE = "2026-03-31-launches"
FIRST_DAY = date(2025, 6, 1)
"""Each landing is an interval of its own, a day of the home's past."""
READY_SECONDS = 180.0


@dataclass
class Home:
    settings: Settings
    catalogue: Catalogue
    landed: int = 0

    def land(self, titles: list[dict], licences: list[dict]) -> float:
        """Lands one interval, as docs/data/landing.md says; the moment when it was complete (monotonic)."""
        day = FIRST_DAY + timedelta(days=self.landed)
        self.landed += 1
        stamp = f"{day}T12:00:00Z"
        common = {"event_time": stamp, "received_at": stamp}
        aside = self.settings.landing / f".{day}"
        aside.mkdir(parents=True)
        for table, rows in (("titles", titles), ("licences", licences)):
            lines = [json.dumps({**common, "event_id": f"{table}-{day}-{i}", **row}) for i, row in enumerate(rows)]
            (aside / f"{table}.jsonl").write_text("\n".join(lines))
        (aside / MARKER).write_text(json.dumps({"format_version": FORMAT_VERSION, "source": "bench", "first": str(day), "last": str(day),
                                                "tables": {"titles": len(titles), "licences": len(licences)}}))
        aside.rename(self.settings.landing / str(day))
        return time.monotonic()

    def launches(self, seconds: float = 0.0, every: float = 0.0) -> None:
        """`marquee launches`, as the DAG runs it; raises where it fails."""
        command = [sys.executable, "-m", "jobs.cli", "launches", "--for", str(seconds), "--every", str(every)]
        done = subprocess.run(command, cwd=REPOSITORY, env=self.environment(),
                              capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise RuntimeError(f"marquee launches: {done.stderr.strip()[-2000:]}")

    def environment(self) -> dict[str, str]:
        bare = {name: value for name, value in os.environ.items() if not name.startswith("MARQUEE_")}
        return bare | {"MARQUEE_HOME": str(self.settings.home), "MARQUEE_MILVUS_PORT": str(self.settings.milvus_port),
                       "MARQUEE_TOKEN_SECRET": KEY, "MARQUEE_MIN_FREE_GB": "0.1", "OMP_NUM_THREADS": "1"}


@contextmanager
def home(folder: Path, titles: int, seed: int) -> Iterator[tuple[Home, str]]:
    """The home and the address of its API; what was started ends on leaving."""
    settings = Settings(_env_file=None, home=folder, milvus_port=free_port(), token_secret=KEY)
    clock.set_now(folder, NOW)
    processes: list[subprocess.Popen] = []

    def start(command: list[str]) -> None:
        with (folder / f"{len(processes)}.log").open("w") as log:
            processes.append(subprocess.Popen(command, cwd=REPOSITORY, env=made.environment(), stdout=log, stderr=log))

    made = Home(settings, Catalogue(titles, seed))
    try:
        start(milvus_command(folder / "milvus", settings.milvus_port))
        wait_for_port(settings.milvus_port, seconds=READY_SECONDS)
        build_release(settings, made.catalogue, RELEASE, seed, pool_size=100)
        write_online_rows(settings)
        _make_live(made)
        made.launches()
        port = free_port()
        start([sys.executable, "-m", "serving", "--port", str(port)])
        address = f"http://127.0.0.1:{port}"
        _until(lambda: httpx.get(f"{address}/readyz", trust_env=False).status_code == 200)
        yield made, address
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(60)


def _make_live(home: Home) -> None:
    ledger = open_ledger(home.settings)
    ledger.append_eligibility(home.catalogue.log)
    ledger.begin(RELEASE, RELEASE[:10], "bench")
    for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
        ledger.move(RELEASE, state, "bench")
    pointer = ledger.switch(ledger.propose(RELEASE, 0).version, datetime.now(UTC) + timedelta(minutes=5))
    ledger.confirm(pointer.version)
    ledger.close()


def _until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"the API was not ready after {READY_SECONDS:.0f} s")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
