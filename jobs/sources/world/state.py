"""What a world remembers between nights, in `<home>/world/after_<day>/`: what was watched, and records that were
simulated but are received on a later day. Written aside, renamed; the last two are kept.
"""

import os
import shutil
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from contracts import durable
from contracts.errors import MarqueeError
from jobs.sources.world.behaviour import Memory

KEPT = 2


def save(home: Path, day: date, memory: Memory, pending: dict[str, pa.Table]) -> None:
    """The state after `day`, over one of the same day."""
    root = home / "world"
    aside, folder = root / f".after_{day}.{os.getpid()}", root / f"after_{day}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    np.savez(aside / "memory.npz", watched=memory.watched, last_engaged=memory.last_engaged)
    for table, rows in pending.items():
        pq.write_table(rows, aside / f"{table}.parquet")
    shutil.rmtree(folder, ignore_errors=True)
    durable.publish(aside, folder)
    for old in sorted(root.glob("after_*"))[:-KEPT]:
        shutil.rmtree(old)


def load(home: Path, day: date) -> tuple[Memory, dict[str, pa.Table]]:
    """The state after `day`; MarqueeError where it is gone."""
    folder = home / "world" / f"after_{day}"
    if not folder.is_dir():
        raise MarqueeError(f"{folder}: the world's memory of {day} is gone; land a new world in another MARQUEE_HOME")
    with np.load(folder / "memory.npz") as arrays:
        memory = Memory(arrays["watched"], arrays["last_engaged"])
    return memory, {path.stem: pq.read_table(path) for path in sorted(folder.glob("*.parquet"))}
