"""What changed since the live release: data, code, recipe, libraries."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from contracts.release import Provenance


class TableChange(BaseModel):
    table: str
    rows: int
    rows_live: int | None
    same_content: bool


class Changes(BaseModel):
    """`recipe` and `libraries` map a name to [live, candidate]; null where one side lacks it."""

    tables: list[TableChange]
    code: list[str | None]
    recipe: dict[str, list[Any]] = {}
    libraries: dict[str, list[str | None]] = {}


def changes(candidate: Provenance, live: Provenance | None) -> Changes:
    """Against nothing, everything is the candidate's own and no difference is listed."""
    tables = {**candidate.tag.tables, **candidate.training.tables}
    before = {**live.tag.tables, **live.training.tables} if live else {}
    listed = [
        TableChange(table=name, rows=version.rows, rows_live=before[name].rows if name in before else None,
                    same_content=name in before and before[name].logical_hash == version.logical_hash)
        for name, version in sorted(tables.items())
    ]
    if live is None:
        return Changes(tables=listed, code=[None, candidate.code])
    return Changes(
        tables=listed, code=[live.code, candidate.code],
        recipe=_differing(_flat(live.recipe), _flat(candidate.recipe)),
        libraries=_differing(live.libraries, candidate.libraries),
    )


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {k: [before.get(k), after.get(k)] for k in sorted({*before, *after}) if before.get(k) != after.get(k)}


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, inner in value.items():
        out |= _flat(inner, f"{prefix}{key}.") if isinstance(inner, Mapping) else {f"{prefix}{key}": inner}
    return out
