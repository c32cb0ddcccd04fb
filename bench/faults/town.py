"""A nano home in which a first night is live and a second one went well, kept as a copy after each of its steps.

A home's lake holds absolute paths, so there is one home, at one place; a copy is put back into that place. Milvus keeps
its data in the home, and is stopped while a copy is made.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contracts.release import State
from contracts.settings import REPOSITORY, Settings
from ledger import open_ledger
from local.services import milvus_command, wait_for_port

STEPS = ("land", "check", "launches", "ingest", "warehouse", "examples", "materialise", "begin", "towers", "index", "ranker",
         "seal", "judge", "ask", "load")
"""A night in order, from the landed day to a replica that loads the release."""

STEP_SECONDS = 900
MILVUS = "milvus"
LOAD = "import sys, pathlib; from serving.loader import load; load(pathlib.Path(sys.argv[1]))"


@dataclass(frozen=True)
class Done:
    """How one step ended."""

    step: str
    code: int
    words: str  # its last line on standard error, or what its result says of a blocked candidate

    @property
    def stopped(self) -> bool:
        return self.code != 0


class Town:
    """One home under `root`, its copies, and the night that runs in it."""

    def __init__(self, root: Path, seed: int = 7) -> None:
        self.root, self.seed = root.absolute(), seed
        self.home, self.copies = self.root / "home", self.root / f"copies-{seed}"
        self.port = 0
        self.index_touched = True
        self._milvus: subprocess.Popen | None = None

    @property
    def settings(self) -> Settings:
        return Settings(_env_file=None, home=self.home, recipe="nano", milvus_port=self.port)

    @property
    def night(self) -> dict[str, str]:
        """`ds` of the night that runs, `release` once it was begun, `live` once one is."""
        path = self.home / "night.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def say(self, **values: str) -> None:
        (self.home / "night.json").write_text(json.dumps(self.night | values))

    @property
    def landed(self) -> Path:
        return self.home / "landing" / self.night["ds"]

    @property
    def release(self) -> Path:
        return self.settings.releases / self.night["release"]

    # --- copies -----------------------------------------------------------------------------------------------------

    def has(self, copy: str) -> bool:
        return (self.copies / copy).is_dir()

    def keep(self, copy: str) -> None:
        """The home as it is now, under a name; complete or not there."""
        with self._milvus_down():
            self.copies.mkdir(parents=True, exist_ok=True)
            aside = self.copies / f".{copy}"
            _copy(self.home, aside)
            aside.rename(self.copies / copy)

    def restore(self, copy: str) -> None:
        """The index stays as it is and Milvus runs on, unless somebody changed it: a collection is made anew where it is
        not right, and a start of Milvus costs more than most faults."""
        if self.index_touched or not (self.home / MILVUS).is_dir():
            with self._milvus_down():
                _copy(self.copies / copy, self.home)
            self.index_touched = False
            return
        for path in self.home.iterdir():
            if path.name != MILVUS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in (self.copies / copy).iterdir():
            if path.name != MILVUS:
                _copy(path, self.home / path.name)

    # --- steps ------------------------------------------------------------------------------------------------------

    def step(self, name: str) -> Done:
        """Runs one step of the night by its real command."""
        command = self._load() if name == "load" else [sys.executable, "-m", "jobs.cli", *self._arguments(name)]
        done = subprocess.run(command, cwd=REPOSITORY, env=self.environment(), capture_output=True, text=True, errors="replace", timeout=STEP_SECONDS)
        result = _last_json(done.stdout)
        if done.returncode:
            return Done(name, done.returncode, _words(name, done))
        if name == "land":
            self.say(ds=result["ds"])
        if name == "begin":
            self.say(release=result["release_id"])
        if name == "judge" and result["verdict"] == "blocked":
            return Done(name, 1, f"blocked by {', '.join(result['failed_gates'])}")
        return Done(name, 0, json.dumps(result) if result else "")

    def run(self, after: str, until: str = STEPS[-1]) -> Iterator[Done]:
        """The steps after one, each by its real command, until one stops the night."""
        for name in STEPS[STEPS.index(after) + 1 : STEPS.index(until) + 1]:
            done = self.step(name)
            yield done
            if done.stopped:
                return

    def make_live(self) -> None:
        """What an approver and a swap would do, as the ledger sees it: this bench is about what stands before them."""
        ledger, release = open_ledger(self.settings), self.night["release"]
        pointer = ledger.pointer()
        if ledger.get(release).state != State.AWAITING_APPROVAL:
            ledger.move(release, State.AWAITING_APPROVAL, "faults", "bench")
        proposed = ledger.propose(release, pointer.version if pointer else 0)
        probing = ledger.switch(proposed.version, datetime.now(UTC) + timedelta(minutes=10), actor="faults", reason="bench")
        ledger.confirm(probing.version, actor="faults", reason="bench")
        ledger.close()
        self.say(live=release)

    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MARQUEE_", "AIRFLOW"))}
        return own | {"MARQUEE_HOME": str(self.home), "MARQUEE_RECIPE": "nano", "MARQUEE_MILVUS_PORT": str(self.port),
                      "MARQUEE_SERVING_PORT": str(_free_port())}

    def _arguments(self, name: str) -> tuple[str, ...]:
        ds, release = ("--ds", self.night.get("ds", "")), ("--release", self.night.get("release", ""))
        if name == "land":
            more = ("--next",) if self.night else ()
            return ("land", "world", "--recipe", "nano", "--seed", str(self.seed), *more)
        if name == "check":
            return ("land", "check", str(self.landed), "--json")
        if name == "launches":
            return ("launches",)
        if name == "begin":
            return ("release", "begin", *ds)
        if name in ("seal", "ask"):
            return ("release", name, *release)
        return (name, *(ds if name in ("ingest", "warehouse", "examples", "materialise") else release))

    def _load(self) -> list[str]:
        return [sys.executable, "-c", LOAD, str(self.release)]

    # --- Milvus -----------------------------------------------------------------------------------------------------

    def start_milvus(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.port = _free_port()
        with (self.root / "milvus.log").open("a") as log:
            self._milvus = subprocess.Popen(milvus_command(self.home / MILVUS, self.port), stdout=log, stderr=log)
        wait_for_port(self.port, seconds=300)

    def stop_milvus(self) -> None:
        if self._milvus:
            self._milvus.terminate()
            self._milvus.wait(60)
            self._milvus = None

    @contextmanager
    def _milvus_down(self) -> Iterator[None]:
        ran = self._milvus is not None
        self.stop_milvus()
        yield
        if ran:
            self.start_milvus()


def good_nights(town: Town) -> None:
    """Makes the copies that are missing: a live first night, then a second one, step by step."""
    if not town.has("first"):
        shutil.rmtree(town.home, ignore_errors=True)
        town.start_milvus()
        _well(town, STEPS[:-1])
        town.make_live()
        town.keep("first")
    done = [name for name in STEPS if town.has(name)]
    town.restore(done[-1] if done else "first")
    if town._milvus is None:
        town.start_milvus()
    for name in STEPS[len(done) :]:
        _well(town, (name,))
        town.keep(name)
    town.index_touched = False


def _well(town: Town, steps: tuple[str, ...]) -> None:
    for name in steps:
        done = town.step(name)
        print(f"{datetime.now():%H:%M:%S} {name}: {'stopped: ' + done.words if done.stopped else 'done'}", file=sys.stderr, flush=True)
        if done.stopped:
            raise RuntimeError(f"the good night stopped at {name}: {done.words}")


def _copy(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    subprocess.run(["cp", "-a", "--reflink=auto", str(source), str(target)], check=True)


def _last_json(text: str) -> dict:
    lines = text.strip().splitlines()
    try:
        return json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}


def _words(name: str, done: subprocess.CompletedProcess) -> str:
    said = "; ".join(_last_json(done.stdout).get("problems", [])) if name == "check" else done.stderr
    lines = [line for line in said.strip().splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit code {done.returncode}")[:600]


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
