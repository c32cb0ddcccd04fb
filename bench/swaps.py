"""Swaps between two releases under steady load: no request fails, and no answer mixes two releases.

    python -m bench.swaps --swaps 1000 --seed 7 --out results.jsonl

Two real releases, real replicas, Milvus Lite and the ledger on loopback; each swap is `marquee release rollback --to` the
other release, in this process: verify, catch up, two phases, probe from outside. Clients ask at a steady pace all along.
Every answer is recomputed from both releases' files (bench/recompute.py); which release it was is read off the scores, and
only then compared with the label. One line of results a swap; run again with the same file, it goes on where it stopped.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from queue import SimpleQueue

import httpx
import numpy as np
import pandas as pd

from bench.homes import Home, ready
from bench.recompute import Known, Recomputed, computed_by, difference
from contracts.eligibility import Eligibility
from contracts.marts import PROFILE_FEATURES
from contracts.query import Profile
from jobs.release.probe import confirm_or_revert
from jobs.release.rollback import rollback
from jobs.release.swap import two_phases
from ledger import Ledger, open_ledger
from tests.serving.online_rows import ONLINE_MEMBERS, values
from tests.serving.tiny_world import MARKETS, NOW, token

ONE, OTHER = "2026-03-31-aaaaaaaaaa", "2026-03-31-bbbbbbbbbb"
DEVICES = ("tv", "mobile", "")
SIZE = 20


@dataclass
class Asked:
    """One request and what came of it; `answer` is None where it failed."""

    profile: str
    market: str
    device: str
    seconds: float
    answer: dict | None
    error: str = ""


@dataclass
class Load:
    """Clients that ask in turn, each at its own pace, until stopped."""

    home: Home
    clients: int
    pace: float
    seed: int
    asked: SimpleQueue = field(default_factory=SimpleQueue)
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self, replicas: list[str] | None = None) -> None:
        """`replicas` names whom to ask; all of them without it."""
        self._addresses = [address for name, address in self.home.addresses.items() if not replicas or name in replicas]
        self._pool = ThreadPoolExecutor(self.clients, "client")
        self._running = [self._pool.submit(self._client, number) for number in range(self.clients)]

    def stop(self) -> None:
        self.stopped.set()
        self._pool.shutdown()
        for one in self._running:
            one.result()

    def take(self) -> list[Asked]:
        found = []
        while not self.asked.empty():
            found.append(self.asked.get())
        return found

    def _client(self, number: int) -> None:
        rng, address = random.Random(self.seed * 1000 + number), self._addresses[number % len(self._addresses)]
        with httpx.Client(base_url=address, timeout=30) as api:
            while not self.stopped.wait(rng.uniform(0.5, 1.5) / self.pace):
                profile = rng.choice([*ONLINE_MEMBERS, f"stranger{rng.randrange(50)}"])
                market, device = rng.choice(MARKETS), rng.choice(DEVICES)
                self.asked.put(_ask(api, profile, market, device))


def _ask(api: httpx.Client, profile: str, market: str, device: str) -> Asked:
    headers = {"Authorization": f"Bearer {token([profile], market)}"}
    began = time.perf_counter()
    try:
        reply = api.get(f"/v1/profiles/{profile}/shelf", params={"size": SIZE, "device": device}, headers=headers)
        error = "" if reply.status_code == 200 else f"{reply.status_code}: {reply.text[:200]}"
        answer = reply.json() if not error else None
        error = error or ("" if answer["titles"] else "an empty shelf")
    except httpx.HTTPError as failure:
        answer, error = None, f"{type(failure).__name__}: {failure}"
    return Asked(profile, market, device, time.perf_counter() - began, answer if not error else None, error)


def known(profile: str, market: str) -> Known:
    """What write_online_rows put into the store, said once more; a token for one profile speaks of its limit."""
    stamp = pd.Timestamp(NOW - timedelta(hours=6))
    if profile not in ONLINE_MEMBERS:
        return Known(Profile(profile, market, maturity_limit=18))
    _, limit, titles = ONLINE_MEMBERS[profile]
    declared = Profile(profile, market, household_id="h1", is_kids=profile == "kid", maturity_limit=min(18, 18 if limit is None else limit),
                       preferred_genres=["drama"], language="en")
    history = tuple((title, NOW.timestamp() - 3600.0 * (9 - i), 0.9, float("nan")) for i, title in enumerate(titles))
    fresh = {name: values(name, stamp) for name in PROFILE_FEATURES} if profile == "adult" else {}
    return Known(declared, history, fresh)


@dataclass
class Judge:
    """Looks at answers: failed, mixed (no release gives these scores), mislabelled. An answer is held against both logs
    as they were at its own numbers."""

    releases: dict[str, Recomputed]
    ledger: Ledger
    _then: dict[tuple[int, int], tuple[dict[str, Recomputed], Eligibility]] = field(default_factory=dict)

    def then(self, overlay_seq: int, eligibility_seq: int) -> tuple[dict[str, Recomputed], Eligibility]:
        """Both releases with their overlays, and the eligibility log, up to these numbers."""
        if (overlay_seq, eligibility_seq) not in self._then:
            state = Eligibility()
            while records := [r for r in self.ledger.eligibility_since(state.seq) if r.seq <= eligibility_seq]:
                state.apply(records)
            beside = {name: release.beside(r for r in self.ledger.overlay_since(name, 0) if r.seq <= overlay_seq)
                      for name, release in self.releases.items()}
            self._then[overlay_seq, eligibility_seq] = beside, state
        return self._then[overlay_seq, eligibility_seq]

    def figures(self, asked: list[Asked]) -> dict:
        failed = [one.error for one in asked if one.answer is None]
        disagree, degraded, examples = 0, 0, failed[:3]
        for one in asked:
            if one.answer is None:
                continue
            degraded += bool(one.answer["degraded"])
            releases, eligible = self.then(one.answer["overlay_seq"], one.answer["eligibility_seq"])
            found = computed_by(one.answer, known(one.profile, one.market), one.device, releases, eligible)
            if found != [one.answer["release_id"]]:
                disagree += 1
                said = {name: difference(one.answer, known(one.profile, one.market), one.device, release, eligible) for name, release in releases.items()}
                examples.append(f"{one.profile} in {one.market} on {one.device}: computed by {found}; {said}; {json.dumps(one.answer)}")
        milliseconds = [one.seconds * 1000 for one in asked]
        return {"requests": len(asked), "failed": len(failed), "disagree": disagree, "degraded": degraded,
                "ms": [round(value, 1) for value in milliseconds], "examples": examples[:3]}


def prepare(folder: Path, seed: int, replicas: int) -> Home:
    """Both releases, ONE live, OTHER live before it."""
    home = Home.make(folder, seed)
    try:
        _prepare(home, seed, replicas)
    except BaseException:
        home.stop()
        raise
    return home


def _prepare(home: Home, seed: int, replicas: int) -> None:
    for release, kind in ((ONE, 1), (OTHER, 2)):
        home.release(release, seed * 10 + kind)
    home.members()
    for number in range(replicas):
        home.start_serving("serving" if not number else f"serving{number}")
    ledger = open_ledger(home.settings)
    for release in (OTHER, ONE):
        pointer = two_phases(ledger, release, 120, "bench", "first", {}, on_timeout=None)
        confirm_or_revert(home.settings, ledger, pointer, 60)
        ready(ledger, release, replicas)


def run(folder: Path, out: Path, swaps: int, seed: int, clients: int, pace: float, replicas: int, steady_seconds: float) -> dict:
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    first = sum(row["kind"] == "swap" for row in done)
    home = prepare(folder, seed, replicas)
    load = Load(home, clients, pace, seed + first)
    try:
        judge = Judge({name: Recomputed(home.settings.releases / name) for name in (ONE, OTHER)}, open_ledger(home.settings))
        load.start()
        time.sleep(2)
        load.take()
        with out.open("a") as file:
            _steady(load, judge, steady_seconds, file)
            for number in range(first, swaps):
                _swap(home, load, judge, number, file)
            _steady(load, judge, steady_seconds, file)
    finally:
        load.stop()
        home.stop()
    return summary(out)


def _steady(load: Load, judge: Judge, seconds: float, file) -> None:
    time.sleep(seconds)
    _write(file, {"kind": "steady", "seconds": seconds, **judge.figures(load.take())})


def _swap(home: Home, load: Load, judge: Judge, number: int, file) -> None:
    to = open_ledger(home.settings).pointer().previous or ONE
    began = time.perf_counter()
    rollback(home.settings, to, f"swap {number}", "bench")
    seconds = time.perf_counter() - began
    _write(file, {"kind": "swap", "number": number, "to": to, "seconds": round(seconds, 3), **judge.figures(load.take())})
    if number % 10 == 0 and sys.stderr.isatty():
        print(f"{number} swaps", file=sys.stderr)


def _write(file, row: dict) -> None:
    file.write(json.dumps(row) + "\n")
    file.flush()


def summary(out: Path) -> dict:
    """Over all lines of the file."""
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    swaps, steady = ([row for row in rows if row["kind"] == kind] for kind in ("swap", "steady"))
    total = {key: sum(row[key] for row in rows) for key in ("requests", "failed", "disagree", "degraded")}
    latency = {f"{name}_p{q}_ms": round(float(np.percentile([ms for row in part for ms in row["ms"]], q)), 1)
               for name, part in (("swapping", swaps), ("steady", steady)) for q in (50, 99) if any(row["ms"] for row in part)}
    taken = sorted(row["seconds"] for row in swaps)
    return {"swaps": len(swaps), **total, **latency, "swap_p50_s": taken[len(taken) // 2] if taken else None, "swap_worst_s": taken[-1] if taken else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("swaps", 1000), ("seed", 7), ("clients", 4), ("replicas", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--pace", type=float, default=5.0, help="requests a second of each client")
    parser.add_argument("--steady", type=float, default=30.0, help="seconds of load without swaps, before and after")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="marquee-swaps-") as folder:
        found = run(Path(folder), options.out, options.swaps, options.seed, options.clients, options.pace, options.replicas, options.steady)
    print(json.dumps(found))
    sys.exit(int(bool(found["failed"] or found["disagree"])))


if __name__ == "__main__":
    main()
