"""Columns of a Parquet file as plain values, whatever wrote it; UsageError names the file and the column that cannot be one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from contracts.errors import UsageError

MOST_VALUES = 200
"""A column with more distinct values than this names things (a postcode), and is no attribute."""


def read(path: Path, needed: tuple[str, ...], optional: tuple[str, ...] | None = None) -> pa.Table:
    """The needed columns and those of `optional` that there are; every column where it is None. Categories are their values."""
    try:
        there = pq.read_schema(path).names
        table = pq.read_table(path, columns=None if optional is None else [name for name in (*needed, *optional) if name in there])
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path}: not a Parquet file that can be read: {str(error).splitlines()[0]}") from None
    missing = [name for name in needed if name not in table.column_names]
    if missing:
        raise UsageError(f"{path}: no column {', '.join(missing)}; it has {', '.join(there)}")
    if not table.num_rows:
        raise UsageError(f"{path}: no rows")
    table = pa.table({name: _plain(table[name]) for name in table.column_names})
    for name in needed:
        unknown = pc.sum(pc.is_null(table[name], nan_is_null=True)).as_py()
        if unknown:
            raise UsageError(f"{path}: column {name} has {unknown} nulls")
    return table


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Without categories, and whole floats (what pandas makes of integers with gaps) as integers."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        known = pc.if_else(pc.is_nan(column), None, column)
        if known.null_count < len(known) and pc.all(pc.and_(pc.is_finite(known), pc.equal(pc.floor(known), known))).as_py() \
                and pc.less(pc.max(pc.abs(known)), 2**53).as_py():
            return known.cast(pa.int64())
    return column


def numbers(column: pa.ChunkedArray, name: str, path: Path) -> np.ndarray:
    """Float64; null is NaN."""
    kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise UsageError(f"{path}: column {name} is {kind}; a number is needed")
    values = column.cast(pa.float64(), safe=False).to_numpy()
    if np.isinf(values).any():
        raise UsageError(f"{path}: column {name} has {np.count_nonzero(np.isinf(values))} values that are no finite number")
    return values


def attributes(table: pa.Table, known: set[str]) -> list[str]:
    """Columns beyond the known ones with few enough plain values to say something of many."""
    def plain(kind: pa.DataType) -> bool:
        return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)

    return [name for name in table.column_names
            if name not in known and plain(table[name].type) and len(pc.unique(table[name])) <= MOST_VALUES]


def rows(table: pa.Table, path: Path, kinds: dict[str, type]) -> list[dict]:
    """One dictionary a row without what is unknown; the columns of `kinds` as int, float, bool, str or list (of texts; a
    text is split at `|`), others as they are."""
    values = {name: _as(table[name], name, path, kinds.get(name)) for name in table.column_names}
    return [{name: value for name, value in zip(values, row, strict=True) if value is not None} for row in zip(*values.values(), strict=True)]


def _as(column: pa.ChunkedArray, name: str, path: Path, kind: type | None) -> Sequence:
    if kind in (int, float):
        return [None if np.isnan(value) else kind(value) for value in numbers(column, name, path)]
    if kind is bool and not (pa.types.is_boolean(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        raise UsageError(f"{path}: column {name} is {column.type}; true or false is needed")
    if kind is list and not (_is_text(column.type) or pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
                             or pa.types.is_null(column.type)):
        raise UsageError(f"{path}: column {name} is {column.type}; a list, or texts with | between, is needed")
    make: Callable = {bool: bool, str: str, list: _listed}.get(kind, lambda value: value)
    return [None if value is None else make(value) for value in column.to_pylist()]


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _listed(value: str | list) -> list[str]:
    parts = value.split("|") if isinstance(value, str) else value
    return [str(part) for part in parts if part is not None]
