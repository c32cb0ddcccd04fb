"""What a table of features looks like, small enough to keep, and whether another one looks like it.

Shift is the population stability index (PSI) over the reference's deciles: sum of (p - q) ln(p / q). Above .25 is the
usual "major shift"; two samples of one distribution have a mean of (B - 1)(1/n + 1/m) (Yurdakul, 2018), which is
allowed for on top, so that a nano world does not raise alarms.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from contracts import durable

BUCKETS = 10
SAMPLE_NOISE = 3.0
"""Multiples of the mean PSI of equal distributions that pass as noise."""

LEAST_MOVE = 0.05
"""A number moves where a decile differs by this share of its size. PSI knows no size: means of ratings that lie close
together, each shrunk to the mean of all, all move when that one does, by a hundredth."""


class Limits(BaseModel, frozen=True):
    """When rows may not go online."""

    psi: float = 0.25
    filled_drop: float = 0.2  # of the reference's filled share, absolute
    least_rows: float = 0.5  # of the reference's rows


LIMITS = Limits()


class Feature(BaseModel):
    """One feature: share of rows that have a value; of those, shares by bucket. Numbers are cut at `edges`; texts by
    value, the rest under an empty name. `deciles` are a number's own, whatever the edges."""

    filled: float
    rows: int
    edges: list[float] = []
    deciles: list[float] = []
    names: list[str] = []
    shares: list[float] = []


class Distribution(BaseModel):
    """Of one view's rows."""

    rows: int
    features: dict[str, Feature]


class Breach(BaseModel):
    """Why rows stay out."""

    view: str
    feature: str
    figure: str
    was: float
    now: float
    limit: float

    def __str__(self) -> str:
        return f"{self.view}.{self.feature}: {self.figure} {self.now:.3g}, was {self.was:.3g} (limit {self.limit:.3g})"


def describe(table: pa.Table, ignore: tuple[str, ...] = (), reference: Distribution | None = None) -> Distribution:
    """The distribution of a table's columns; with a reference, in its buckets."""
    known = reference.features if reference else {}
    features = {
        name: _feature(table[name].combine_chunks(), known.get(name)) for name in table.column_names if name not in ignore
    }
    return Distribution(rows=table.num_rows, features=features)


def breaches(view: str, reference: Distribution, now: Distribution, limits: Limits) -> list[Breach]:
    """Every way in which `now` (described in the reference's buckets) is unlike `reference`; empty: alike."""
    found = []
    if now.rows < limits.least_rows * reference.rows:
        found.append(Breach(view=view, feature="*", figure="rows", was=reference.rows, now=now.rows, limit=limits.least_rows * reference.rows))
    for name, was in reference.features.items():
        if name not in now.features:
            found.append(Breach(view=view, feature=name, figure="column", was=1, now=0, limit=1))
            continue
        current = now.features[name]
        if was.filled - current.filled > limits.filled_drop:
            found.append(Breach(view=view, feature=name, figure="filled share", was=was.filled, now=current.filled, limit=was.filled - limits.filled_drop))
        elif was.shares and current.shares and moved(was, current):
            shift = psi(was.shares, current.shares)
            limit = limits.psi + SAMPLE_NOISE * (len(was.shares) - 1) * (1 / max(was.rows, 1) + 1 / max(current.rows, 1))
            if shift > limit:
                found.append(Breach(view=view, feature=name, figure="PSI", was=0, now=shift, limit=limit))
    return found


def moved(was: Feature, now: Feature) -> bool:
    """Whether any decile differs by LEAST_MOVE of the larger; always for texts, where no deciles were kept, and where all
    deciles were one value: what moves then lies beyond them."""
    p, q = np.asarray(was.deciles), np.asarray(now.deciles)
    if not len(q) or len(set(was.deciles)) < 2:
        return True
    return bool((np.abs(q - p) > LEAST_MOVE * np.maximum(np.abs(p), np.abs(q))).any())


def psi(was: list[float], now: list[float], floor: float = 1e-4) -> float:
    """Population stability index of two lists of shares; shares below `floor` count as `floor`."""
    p, q = np.maximum(np.asarray(was), floor), np.maximum(np.asarray(now), floor)
    return float(np.sum((q - p) * np.log(q / p)))


def save(path: Path, distributions: Mapping[str, Distribution]) -> None:
    """Equal distributions give equal bytes."""
    durable.write(path, json.dumps({name: d.model_dump() for name, d in sorted(distributions.items())}, indent=1))


def load(path: Path) -> dict[str, Distribution]:
    """Raises FileNotFoundError."""
    return {name: Distribution.model_validate(value) for name, value in json.loads(path.read_text()).items()}


def _feature(column: pa.Array, reference: Feature | None) -> Feature:
    values = _plain(column)
    total = max(len(column), 1)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return _of_texts(values.drop_null().to_pylist(), total, reference)
    numbers = values.drop_null().cast(pa.float64()).to_numpy(zero_copy_only=False)
    return _of_numbers(numbers[~np.isnan(numbers)], total, reference)


def _plain(column: pa.Array) -> pa.Array:
    """Lists by their length, times in days since the newest, truth as 0 and 1; other types as they are."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        return pc.list_value_length(column)
    if pa.types.is_timestamp(column.type):
        seconds = pc.divide(column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).cast(pa.float64()), 1e6)
        return pc.divide(pc.subtract(pc.max(seconds), seconds), 86400.0)
    return column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column


def _of_numbers(numbers: np.ndarray, total: int, reference: Feature | None) -> Feature:
    deciles = np.quantile(numbers, np.arange(1, BUCKETS) / BUCKETS).tolist() if len(numbers) else []
    edges = reference.edges if reference else sorted(set(deciles))
    counts = np.bincount(np.searchsorted(edges, numbers, side="left"), minlength=len(edges) + 1)
    return Feature(filled=len(numbers) / total, rows=len(numbers), edges=edges, deciles=deciles, shares=_shares(counts))


def _of_texts(texts: list[str], total: int, reference: Feature | None) -> Feature:
    values, counts = np.unique(np.asarray(texts, str), return_counts=True)
    by_name = dict(zip(values.tolist(), counts.tolist(), strict=True))
    top = sorted(by_name, key=lambda name: (-by_name[name], name))[: 2 * BUCKETS]
    names = reference.names if reference else top if _repeats(by_name, len(texts)) else []
    named = [by_name.get(name, 0) for name in names]
    return Feature(filled=len(texts) / total, rows=len(texts), names=names, shares=_shares([*named, len(texts) - sum(named)]) if names else [])


def _repeats(by_name: dict[str, int], total: int) -> bool:
    """A text that hardly repeats is an id: only whether it is there counts."""
    return len(by_name) <= total / 2


def _shares(counts) -> list[float]:
    counts = np.asarray(counts, float)
    return (counts / counts.sum()).tolist() if counts.sum() else []
