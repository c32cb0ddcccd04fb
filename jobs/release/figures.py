"""`marquee release figures`: what members got in the hour after the live release came, from the API's own /metrics.

`marquee watch` keeps a sample of each replica's counters every two minutes; figures are differences between samples.
"""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from contracts import clock, durable
from contracts.errors import UsageError
from contracts.release import State
from contracts.settings import Settings
from ledger import Ledger, open_ledger

log = logging.getLogger("marquee")

HOUR, SLOT = timedelta(hours=1), timedelta(minutes=10)
KEPT = timedelta(hours=6)
COUNTED = ("requests", "errors", "degraded", "removed", "empty")


def sample(settings: Settings, ledger: Ledger) -> None:
    """Appends every replica's counters as they are now; one that does not answer is left out."""
    at, lines = datetime.now(UTC), []
    for replica in ledger.replicas():
        try:
            text = httpx.get(f"{replica.address}/metrics", timeout=5).raise_for_status().text
        except httpx.HTTPError as error:
            log.warning("replica %s gave no figures: %s", replica.replica_id, error)
            continue
        lines.append({"at": at.isoformat(), "replica": replica.replica_id, "release": replica.serving, **counters(text)})
    path = _path(settings)
    kept = [line for line in _read(path) if datetime.fromisoformat(line["at"]) > at - KEPT]
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.write(path, "".join(json.dumps(line) + "\n" for line in [*kept, *lines]))


def counters(text: str) -> dict[str, Any]:
    """COUNTED, and the shelf's latency histogram as {upper bound: answers}."""
    found: dict[str, Any] = dict.fromkeys(COUNTED, 0.0) | {"seconds": {}}
    for family in text_string_to_metric_families(text):
        for s in family.samples:
            if s.name == "marquee_requests_total":
                found["requests"] += s.value
                found["errors"] += s.value if s.labels["status"].startswith("5") else 0
            elif s.name == "marquee_request_seconds_bucket" and "shelf" in s.labels["route"]:
                found["seconds"][s.labels["le"]] = found["seconds"].get(s.labels["le"], 0) + s.value
            elif name := {"marquee_degraded_total": "degraded", "marquee_guard_removed_total": "removed",
                          "marquee_no_eligible_titles_total": "empty"}.get(s.name):
                found[name] += s.value
    return found


def show(settings: Settings) -> dict[str, Any]:
    """The live release, since when, and one row a ten minutes of its first hour. UsageError where nothing is live."""
    ledger = open_ledger(settings)
    pointer = ledger.pointer()
    if pointer is None or pointer.release_id is None:
        raise UsageError("no release is live, so there are no figures")
    release = pointer.release_id
    sample(settings, ledger)
    came = [t.at for t in ledger.transitions(release) if t.to_state == State.PROBING]
    # the ledger's times are the home's present; samples are wall time
    since = came[-1] - (clock.now(settings.home) - datetime.now(UTC))
    samples = [s for s in _read(_path(settings)) if s["release"] == release and datetime.fromisoformat(s["at"]) <= since + HOUR + SLOT]
    rows = [row for number in range(6) if (row := _slot(samples, since + number * SLOT, number))]
    return {"release_id": release, "phase": pointer.phase, "since": since.isoformat(timespec="seconds"), "rows": rows}


def table(found: dict[str, Any]) -> str:
    """For a person; Markdown."""
    head = f"{found['release_id']} is {found['phase']} since {found['since']}; its first hour:"
    if not found["rows"]:
        return f"{head} no sample yet, `marquee watch` takes one every two minutes"
    columns = list(found["rows"][0])
    return "\n".join([head, "", "| " + " | ".join(columns) + " |", "| " + " --- |" * len(columns),
                      *("| " + " | ".join(str(value) for value in row.values()) + " |" for row in found["rows"])])


def _slot(samples: list[dict[str, Any]], start: datetime, number: int) -> dict[str, Any] | None:
    """Sums over replicas of what grew between samples that end within the ten minutes."""
    total: dict[str, float] = dict.fromkeys(COUNTED, 0.0)
    seconds: dict[str, float] = {}
    steps = 0
    for before, after in _steps(samples):
        if not start < datetime.fromisoformat(after["at"]) <= start + SLOT:
            continue
        steps += 1
        for name in COUNTED:
            total[name] += _grown(before[name], after[name])
        for bound, value in after["seconds"].items():
            seconds[bound] = seconds.get(bound, 0) + _grown(before["seconds"].get(bound, 0), value)
    if not steps:
        return None
    minutes = int(SLOT.total_seconds() // 60)
    return {"minutes": f"{number * minutes}-{(number + 1) * minutes}", **{name: int(value) for name, value in total.items()},
            "p50_ms": _quantile(seconds, 0.5), "p99_ms": _quantile(seconds, 0.99)}


def _steps(samples: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for replica in sorted({s["replica"] for s in samples}):
        yield from pairwise(s for s in samples if s["replica"] == replica)


def _grown(before: float, after: float) -> float:
    """A counter that fell began anew with its process."""
    return after - before if after >= before else after


def _quantile(seconds: dict[str, float], q: float) -> str:
    """Upper bound of the bucket that holds it."""
    answers = seconds.get("+Inf", 0)
    for bound, count in sorted(seconds.items(), key=lambda item: float(item[0])):
        if answers and count >= q * answers:
            return "over 3000" if bound == "+Inf" else f"≤ {float(bound) * 1000:g}"
    return "-"


def _path(settings: Settings) -> Path:
    return settings.home / "run" / "figures.jsonl"


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
