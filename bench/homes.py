"""Throw-away homes for benchmarks that break things: real releases of a small seeded catalogue, real servers on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from contracts import clock
from contracts.release import Manifest, State
from contracts.settings import REPOSITORY, Settings
from jobs.release import files
from ledger import Ledger, open_ledger
from local.ports import free_port
from tests.serving.online_rows import write_online_rows
from tests.serving.tiny_world import KEY, NOW, Catalogue, build_release

READY_SECONDS = 600.0
"""A process of low priority on a busy machine takes minutes to import what it needs."""
GENEROUS_MS = "5000"
"""Budgets of search and hydration: on a busy machine a fallback would answer instead, rightly, but of no release's pool."""


@dataclass
class Home:
    """A home and what runs for it; everything started here ends with `stop`."""

    settings: Settings
    catalogue: Catalogue
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, seed: int, database_url: str = "") -> "Home":
        """An empty home with a clock, a catalogue and its eligibility log; Milvus runs."""
        port = free_port()
        settings = Settings(_env_file=None, home=folder, milvus_port=port, token_secret=KEY, database_url=database_url)
        home = cls(settings, Catalogue(150, seed=seed))
        clock.set_now(folder, NOW)
        home.start_milvus()
        open_ledger(settings).append_eligibility(home.catalogue.log)
        return home

    def environment(self, **more: str) -> dict[str, str]:
        bare = {key: value for key, value in os.environ.items() if not key.startswith("MARQUEE_")}
        return bare | {"MARQUEE_HOME": str(self.settings.home), "MARQUEE_MILVUS_PORT": str(self.settings.milvus_port),
                       "MARQUEE_TOKEN_SECRET": KEY, "MARQUEE_DATABASE_URL": self.settings.database_url,
                       "MARQUEE_SERVING_PORT": str(self.settings.serving_port), "MARQUEE_MIN_FREE_GB": "0.1",
                       "MARQUEE_SEARCH_BUDGET_MS": GENEROUS_MS, "MARQUEE_HYDRATE_BUDGET_MS": GENEROUS_MS, "OMP_NUM_THREADS": "1"} | more

    def release(self, release_id: str, seed: int, **options) -> Manifest:
        """A release that awaits approval: files, collection, ledger."""
        build_release(self.settings, self.catalogue, release_id, seed, **options)
        manifest, ledger = files.manifest(self.settings, release_id), open_ledger(self.settings)
        ledger.begin(release_id, manifest.day, "bench")
        for state in (State.BUILT, State.JUDGED, State.AWAITING_APPROVAL):
            ledger.move(release_id, state, "bench")
        ledger.set_digests(release_id, manifest.payload.payload_digest)  # no evidence: it was compared with nothing
        return manifest

    def members(self) -> None:
        """Feast's online rows of the few members that tests know."""
        write_online_rows(self.settings)

    def start_milvus(self) -> None:
        program, data = Path(sys.executable).with_name("milvus-lite"), self.settings.home / "milvus"
        self._start("milvus", [str(program), "server", "--data-dir", str(data), "--host", "127.0.0.1", "--port", str(self.settings.milvus_port)])
        _until(lambda: _listens(self.settings.milvus_port), "Milvus Lite")

    def start_serving(self, name: str = "serving") -> str:
        """Another replica; its address. The first one is where the probe asks."""
        port = int(self.addresses[name].rpartition(":")[2]) if name in self.addresses else free_port()
        if not self.addresses:
            self.settings = self.settings.model_copy(update={"serving_port": port})
        self.addresses[name] = f"http://127.0.0.1:{port}"
        self._start(name, [sys.executable, "-m", "serving", "--port", str(port)])
        _until(lambda: _healthy(self.addresses[name]), f"serving at {self.addresses[name]}")
        return self.addresses[name]

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes.pop(name).wait()

    def stop(self) -> None:
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()

    def _start(self, name: str, command: list[str]) -> None:
        with (self.settings.home / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(command, cwd=REPOSITORY, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def ready(ledger: Ledger, release_id: str, replicas: int, seconds: float = READY_SECONDS) -> None:
    """Returns when so many replicas serve the release."""
    _until(lambda: sum(r.serving == release_id for r in ledger.replicas()) >= replicas, f"{replicas} replicas on {release_id}", seconds)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address}/healthz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _until(condition, what: str, seconds: float = READY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come up within {seconds:g} s")
        time.sleep(0.1)
