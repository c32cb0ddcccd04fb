"""Shared fixtures: one nano world a session, taken as far down the line as a test asks, by the real commands."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import prometheus_client  # noqa: F401  before Feast, whose import makes all registries of a process share their values
import pytest

from contracts.settings import REPOSITORY, Settings
from local.ports import free_port

DATA = REPOSITORY.parent / "shared" / "data"


@dataclass
class Nano:
    """A home with a nano world; `reach(stage)` runs the commands up to that stage once."""

    home: Path
    environment: dict[str, str]
    done: dict[str, dict] = field(default_factory=dict)

    STAGES = ("land", "launches", "ingest", "warehouse", "examples", "begin", "towers", "index", "ranker", "seal", "judge")

    def run(self, *args: str, check: bool = True) -> subprocess.CompletedProcess:
        """Runs `marquee …` in this home."""
        done = subprocess.run([sys.executable, "-m", "jobs.cli", *args], cwd=REPOSITORY, env=self.environment,
                              capture_output=True, text=True, timeout=900)
        if check and done.returncode:
            raise AssertionError(f"marquee {' '.join(args)} exited {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
        return done

    def result(self, *args: str) -> dict:
        return json.loads(self.run(*args).stdout.strip().splitlines()[-1])

    def reach(self, stage: str) -> "Nano":
        """The home with every stage up to `stage` done."""
        for name in self.STAGES[: self.STAGES.index(stage) + 1]:
            if name not in self.done:
                self.done[name] = self.result(*self._command(name))
        return self

    def _command(self, stage: str) -> tuple[str, ...]:
        if stage == "land":
            return ("land", "world", "--recipe", "nano")
        if stage == "launches":
            return ("launches",)
        if stage == "begin":
            return ("release", "begin", "--ds", self.ds)
        if stage == "seal":
            return ("release", "seal", "--release", self.release_id)
        if stage in ("towers", "index", "ranker", "judge"):
            return (stage, "--release", self.release_id)
        return (stage, "--ds", self.ds)

    @property
    def ds(self) -> str:
        return self.done["land"]["ds"]

    @property
    def release_id(self) -> str:
        return self.done["begin"]["release_id"]

    @property
    def settings(self) -> Settings:
        return Settings(_env_file=None, home=self.home, recipe="nano", milvus_port=int(self.environment["MARQUEE_MILVUS_PORT"]))


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch) -> None:
    """No test sees the settings of whoever runs it, or those that an earlier test left in the environment."""
    for name in [name for name in os.environ if name.startswith("MARQUEE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def milvus_port(tmp_path_factory) -> int:
    """A real Milvus Lite server on loopback, for the session."""
    from local.services import milvus_command, wait_for_port

    port = free_port()
    log = (tmp_path_factory.mktemp("milvus") / "milvus.log").open("w")
    process = subprocess.Popen(milvus_command(tmp_path_factory.mktemp("milvus-data"), port), stdout=log, stderr=log)
    try:
        wait_for_port(port, seconds=60)
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="session")
def nano(tmp_path_factory, milvus_port) -> Nano:
    home = tmp_path_factory.mktemp("nano")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MARQUEE_")}
    environment |= {"MARQUEE_HOME": str(home), "MARQUEE_RECIPE": "nano", "MARQUEE_MILVUS_PORT": str(milvus_port)}
    return Nano(home, environment)


@pytest.fixture(scope="session")
def movielens_small() -> Path:
    folder = DATA / "ml-latest-small"
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/ml-latest-small, which is not here")
    return folder
