"""Ground truth, in `<home>/ground_truth/`: what the simulator knows and the pipeline must find out. Only tests and
benchmarks read it.

`titles.npz` and `profiles.npz` hold the hidden arrays, `attention.npz` the probability that a slot is looked at by device,
`planted.json` the defects that landed, by interval, table and kind, and `world.json` recipe and seed.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from contracts import durable
from contracts.query import DEVICES
from jobs.sources.world.behaviour import World, attention

FOLDER = "ground_truth"


def write(home: Path, world: World) -> None:
    """Tastes, topics, qualities and attention of the world; the same bytes each time."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    catalogue, people = world.catalogue, world.population
    _save(folder / "titles.npz", title_id=catalogue.ids.astype(str), topic=catalogue.topic_TK, strand=catalogue.strand,
          quality=catalogue.quality, next_in_series=catalogue.next_in_series, language=catalogue.language,
          launch_day=catalogue.launch_day)
    _save(folder / "profiles.npz", profile_id=people.ids.astype(str), cohort=people.cohort, activity=people.activity,
          early_taste=people.early_PK, late_taste=people.late_PK, period=people.period, phase=people.phase)
    slots = np.arange(1, world.recipe.slate_size + 1)
    _save(folder / "attention.npz", **{name: attention(slots, np.full(len(slots), i)) for i, name in enumerate(DEVICES)})
    _write_json(folder / "world.json", {"recipe": world.recipe.name, "seed": world.seed})


def add_planted(home: Path, interval: str, planted: dict[str, dict[str, Any]]) -> None:
    """Notes the defects of one interval: {table: {clean, late, duplicates, malformed: {kind: n}}}."""
    path = home / FOLDER / "planted.json"
    counts = json.loads(path.read_text()) if path.exists() else {}
    _write_json(path, counts | {interval: planted})


def planted(home: Path, interval: str) -> dict[str, dict[str, Any]]:
    """What `add_planted` noted for the interval."""
    return json.loads((home / FOLDER / "planted.json").read_text())[interval]


def _save(path: Path, **arrays: np.ndarray) -> None:
    aside = path.with_name(f".{os.getpid()}.{path.name}")  # numpy wants the suffix to be .npz
    np.savez(aside, **arrays)
    durable.publish(aside, path)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    aside = path.with_name(f".{os.getpid()}.{path.name}")
    aside.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
    durable.publish(aside, path)
