"""A real server on loopback that serves one release as of any moment, and the clients that replay requests against it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx

from contracts import paths
from contracts.errors import MarqueeError
from contracts.settings import REPOSITORY, Settings
from jobs.runtime import progress_visible

STOP_SECONDS = 10.0
REQUEST_SECONDS = 30.0

DIE_WITH_PARENT = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG; it survives exec
os.execv(sys.argv[1], sys.argv[1:])
"""
"""A judge that is killed takes its server with it. Not a preexec_fn: that forks with gRPC's threads in the process,
whose fork handlers crash or hang the child."""


@dataclass(frozen=True)
class Ask:
    """One shelf to ask for."""

    request_id: str
    profile_id: str
    moment: datetime
    device: str
    surface: str


@dataclass(frozen=True)
class Answer:
    """What the shadow server said; `error` is None for a shelf. `pool` is in retrieval's order, `ranked` in the ranker's."""

    request_id: str
    titles: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    pool: tuple[str, ...] = ()
    unranked: tuple[str, ...] = ()
    ranked: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()
    no_eligible_titles: bool = False
    eligibility_seq: int = 0
    milliseconds: float = 0.0
    error: str | None = None


@contextmanager
def server(settings: Settings, release_id: str, member_state: Path, ready_seconds: float) -> Iterator[str]:
    """The address of a shadow server of the release, stopped on leaving whatever happens.

    Raises MarqueeError with the end of its log where it does not come up.
    """
    port = _free_port()
    log = settings.logs / f"shadow-{release_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "serving", "--shadow", "--release", release_id,
               "--member-state", str(member_state), "--port", str(port)]
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-c", DIE_WITH_PARENT, *command], cwd=REPOSITORY,
                                   env=_environment(settings), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(process, address, ready_seconds, log)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def replay(address: str, asks: Sequence[Ask], size: int, threads: int) -> list[Answer]:
    """The answers in the order of `asks`; a failed request is an answer with an error, never an exception."""
    limits = httpx.Limits(max_connections=threads, max_keepalive_connections=threads)
    with httpx.Client(base_url=address, timeout=REQUEST_SECONDS, limits=limits, trust_env=False) as client, \
            ThreadPoolExecutor(threads) as workers:
        answers = workers.map(lambda ask: _answer(client, ask, size), asks)
        if progress_visible():
            from rich.progress import track
            answers = track(answers, "asking for shelves", total=len(asks))
        return list(answers)


def _answer(client: httpx.Client, ask: Ask, size: int) -> Answer:
    parameters = {"as_of": ask.moment.isoformat(), "device": ask.device, "surface": ask.surface, "size": size, "debug": "true"}
    start = time.perf_counter()
    try:
        response = client.get(paths.shelf(ask.profile_id), params=parameters)
        milliseconds = (time.perf_counter() - start) * 1000.0
        if response.status_code != 200:
            return Answer(ask.request_id, milliseconds=milliseconds, error=f"{response.status_code}: {response.text[:200]}")
        shelf = response.json()
        pool = shelf["pool"]
        by_score = sorted(zip(pool["ranker_scores"], pool["title_ids"], strict=True), key=lambda pair: (-pair[0], pair[1]))
        return Answer(
            ask.request_id, tuple(title["title_id"] for title in shelf["titles"]),
            tuple(title["name"] for title in shelf["titles"]), tuple(pool["title_ids"]), tuple(pool["unranked"]),
            tuple(title for _, title in by_score), tuple(shelf.get("degraded") or ()),
            bool(shelf.get("no_eligible_titles")), int(shelf["eligibility_seq"]), milliseconds,
        )
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return Answer(ask.request_id, error=f"{type(error).__name__}: {error}")


def _wait(process: subprocess.Popen, address: str, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise MarqueeError(f"the shadow server exited with {process.returncode}: {_tail(log)} (all of it: {log})")
        try:
            if not httpx.get(f"{address}/readyz", timeout=2.0, trust_env=False).json()["missing"]:
                return  # the vector database too: a release is not judged by its fallback
        except (httpx.HTTPError, ValueError, KeyError):
            pass
        time.sleep(0.2)
    raise MarqueeError(f"the shadow server was not ready after {seconds:.0f} s: {_tail(log)} (all of it: {log})")


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return " | ".join(lines[-3:]) or "its log is empty"


def _environment(settings: Settings) -> dict[str, str]:
    """This process's settings, also those that came from elsewhere than the environment."""
    said = {f"MARQUEE_{name.upper()}": str(getattr(settings, name)) for name in settings.model_fields_set}
    return os.environ | said


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
