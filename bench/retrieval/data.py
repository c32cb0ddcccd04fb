"""Interactions of any shape as arrays, split by one of three protocols.

Within a profile rows stand as training, validation, test rows, each part in order of `ts`: a history always ends before
what is asked for, also where a published split was drawn without regard to time.

Shape suffixes: E interactions, P profiles, T titles.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.content import Content
from contracts.errors import UsageError
from contracts.query import Profile, profile_features

TRAIN, VALID, TEST = 0, 1, 2
ROLES = {"train": TRAIN, "valid": VALID, "val": VALID, "validation": VALID, "test": TEST}
PROTOCOLS = ("roles", "leave-last-out", "global-time")
LATER_SHARES = 0.8, 0.9
"""Of a global-time split: validation starts at the first, test at the second quantile of all times."""

EPOCH_SECONDS = 1e8, 1e10
"""Values of `ts` between these are taken as seconds since 1970; others only as an order."""

MOST_VALUES = 200
"""A column with more distinct values than this names things (a postcode), and is no attribute."""


@dataclass(frozen=True)
class Dataset:
    """Rows sorted by (profile, role, time, row of the file)."""

    profile_ids: list[str]
    title_ids: list[str]
    profile: np.ndarray  # (E,) int64
    title: np.ndarray  # (E,) int64
    seconds: np.ndarray  # (E,) float64 since 1970 where `timed`, else the row's place in its profile
    rating: np.ndarray  # (E,) float64 in 0..5, NaN unknown
    role: np.ndarray  # (E,) int8
    timed: bool
    profile_PF: np.ndarray
    contents: list[Content]  # T, or empty where nothing is known of titles
    people: dict[str, Profile]  # by profile id, those of whom something is said

    def first(self) -> np.ndarray:
        """(P,) first row of each profile."""
        return np.searchsorted(self.profile, np.arange(len(self.profile_ids)))

    def count(self, *roles: int) -> np.ndarray:
        """(P,) rows of these roles."""
        return np.bincount(self.profile[np.isin(self.role, roles)], minlength=len(self.profile_ids))

    def shape(self) -> dict:
        """What a result says of its data."""
        return {"profiles": len(self.profile_ids), "titles": len(self.title_ids), "interactions": len(self.profile),
                "timed": self.timed, "content": self.has_content}

    @property
    def has_content(self) -> bool:
        return bool(self.contents)


def load(interactions: Path, titles: Path | None, profiles: Path | None, protocol: str) -> Dataset:
    """Raises UsageError, naming file and column, for what cannot be used."""
    table = _read(interactions, ("profile_id", "title_id", "ts"), ("rating", "role"))
    if protocol == "roles":
        table = _with_roles(table, interactions)
    profile_ids, profile = _codes(table["profile_id"])
    title_ids, title = _codes(table["title_id"])
    title_ids, contents = _content(titles, title_ids)
    profile_PF, people = _profiles(profiles, profile_ids)
    seconds, timed = _seconds(table["ts"], interactions)
    role = _roles(table, protocol, profile, seconds)
    order = np.lexsort((np.arange(len(profile)), seconds, role, profile))
    profile, title, seconds, role = profile[order], title[order], seconds[order], role[order]
    if not timed:
        seconds = (np.arange(len(profile)) - np.searchsorted(profile, profile)).astype(float)
    return Dataset(profile_ids, title_ids, profile, title, seconds, _ratings(table, interactions)[order], role, timed,
                   profile_PF, contents, people)


def _read(path: Path, needed: tuple[str, ...], optional: tuple[str, ...] | None = None) -> pa.Table:
    """The needed columns and those of `optional` that there are; every column where it is None."""
    try:
        there = pq.read_schema(path).names
        table = pq.read_table(path, columns=None if optional is None else [name for name in (*needed, *optional) if name in there])
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path}: not a Parquet file that can be read: {str(error).splitlines()[0]}") from None
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise UsageError(f"{path}: no column {', '.join(missing)}; it has {', '.join(there)}")
    for name in needed:
        if table[name].null_count:
            raise UsageError(f"{path}: column {name} has {table[name].null_count} nulls")
    if not table.num_rows:
        raise UsageError(f"{path}: no rows")
    return table


def _with_roles(table: pa.Table, path: Path) -> pa.Table:
    """Rows of a known role; others (an item too rare for a published split) are left out."""
    if "role" not in table.column_names:
        raise UsageError(f"{path}: no column role; --protocol leave-last-out and global-time make one")
    said = table["role"].cast(pa.string())
    table = table.set_column(table.column_names.index("role"), "role", said)
    known = table.filter(pc.is_in(said, pa.array(sorted(ROLES))))
    if "test" not in pc.unique(known["role"]).to_pylist():
        raise UsageError(f"{path}: column role has no row `test`")
    return known


def _codes(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Ids as text, sorted (numbers as numbers: the catalogue's order settles ties), and each row's code."""
    encoded = column.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    code = np.empty(len(order), np.int64)
    code[order] = np.arange(len(order))
    return [str(value) for value in encoded.dictionary.take(order).to_pylist()], code[encoded.indices.to_numpy()]


def _seconds(column: pa.ChunkedArray, path: Path) -> tuple[np.ndarray, bool]:
    """Values that ascend with time, and whether they are seconds since 1970."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy() / 1e6, True
    values = _numbers(column, "ts", path)
    if not np.isfinite(values).all():
        raise UsageError(f"{path}: column ts has {np.count_nonzero(~np.isfinite(values))} values that are no finite number")
    return values, bool(EPOCH_SECONDS[0] <= values.min() and values.max() <= EPOCH_SECONDS[1])


def _numbers(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise UsageError(f"{path}: column {name} is {column.type}; a number is needed")
    return column.cast(pa.float64(), safe=False).to_numpy()


def _ratings(table: pa.Table, path: Path) -> np.ndarray:
    """Scaled so that the largest is 5, as the query tower reads them."""
    if "rating" not in table.column_names:
        return np.full(len(table), np.nan)
    values = _numbers(table["rating"], "rating", path)  # null becomes NaN
    largest = np.nanmax(values, initial=0.0)
    return values * 5.0 / largest if largest > 0 else np.full(len(table), np.nan)


def _roles(table: pa.Table, protocol: str, profile: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    if protocol == "roles":
        encoded = table["role"].combine_chunks().dictionary_encode()
        return np.array([ROLES[role] for role in encoded.dictionary.to_pylist()], np.int8)[encoded.indices.to_numpy()]
    if protocol == "global-time":
        valid, test = np.quantile(seconds, LATER_SHARES)
        return (seconds >= valid).astype(np.int8) + (seconds >= test).astype(np.int8)
    # leave-last-out: the last row is asked for in test, the one before in validation; shorter histories only train
    order = np.lexsort((np.arange(len(profile)), seconds, profile))
    ends = np.searchsorted(profile[order], profile[order], side="right")
    from_end = np.empty(len(profile), np.int64)
    from_end[order] = ends - 1 - np.arange(len(profile))
    enough = np.bincount(profile)[profile] >= 3
    return np.where(enough & (from_end < 2), 2 - from_end, TRAIN).astype(np.int8)


def _content(path: Path | None, title_ids: list[str]) -> tuple[list[str], list[Content]]:
    """Ids and contents of the catalogue: titles of the file that nobody watched belong to it too."""
    if path is None:
        return title_ids, []
    table = _read(path, ("title_id",))
    known = {str(row["title_id"]): row for row in table.to_pylist()}
    everything = title_ids + sorted(known.keys() - set(title_ids))
    extra = _attributes(table, {"title_id", *Content.__dataclass_fields__})
    contents = [_content_of(known.get(title_id, {}), title_id, extra) for title_id in everything]
    return everything, contents


def _content_of(row: dict, title_id: str, extra: list[str]) -> Content:
    said = [f"{name}={row[name]}" for name in extra if row.get(name) is not None]
    row = {**row, "title_id": title_id}
    for name in ("genres", "credits"):
        if isinstance(row.get(name), str):
            row[name] = row[name].split("|")
    return Content.of({**row, "credits": [*(row.get("credits") or ()), *said]})


def _profiles(path: Path | None, profile_ids: list[str]) -> tuple[np.ndarray, dict[str, Profile]]:
    """(P,F) features, and the profiles of whom something is said."""
    unknown = profile_features(_profile_of({}, []))
    out_PF = np.tile(unknown, (len(profile_ids), 1))
    if path is None:
        return out_PF, {}
    table = _read(path, ("profile_id",))
    extra = _attributes(table, {"profile_id", *Profile.__dataclass_fields__})
    known = {str(row["profile_id"]): _profile_of(row, extra) for row in table.to_pylist()}
    for features_F, profile_id in zip(out_PF, profile_ids, strict=True):
        if profile_id in known:
            features_F[:] = profile_features(known[profile_id])
    return out_PF, known


def _profile_of(row: dict, extra: list[str]) -> Profile:
    fields = {name: row[name] for name in Profile.__dataclass_fields__ if row.get(name) is not None}
    said = [f"{name}={row[name]}" for name in extra if row.get(name) is not None]
    return Profile(**{"market": "", **fields, "profile_id": str(row.get("profile_id", "")), "attributes": [*(fields.get("attributes") or ()), *said]})


def _attributes(table: pa.Table, known: set[str]) -> list[str]:
    """Columns beyond the known ones with few enough plain values to say something of many."""
    def plain(kind: pa.DataType) -> bool:
        return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)

    return [name for name in table.column_names
            if name not in known and plain(table[name].type) and len(pc.unique(table[name])) <= MOST_VALUES]


