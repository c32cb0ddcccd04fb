"""Whether what somebody else wrote fits a column of the landing format, as ingest reads it: a column of a Parquet file,
a record of a JSON Lines file.
"""

import json
import math
import re
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from contracts.landing import TIMESTAMP, Column, LandingTable


def parsed(line: str) -> dict[str, Any] | None:
    """The record of a line, or None where it is not a JSON object."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def is_utf8(record: dict[str, Any]) -> bool:
    """No text in it has stray bytes (read with `surrogateescape`) or half a character, written as an escape."""
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def cast_record(table: LandingTable, record: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The record's values in Arrow's types, and what does not fit."""
    values, reasons = {}, []
    for column in table.columns:
        value = record.get(column.name)
        if value is None:
            if column.required:
                reasons.append(f"{column.name} is missing")
            continue
        try:
            values[column.name] = _cast_value(column, value)
        except (ValueError, TypeError, OverflowError):
            reasons.append(f"{column.name} is {json.dumps(value, ensure_ascii=False)[:60]}, wanted {column.type}")
    return values, reasons


def _cast_value(column: Column, value: Any) -> Any:
    """ValueError or TypeError where a JSON value is not of the column's type. Digits as text are a number, `true` as
    text is one, and a whole number is an id: ingest and the eligibility log read both so."""
    kind = column.type
    if kind == "timestamp":
        if not re.fullmatch(TIMESTAMP, value):
            raise ValueError(value)
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if kind == "date":
        return date.fromisoformat(value)
    if kind == "string" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if kind == "bool" and value in ("true", "false"):
        return value == "true"
    if kind in ("int", "float") and isinstance(value, str):
        value = float(value)
    if kind == "int" and isinstance(value, float) and value.is_integer():
        value = int(value)
    if kind == "list<string>":
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return value
    elif kind == "int":
        if not isinstance(value, bool) and isinstance(value, int) and abs(value) < 2**31:
            return value
    elif kind == "float":
        if not isinstance(value, bool) and isinstance(value, int | float) and not math.isnan(value):
            return float(value)
    elif isinstance(value, {"string": str, "bool": bool}[kind]):
        return value
    raise ValueError(value)


def type_fits(column: Column, found: pa.DataType) -> bool:
    """Whole numbers may be floats: so pandas writes a column of which some are absent."""
    if pa.types.is_dictionary(found):
        found = found.value_type
    text = (pa.types.is_string(found) or pa.types.is_large_string(found))
    if pa.types.is_null(found):
        return not column.required
    return {
        "string": text,
        "int": pa.types.is_integer(found) or pa.types.is_floating(found),
        "float": pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found),
        "bool": pa.types.is_boolean(found),
        "timestamp": pa.types.is_timestamp(found),
        "date": pa.types.is_date(found),
        "list<string>": (pa.types.is_list(found) or pa.types.is_large_list(found)) and
                        (pa.types.is_string(found.value_type) or pa.types.is_large_string(found.value_type)),
    }[column.type]
