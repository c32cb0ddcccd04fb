"""Landing → first shelf that shows the title, and closure → last shelf that showed it.

    python -m bench.launches [--launches 50] [--closures 50] [--period 60] [--every 10] [--seed 7] [--out results.jsonl]
    python -m bench.launches --table             # README's table, from the results

One line of results an event; run again with the same file, it measures what has no line yet.
"""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.launches import table
from bench.launches.home import Home, home
from contracts import paths
from tests.serving.tiny_world import MARKETS, NOW, bearer

HERE = Path(__file__).parent
LAUNCH, CLOSURE = "launch", "closure"
PROFILES = 10
"""Members a market who look at their shelf again and again."""
QUIET_ROUNDS = 20
"""A closed title is gone when it was on no shelf for so many rounds after the last that showed it, and two periods have passed."""


@dataclass
class Event:
    """One title that lands or closes early in one market."""

    kind: str
    number: int
    due: float  # seconds after the start
    market: str
    title_id: str = ""
    landed: float | None = None  # monotonic
    seen: float | None = None  # first (launch) or last (closure) answer that shows it
    rounds_without: int = 0

    def done(self, period: float) -> bool:
        if self.landed is None or self.kind == LAUNCH:
            return self.seen is not None
        return self.rounds_without >= QUIET_ROUNDS and time.monotonic() > self.landed + 2 * period

    def result(self, options: argparse.Namespace) -> dict:
        seconds = max(0.0, (self.seen or self.landed) - self.landed)
        return {"kind": self.kind, "number": self.number, "seed": options.seed, "period": options.period, "every": options.every, "titles": options.titles,
                "market": self.market, "title_id": self.title_id, "seconds": round(seconds, 2)}


def planned(options: argparse.Namespace, done: set[tuple[str, int]]) -> list[Event]:
    """The events that have no result yet, at seeded moments of the span."""
    events = []
    for kind, count in ((LAUNCH, options.launches), (CLOSURE, options.closures)):
        for number in range(count):
            chance = random.Random(f"{options.seed}:{kind}:{number}")
            event = Event(kind, number, chance.uniform(0, options.span), chance.choice(MARKETS))
            if (kind, number) not in done:
                events.append(event)
    return sorted(events, key=lambda event: event.due)


def measure(world: Home, address: str, events: Sequence[Event], options: argparse.Namespace, out: Path) -> list[dict]:
    """Lands every event when it is due and looks at shelves until all are done or time is up; returns what was measured."""
    stop, failures = threading.Event(), []
    job = threading.Thread(target=_every_period, args=(world, options.period, options.every, stop, failures), daemon=True)
    job.start()
    begin, waiting, results = time.monotonic(), list(events), []
    closing: set[str] = set()
    try:
        with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
            while waiting and not failures:
                shelves = _shelves(client)
                for event in waiting:
                    _look(event, shelves)
                for event in [event for event in waiting if event.done(options.period)]:
                    waiting.remove(event)
                    results.append(event.result(options))
                    with out.open("a") as file:
                        file.write(json.dumps(results[-1]) + "\n")
                for event in waiting:
                    if event.landed is None and time.monotonic() - begin >= event.due:
                        _land(world, event, shelves, closing)
                if time.monotonic() - begin > options.span + options.patience:
                    raise TimeoutError(f"{len(waiting)} events were not seen within {options.patience:g} s: {waiting[:3]}")
    finally:
        stop.set()
        job.join(300)
    if failures:
        raise failures[0]
    return results


def _every_period(world: Home, period: float, every: float, stop: threading.Event, failures: list[Exception]) -> None:
    """The job as the DAG runs it: from the first moment once a period, one run at a time, each with several looks; where one
    took longer, the next follows at once."""
    begin, started = time.monotonic(), 0
    while not stop.is_set():
        try:
            world.launches(max(0.0, period - every), every)
        except Exception as error:
            failures.append(error)
            return
        stop.wait(max(0.0, begin + (started + 1) * period - time.monotonic()))
        started = int((time.monotonic() - begin) // period)


def _shelves(client: httpx.Client) -> list[tuple[str, float, float, list[str]]]:
    """(market, asked, answered, titles) of every profile's shelf."""
    shelves = []
    for market in MARKETS:
        for number in range(PROFILES):
            name, asked = f"viewer-{market}-{number}", time.monotonic()
            answer = client.get(paths.shelf(name), headers=bearer([name], market=market)).raise_for_status().json()
            shelves.append((market, asked, time.monotonic(), [title["title_id"] for title in answer["titles"]]))
    return shelves


def _look(event: Event, shelves: Sequence[tuple[str, float, float, list[str]]]) -> None:
    """Takes note of the answers that were asked for after the landing and show the title."""
    if event.landed is None:
        return
    after = [s for s in shelves if s[0] == event.market and s[1] >= event.landed]
    shown = [answered for _, _, answered, titles in after if event.title_id in titles]
    if event.kind == LAUNCH:
        event.seen = min(shown, default=event.seen)
    elif after:
        event.seen = max(shown, default=event.seen)
        event.rounds_without = 0 if shown else event.rounds_without + 1


def _land(world: Home, event: Event, shelves: Sequence[tuple[str, float, float, list[str]]], closing: set[str]) -> None:
    if event.kind == LAUNCH:
        event.title_id = f"new-{event.number:03d}"
        content = {"title_id": event.title_id, "valid_from": "2025-06-01T00:00:00Z", "name": f"New title {event.number}",
                   "genres": ["crime"], "maturity": 7, "launched_at": NOW.isoformat()}
        window = {"title_id": event.title_id, "window_id": f"w-{event.title_id}", "market": event.market, "opens_at": "2025-06-01T00:00:00Z"}
        event.landed = world.land([content], [window])
        return
    on_shelf = sorted({t for market, _, _, titles in shelves if market == event.market for t in titles if t.startswith("t")} - closing)
    if not on_shelf:
        return  # with the next round
    event.title_id = random.Random(f"{event.number}").choice(on_shelf)
    closing.add(event.title_id)
    windows = {r.window_id for r in world.catalogue.log if r.kind == "licence" and (r.title_id, r.market) == (event.title_id, event.market)}
    event.landed = world.land([], [
        {"title_id": event.title_id, "window_id": window, "market": event.market, "opens_at": "2025-01-01T00:00:00Z",
         "closes_at": "2025-06-01T00:00:00Z"} for window in sorted(windows)
    ])


def read(out: Path, options: argparse.Namespace) -> list[dict]:
    """Results of these very options."""
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.is_file() else []
    return [row for row in rows if (row["seed"], row["period"], row["every"], row["titles"]) == (options.seed, options.period, options.every, options.titles)]


def run(options: argparse.Namespace, out: Path) -> list[dict]:
    """Measures what has no result yet; returns all results of these options."""
    events = planned(options, {(row["kind"], row["number"]) for row in read(out, options)})
    if events:
        with tempfile.TemporaryDirectory(prefix="marquee-launches-") as folder, home(Path(folder), options.titles, options.seed) as (world, address):
            measure(world, address, events, options, out)
    return read(out, options)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench.launches", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, text in (("launches", 50, "titles that land"), ("closures", 50, "licences that close early"),
                                ("titles", 1000, "titles of the catalogue"), ("seed", 7, "of catalogue and moments")):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} (default {default})")
    for name, default, text in (("period", 60.0, "seconds between runs of the job"), ("every", 10.0, "seconds between the looks of a run"), ("span", 240.0, "seconds over which events land"),
                                ("patience", 600.0, "seconds after the span within which all must be seen")):
        parser.add_argument(f"--{name}", type=float, default=default, help=f"{text} (default {default:g})")
    parser.add_argument("--out", type=Path, default=HERE / "results.jsonl", help="results, one line an event")
    parser.add_argument("--table", action="store_true", help="only write README's table from the results")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if not options.table:
        run(options, options.out)
    rows = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out.is_file() else []
    print(table.rendered(rows))
    if options.out == HERE / "results.jsonl":
        table.write(HERE / "README.md", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
