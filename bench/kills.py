"""SIGKILL at seeded points, then a rerun: no torn release, the same digest, and answers throughout.

    python -m bench.kills --points 200 --seed 7 --out results.jsonl [--training-set HOME]

Each point runs a real step in a process of its own, which is killed before a chosen event (bench/kill_tasks.py) or after a
chosen time, then looks at what is left, runs the step again undisturbed, and compares. Beside it clients ask the API all
along. Milvus Lite and a replica are killed too, from outside, and started again.

The steps of a build (towers, index, ranker, seal, manifest) need a training set: a nano home as far as `marquee examples`,
which is copied and never changed. Without one they are left out, and the result says so.
Every point is one line of results; run again with the same file, it goes on where it stopped.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pymilvus import MilvusClient

from bench import kill_tasks
from bench.homes import Home, ready
from bench.recompute import Recomputed
from bench.swaps import ONE, OTHER, Judge, Load, prepare
from contracts import release as names
from contracts.errors import MarqueeError
from contracts.release import PAYLOAD_FILES, State, collection_name, file_entry, payload_digest
from contracts.settings import Settings
from jobs.release import files
from ledger import open_ledger
from tests.serving.tiny_world import NOW

BUILD = ("towers", "index", "ranker", "seal", "manifest")
SHARES = {"towers": 6, "index": 24, "ranker": 10, "seal": 24, "manifest": 6, "ledger": 36, "swap": 40, "launch": 24, "collect": 20,
          "milvus": 5, "serving": 5}
"""Of 200 points; a step that takes long gets fewer."""
STEP_SECONDS = 420


class Broken(Exception):
    """A promise was broken; the message says which."""


@dataclass
class Bench:
    """The home that serves, the copy that builds, and the fork server's children."""

    home: Home
    training: Path | None
    work: Path
    rng: random.Random
    undisturbed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def child(self, stage: str, environment: dict[str, str], arguments: dict[str, Any], kill_at: int = 0, after: float = 0.0) -> int:
        """The exit code of one run of a step: -9 where it was killed, by itself at event `kill_at` or from here."""
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=kill_tasks.child, args=(stage, environment, arguments, kill_at, self.work / "said.json"))
        process.start()
        process.join(after or STEP_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
            if not after:
                raise Broken(f"{stage} did not end within {STEP_SECONDS} s")
        return process.exitcode

    def measured(self, stage: str, environment: dict[str, str], arguments: dict[str, Any]) -> dict[str, Any]:
        """Events and seconds of an undisturbed run."""
        began = time.monotonic()
        if code := self.child(stage, environment, arguments):
            raise Broken(f"an undisturbed {stage} ended with {code}")
        return json.loads((self.work / "said.json").read_text()) | {"seconds": time.monotonic() - began}


# --- steps of a build ---------------------------------------------------------------------------------------------------

def build_environment(bench: Bench, home: Path) -> dict[str, str]:
    return bench.home.environment(MARQUEE_HOME=str(home), MARQUEE_DATABASE_URL="", MARQUEE_RECIPE="nano")


def build_copy(bench: Bench) -> tuple[Path, str]:
    """(a home with the training set, its release) as `marquee release begin` leaves it; the lake is read where it lies."""
    home = bench.work / "build"
    if not home.exists():
        home.mkdir()
        for name in ("ledger.db", "clock.json"):
            shutil.copy(bench.training / name, home / name)
        for name in ("landing", "lake"):
            (home / name).symlink_to(bench.training / name)
        _begin(home)
    return home, next((home / "releases").iterdir()).name


def _begin(home: Path) -> None:
    from jobs.recipes import recipe
    from jobs.release import begin

    ds = sorted(path.name[len("nightly_"):-len(".training.json")] for path in (home / "lake" / "tags").glob("*.training.json"))[-1]
    settings = Settings(_env_file=None, home=home, recipe="nano", min_free_gb=0.1)
    begin.run(settings, ds, recipe("nano"))


def build_point(bench: Bench, stage: str, number: int) -> dict[str, Any]:
    home, release = build_copy(bench)
    environment, arguments = build_environment(bench, home), {"release": release}
    before = bench.work / f"before-{stage}"
    if stage not in bench.undisturbed:
        for earlier in BUILD[: BUILD.index(stage)]:
            if earlier not in bench.undisturbed and bench.child(earlier, environment, arguments):
                raise Broken(f"{earlier} failed before {stage}")
        _save(home, before)
        bench.undisturbed[stage] = bench.measured(stage, environment, arguments) | {"digest": _digest(home, release)}
    _restore(before, home)
    if stage == "index":
        _drop(bench, collection_name(release))
    known = bench.undisturbed[stage]
    at, after = _where(bench, known, number)
    killed = bench.child(stage, environment, arguments, at, after)
    _refuse_torn(home, release)
    if bench.child(stage, environment, arguments):
        raise Broken(f"the rerun of {stage} failed")
    _refuse_torn(home, release)
    if (digest := _digest(home, release)) != known["digest"]:
        raise Broken(f"after a kill of {stage} the digest is {digest}, undisturbed it is {known['digest']}")
    return {"killed": killed == -9, "event": at, "after": round(after, 2), "of": known["events"], "digest": digest}


def _where(bench: Bench, known: dict[str, Any], number: int) -> tuple[int, float]:
    """Before an event, or, every third time, after some seconds: work between events is hit too."""
    if number % 3 == 2:
        return 0, bench.rng.uniform(0.02, 0.95) * known["seconds"]
    return bench.rng.randint(1, known["events"]), 0.0


def _save(home: Path, before: Path) -> None:
    shutil.rmtree(before, ignore_errors=True)
    before.mkdir()
    shutil.copytree(home / "releases", before / "releases")
    with closing(sqlite3.connect(home / "ledger.db")) as source, closing(sqlite3.connect(before / "ledger.db")) as copy:
        source.backup(copy)


def _restore(before: Path, home: Path) -> None:
    shutil.rmtree(home / "releases")
    shutil.copytree(before / "releases", home / "releases")
    shutil.rmtree(home / "work", ignore_errors=True)
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (home / name).unlink(missing_ok=True)
    shutil.copy(before / "ledger.db", home / "ledger.db")


def _digest(home: Path, release: str) -> str:
    """The payload digest over the files that are there: comparable after every step."""
    folder = home / "releases" / release
    return payload_digest({name: file_entry(folder / name) for name in PAYLOAD_FILES if (folder / name).is_file()})


def _refuse_torn(home: Path, release: str) -> None:
    """What says that it is complete, is."""
    settings, folder = Settings(_env_file=None, home=home), home / "releases" / release
    try:
        if (folder / names.MANIFEST).exists():
            files.verify(settings, release)
        elif (folder / names.PAYLOAD).exists():
            sealed = files.payload(settings, release)
            wrong = [name for name, entry in sealed.files.items() if file_entry(folder / name) != entry]
            if wrong:
                raise MarqueeError(f"{', '.join(wrong)} differ from payload.json")
    except (MarqueeError, OSError) as error:
        raise Broken(f"torn: {error}") from None


def _drop(bench: Bench, name: str) -> None:
    with closing(MilvusClient(**bench.home.settings.milvus_connection())) as client:
        if client.has_collection(name):
            client.drop_collection(name)


# --- steps that touch what serves ---------------------------------------------------------------------------------------

def ledger_point(bench: Bench, number: int) -> dict[str, Any]:
    return _live_point(bench, "ledger", number, {"release": f"2026-03-31-{number:010x}"}, lambda arguments: _whole_ledger(bench, **arguments))


def _whole_ledger(bench: Bench, release: str) -> None:
    ledger = open_ledger(bench.home.settings)
    steps = [(t.from_state, t.to_state) for t in ledger.transitions(release)]
    wanted = [None, State.BUILDING, State.BUILT, State.JUDGED, State.AWAITING_APPROVAL, State.REJECTED]
    if steps != list(itertools.pairwise(wanted)) or ledger.get(release).state != State.REJECTED:
        raise Broken(f"the history of {release} is {steps}")
    keys = ledger_keys(bench.home.settings, f"{release}:%")
    if len(keys) != 20:
        raise Broken(f"the eligibility log has {len(keys)} of 20 entries of {release}")


def ledger_keys(settings: Settings, like: str) -> list[str]:
    with closing(sqlite3.connect(settings.home / "ledger.db")) as connection:
        return [row[0] for row in connection.execute("SELECT record_key FROM eligibility_log WHERE record_key LIKE ?", (like,))]


def swap_point(bench: Bench, number: int) -> dict[str, Any]:
    pointer = open_ledger(bench.home.settings).pointer()
    to = OTHER if pointer.release_id == ONE else ONE
    return _live_point(bench, "swap", number, {"to": to, "reason": f"point {number}"}, lambda arguments: _whole_swap(bench, arguments["to"]))


def _whole_swap(bench: Bench, to: str) -> None:
    ledger = open_ledger(bench.home.settings)
    pointer = ledger.pointer()
    live = [row.release_id for row in ledger.releases() if row.state == State.LIVE]
    if (pointer.release_id, pointer.phase, pointer.candidate, live) != (to, "live", None, [to]):
        raise Broken(f"after the swap to {to} the pointer is {pointer}, and {live} are live")


def launch_point(bench: Bench, number: int) -> dict[str, Any]:
    """A landed day of a title that is new and a licence of it."""
    home, day = bench.home.settings, (NOW + timedelta(days=number - 4000)).date()
    folder = home.landing / str(day)
    folder.mkdir(parents=True)
    at = f"{day}T10:00:00Z"
    rows = {"titles": [{"event_id": f"k{number}-{i}", "event_time": at, "received_at": at, "title_id": f"k{number}-{i}", "valid_from": at,
                        "name": "n", "maturity": 7} for i in range(10)],
            "licences": [{"event_id": f"w{number}-{i}", "event_time": at, "received_at": at, "title_id": f"k{number}-{i}", "market": "de",
                          "window_id": f"w{number}-{i}", "opens_at": at, "closes_at": None} for i in range(10)]}
    for table, lines in rows.items():
        (folder / f"{table}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "_landed.json").write_text(json.dumps({"format_version": 1, "source": "bench", "first": str(day), "last": str(day), "tables": {}}))

    def whole(_arguments: dict) -> None:
        titles, licences = ledger_keys(home, f"title:k{number}-%"), ledger_keys(home, f"licence:w{number}-%")
        if (len(titles), len(licences)) != (10, 10):
            raise Broken(f"the eligibility log has {len(titles)} of 10 titles and {len(licences)} of 10 licences of {day}")

    return _live_point(bench, "launch", number, {}, whole)


def collect_point(bench: Bench, number: int) -> dict[str, Any]:
    """Two old releases to collect, one of them refused, beside the live one and the one before."""
    old = [f"2026-01-01-{number:09x}{i}" for i in range(2)]
    ledger = open_ledger(bench.home.settings)
    for seed, release in enumerate(old):
        bench.home.release(release, number * 2 + seed + 100)
        ledger.move(release, State.REJECTED if seed else State.SUPERSEDED, "bench")

    def whole(_arguments: dict) -> None:
        with closing(MilvusClient(**bench.home.settings.milvus_connection())) as client:
            held = set(client.list_collections())
        left = [r for r in old if collection_name(r) in held or (bench.home.settings.releases / r / names.ITEM_VECTORS).exists()
                or ledger.get(r).state != State.COLLECTED]
        lost = [r for r in (ONE, OTHER) if collection_name(r) not in held]
        if left or lost:
            raise Broken(f"collected but still there: {left}; in use but gone: {lost}")
        for release in (ONE, OTHER):
            files.verify(bench.home.settings, release)

    return _live_point(bench, "collect", number, {}, whole)


def _live_point(bench: Bench, stage: str, number: int, arguments: dict, whole: Callable[[dict], None]) -> dict[str, Any]:
    """Kill, look, rerun, look. The first undisturbed run of the step says how many events it has."""
    environment = bench.home.environment()
    if stage not in bench.undisturbed:
        bench.undisturbed[stage] = bench.measured(stage, environment, arguments)
        whole(arguments)
        return {"killed": False, "event": 0, "after": 0.0, "of": bench.undisturbed[stage]["events"]}
    known = bench.undisturbed[stage]
    at, after = _where(bench, known, number)
    killed = bench.child(stage, environment, arguments, at, after)
    for release in (ONE, OTHER):
        files.verify(bench.home.settings, release)
    if code := bench.child(stage, environment, arguments):
        raise Broken(f"the rerun of {stage} ended with {code}")
    whole(arguments)
    return {"killed": killed == -9, "event": at, "after": round(after, 2), "of": known["events"]}


def milvus_point(bench: Bench, _number: int) -> dict[str, Any]:
    """Milvus dies under load: answers come from the release's own vectors, and say so."""
    bench.home.kill("milvus")
    time.sleep(bench.rng.uniform(0.5, 3))
    bench.home.start_milvus()
    return {"killed": True}


def serving_point(bench: Bench, _number: int) -> dict[str, Any]:
    """A replica that no client asks dies; one more starts and serves what is live."""
    bench.home.kill("spare")
    bench.home.start_serving("spare")
    ledger = open_ledger(bench.home.settings)
    ready(ledger, ledger.pointer().release_id, 1)
    return {"killed": True}


POINTS: dict[str, Callable[[Bench, int], dict[str, Any]]] = {
    "ledger": ledger_point, "swap": swap_point, "launch": launch_point, "collect": collect_point, "milvus": milvus_point,
    "serving": serving_point, **{stage: lambda bench, number, stage=stage: build_point(bench, stage, number) for stage in BUILD},
}


def plan(points: int, with_builds: bool, only: list[str] | None = None) -> list[str]:
    """The stage of each point, in order."""
    shares = {stage: share for stage, share in SHARES.items() if (with_builds or stage not in BUILD) and (not only or stage in only)}
    total = sum(shares.values())
    counts = {stage: max(1, round(points * share / total)) for stage, share in shares.items()}
    return [stage for stage in sorted(counts, key=lambda s: (s not in BUILD, list(SHARES).index(s))) for _ in range(counts[stage])][::-1]


def run(folder: Path, out: Path, points: int, seed: int, training: Path | None, only: list[str] | None = None) -> dict[str, Any]:
    done = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    left = Counter(plan(points, training is not None, only)) - Counter(row["stage"] for row in done if row["killed"] or row["broken"])
    todo = [stage for stage in dict.fromkeys(plan(points, training is not None, only)) for _ in range(left[stage])]
    if not todo:
        return summary(out)
    multiprocessing.set_forkserver_preload(["bench.kill_tasks"])
    home = prepare(folder / "home", seed, 1)
    (folder / "work").mkdir()
    bench = Bench(home, training, folder / "work", random.Random(seed * 1000 + len(done)))
    load = Load(home, 2, 2.0, seed)
    try:
        judge = Judge({name: Recomputed(home.settings.releases / name) for name in (ONE, OTHER)}, open_ledger(home.settings))
        home.start_serving("spare")  # after the clients chose whom to ask
        load.start(["serving"])
        with out.open("a") as file:
            number = len(done)
            while todo:
                stage = todo[0]
                row = _point(bench, load, judge, stage, number)
                file.write(json.dumps(row) + "\n")
                file.flush()
                number += 1
                if row["killed"] or row["broken"] or not row["of"]:
                    todo.pop(0)
    finally:
        load.stop()
        home.stop()
    return summary(out)


def _point(bench: Bench, load: Load, judge: Judge, stage: str, number: int) -> dict[str, Any]:
    load.take()
    began, broken, found = time.monotonic(), "", {"killed": False, "of": 1}
    try:
        found |= POINTS[stage](bench, number)
    except (Broken, MarqueeError, TimeoutError) as error:
        broken = str(error)
    asked = load.take()
    figures = judge.figures(asked)
    del figures["ms"]
    return {"number": number, "stage": stage, **found, "broken": broken, "seconds": round(time.monotonic() - began, 1), **figures}


def summary(out: Path) -> dict[str, Any]:
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    killed = [row for row in rows if row["killed"]]
    return {
        "points": len(killed), "by_stage": dict(Counter(row["stage"] for row in killed)), "broken": [row["broken"] for row in rows if row["broken"]],
        "torn": sum(row["broken"].startswith("torn") for row in rows), "ended_before_its_kill": sum(not row["killed"] for row in rows),
        **{key: sum(row[key] for row in rows) for key in ("requests", "failed", "disagree", "degraded")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--training-set", type=Path, help="a nano home as far as `marquee examples`")
    parser.add_argument("--only", nargs="*", choices=list(POINTS), help="only these steps")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    training = options.training_set and options.training_set.absolute()
    with tempfile.TemporaryDirectory(prefix="marquee-kills-") as folder:
        found = run(Path(folder), options.out, options.points, options.seed, training, options.only)
    print(json.dumps(found | ({} if training else {"left_out": "steps of a build: no --training-set"})))
    sys.exit(int(bool(found["broken"] or found["failed"] or found["disagree"])))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
