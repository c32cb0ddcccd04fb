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

from bench.retrieval import columns
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

TITLE_KINDS = {"name": str, "synopsis": str, "genres": list, "credits": list, "language": str, "kind": str, "series_id": str, "year": int,
               "runtime_minutes": float, "maturity": int}
PROFILE_KINDS = {"market": str, "household_id": str, "is_kids": bool, "maturity_limit": int, "preferred_genres": list, "language": str,
                 "attributes": list}


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
    rows_left_out: int = 0  # of another role

    def first(self) -> np.ndarray:
        """(P,) first row of each profile."""
        return np.searchsorted(self.profile, np.arange(len(self.profile_ids)))

    def count(self, *roles: int) -> np.ndarray:
        """(P,) rows of these roles."""
        return np.bincount(self.profile[np.isin(self.role, roles)], minlength=len(self.profile_ids))

    def shape(self) -> dict:
        """What a result says of its data."""
        return {"profiles": len(self.profile_ids), "titles": len(self.title_ids), "interactions": len(self.profile),
                "rows_left_out": self.rows_left_out, "profiles_described": len(self.people), "timed": self.timed, "content": self.has_content}

    @property
    def has_content(self) -> bool:
        return bool(self.contents)


def load(interactions: Path, titles: Path | None, profiles: Path | None, protocol: str) -> Dataset:
    """Raises UsageError, naming file and column, for what cannot be used."""
    table = columns.read(interactions, ("profile_id", "title_id", "ts"), ("rating", "role"))
    rows = len(table)
    if protocol == "roles":
        table = _with_roles(table, interactions)
    profile_ids, profile = _codes(table["profile_id"])
    title_ids, title = _codes(table["title_id"])
    title_ids, contents = _content(titles, title_ids, interactions)
    profile_PF, people = _profiles(profiles, profile_ids, interactions)
    times = _times(table["ts"], interactions)
    role = _roles(table, protocol, profile, times)
    order = np.lexsort((np.arange(len(profile)), times, role, profile))
    profile, title, role = profile[order], title[order], role[order]
    seconds, timed = _seconds(times[order], profile, role, _is_time(table["ts"].type))
    return Dataset(profile_ids, title_ids, profile, title, seconds, _ratings(table, interactions, order, role), role, timed,
                   profile_PF, contents, people, rows - len(table))


def _with_roles(table: pa.Table, path: Path) -> pa.Table:
    """Rows of a known role; others (an item too rare for a published split) are left out."""
    if "role" not in table.column_names:
        raise UsageError(f"{path}: no column role; --protocol leave-last-out and global-time make one")
    said = pc.utf8_lower(table["role"].cast(pa.string()))
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


def _times(column: pa.ChunkedArray, path: Path) -> np.ndarray:
    """Values that ascend with time."""
    if _is_time(column.type):
        return column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy() / 1e6
    return columns.numbers(column, "ts", path)


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def _seconds(times: np.ndarray, profile: np.ndarray, role: np.ndarray, sure: bool) -> tuple[np.ndarray, bool]:
    """Seconds since 1970 where all before test look like such, else places in a profile; and which of the two."""
    known, (least, most) = times[role != TEST], EPOCH_SECONDS
    if sure:
        return times, True
    if least <= known.min(initial=most) and known.max(initial=least) <= most and len(known):
        return np.clip(times, least, most), True
    return (np.arange(len(profile)) - np.searchsorted(profile, profile)).astype(float), False


def _ratings(table: pa.Table, path: Path, order: np.ndarray, role: np.ndarray) -> np.ndarray:
    """In the rows' order, scaled so that the largest before test is 5, as the query tower reads them."""
    if "rating" not in table.column_names:
        return np.full(len(table), np.nan)
    values = columns.numbers(table["rating"], "rating", path)[order]
    largest = np.nanmax(values[role != TEST], initial=0.0)
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


def _content(path: Path | None, title_ids: list[str], interactions: Path) -> tuple[list[str], list[Content]]:
    """Ids and contents of the catalogue: titles of the file that nobody watched belong to it too."""
    if path is None:
        return title_ids, []
    known, extra = _described(path, "title_id", {"title_id", *TITLE_KINDS}, TITLE_KINDS, title_ids, interactions)
    everything = title_ids + sorted(known.keys() - set(title_ids))
    return everything, [_content_of(known.get(title_id, {}), title_id, extra) for title_id in everything]


def _content_of(row: dict, title_id: str, extra: list[str]) -> Content:
    return Content.of({**row, "title_id": title_id, "credits": [*row.get("credits", ()), *_said(row, extra)]})


def _profiles(path: Path | None, profile_ids: list[str], interactions: Path) -> tuple[np.ndarray, dict[str, Profile]]:
    """(P,F) features, and the profiles of whom something is said."""
    out_PF = np.tile(profile_features(Profile("", "")), (len(profile_ids), 1))
    if path is None:
        return out_PF, {}
    known, extra = _described(path, "profile_id", {"profile_id", *PROFILE_KINDS}, PROFILE_KINDS, profile_ids, interactions)
    people = {profile_id: _profile_of(known[profile_id], profile_id, extra) for profile_id in profile_ids if profile_id in known}
    for features_F, profile_id in zip(out_PF, profile_ids, strict=True):
        if profile_id in people:
            features_F[:] = profile_features(people[profile_id])
    return out_PF, people


def _profile_of(row: dict, profile_id: str, extra: list[str]) -> Profile:
    fields = {name: row[name] for name in PROFILE_KINDS if name in row}
    return Profile(**{"market": "", **fields, "profile_id": profile_id, "attributes": [*fields.get("attributes", ()), *_said(row, extra)]})


def _described(
    path: Path, key: str, known: set[str], kinds: dict[str, type], ids: list[str], interactions: Path
) -> tuple[dict[str, dict], list[str]]:
    """Rows by id, and the columns that count as attributes. UsageError where the two files share no id: they would join to
    nothing, silently."""
    table = columns.read(path, (key,))
    found = {str(row[key]): row for row in columns.rows(table, path, kinds)}
    if not found.keys() & set(ids):
        raise UsageError(f"{path}: no {key} of it ({next(iter(found))!r}, …) is among those of {interactions} ({ids[0]!r}, …)")
    return found, columns.attributes(table, known)


def _said(row: dict, extra: list[str]) -> list[str]:
    return [f"{name}={row[name]}" for name in extra if name in row]
