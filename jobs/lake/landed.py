"""Reads one table of a landed interval as it was written, Parquet and JSON Lines alike, into the contract's types.

What is wrong with a file as a whole (corrupt, wrong layout, a column of another type) is a UsageError that names file
and field, before anything is written. What is wrong with a record is left to `validate`: a value that does not fit its
type is null here, and `_uncastable` names its column.

Beside the contract's columns a frame has `_uncastable` (string), `_record` (the record as JSON text) and `_file`.
"""

from collections import defaultdict
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column as Expression
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from contracts.errors import UsageError
from contracts.landing import (
    FILE_TYPES,
    MARKER,
    TABLES,
    TIMESTAMP,
    Column,
    ColumnType,
    Interval,
    LandingTable,
    nested_files,
    read_marker,
    table_files,
    table_name,
)

SPARK_TYPES: dict[ColumnType, str] = {
    "string": "string", "int": "int", "float": "double", "bool": "boolean", "timestamp": "timestamp", "date": "date",
    "list<string>": "array<string>",
}

_FITS: dict[ColumnType, Callable[[pa.DataType], bool]] = {
    "string": lambda t: pa.types.is_string(t) or pa.types.is_large_string(t),
    "int": lambda t: pa.types.is_integer(t) or pa.types.is_floating(t),
    "float": lambda t: pa.types.is_integer(t) or pa.types.is_floating(t) or pa.types.is_decimal(t),
    "bool": pa.types.is_boolean,
    "timestamp": pa.types.is_timestamp,
    "date": lambda t: pa.types.is_timestamp(t) or pa.types.is_date(t),
    "list<string>": lambda t: (pa.types.is_list(t) or pa.types.is_large_list(t)) and _FITS["string"](t.value_type),
}


def check_files(folder: Path) -> None:
    """Raises UsageError for a marker, file or Parquet column that no reader could use; reads footers only."""
    _check_marker(folder)
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")):
            continue
        if table_name(path) is None:
            raise UsageError(f"{path}: not a landing table; expected <table>.parquet, <table>.jsonl or a folder <table>/, "
                             f"where <table> is one of {', '.join(TABLES)}")
    for path in (path for name in TABLES for path in nested_files(folder, name)):
        if path.suffix not in FILE_TYPES:
            raise UsageError(f"{path}: neither .parquet nor .jsonl, so nobody would read it")
    files = {name: table_files(folder, name) for name in TABLES}
    for name, paths in files.items():
        for path in paths:
            if path.suffix == ".parquet":
                _check_columns(TABLES[name], path, parquet_schema(path))
    if not files["plays"] and not files["impressions"]:
        raise UsageError(f"{folder}: an empty day: neither plays nor impressions have a file")


def _check_marker(folder: Path) -> None:
    marker, interval = read_marker(folder), Interval.parse(folder.name)
    for name in ("first", "last"):
        named = str(getattr(interval, name))
        if marker.get(name, named) != named:
            raise UsageError(f"{folder / MARKER}: {name} is {marker[name]!r}, the folder's name says {named}")


def parquet_schema(path: Path) -> pa.Schema:
    """The Arrow schema in the footer, dictionaries decoded; UsageError for a file that is no Parquet."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}); land it again") from error
    decoded = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema]
    return pa.schema(decoded)


def name_corrupt_file(folder: Path, table: str) -> None:
    """Raises UsageError for the first file of a table whose pages cannot be read: what Spark fails on without saying."""
    for path in table_files(folder, table):
        if path.suffix == ".parquet":
            try:
                for _ in pq.ParquetFile(path).iter_batches():
                    pass
            except (pa.ArrowException, OSError) as error:
                raise UsageError(f"{path}: a corrupt Parquet file ({str(error).splitlines()[0]}); land it again") from error


def read_table(session: SparkSession, folder: Path, name: str) -> DataFrame | None:
    """The frame of one table, or None where the interval has no file of it."""
    table = TABLES[name]
    groups: dict[tuple, list[str]] = defaultdict(list)
    lines: list[str] = []
    for path in table_files(folder, name):
        if path.suffix == ".parquet":
            schema = parquet_schema(path)
            groups[tuple((f.name, f.type) for f in schema if f.name in {c.name for c in table.columns})].append(str(path))
        else:
            lines.append(str(path))
    frames = [_from_parquet(session, table, dict(schema), paths) for schema, paths in groups.items()]
    frames += [_from_lines(session, table, lines)] if lines else []
    return reduce(DataFrame.unionByName, frames) if frames else None


def _check_columns(table: LandingTable, path: Path, schema: pa.Schema) -> None:
    for column in table.columns:
        if schema.names.count(column.name) > 1:
            raise UsageError(f"{path}: has column {column.name} {schema.names.count(column.name)} times")
        if column.name not in schema.names:
            if column.required:
                raise UsageError(f"{path}: has no column {column.name}, which {table.name} must have ({column.doc})")
            continue
        found = schema.field(column.name).type
        if not (pa.types.is_null(found) or _FITS[column.type](found)):
            raise UsageError(f"{path}: column {column.name} is {found}; {table.name} wants {column.type}")


def _from_parquet(session: SparkSession, table: LandingTable, types: dict[str, pa.DataType], paths: list[str]) -> DataFrame:
    rows = session.read.schema(_spark_schema(types)).parquet(*paths)
    present = [c for c in table.columns if c.name in types and not pa.types.is_null(types[c.name])]
    typed = {c.name: _typed_parquet(c, types[c.name]) for c in present}
    record = F.to_json(F.struct(*[F.col(c.name) for c in present]))
    # a whole number in a float column is one; anything else does not fit
    bad = [F.when(F.col(c.name).isNotNull() & ~F.isnan(c.name) & typed[c.name].isNull(), c.name)
           for c in present if c.type == "int" and pa.types.is_floating(types[c.name])]
    return _select(rows, table, typed, record, bad)


def _spark_schema(types: dict[str, pa.DataType]) -> StructType:
    """Given rather than inferred, which would cost a Spark job a table. Unsigned and 8-bit integers, large strings and
    nanoseconds are read as what Spark has for them."""
    return from_arrow_schema(pa.schema([(name, _readable(found)) for name, found in types.items() if not pa.types.is_null(found)]))


def _readable(found: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(found):
        return pa.int64() if found.unit == "ns" else pa.timestamp("us", found.tz)
    if pa.types.is_list(found) or pa.types.is_large_list(found):
        return pa.list_(pa.string())
    if pa.types.is_large_string(found):
        return pa.string()
    widened = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.float16(): pa.float32()}
    return widened.get(found, found)


def _typed_parquet(column: Column, found: pa.DataType) -> Expression:
    value = F.col(column.name)
    if pa.types.is_timestamp(found) and found.unit == "ns":
        value = F.timestamp_micros(F.floor(value / 1000).cast("long"))
    if column.type == "int" and pa.types.is_floating(found):
        return F.when(value == F.floor(value), value.try_cast("int"))
    if pa.types.is_floating(found):
        value = F.when(~F.isnan(value), value)
    return value.cast(SPARK_TYPES[column.type])


def _from_lines(session: SparkSession, table: LandingTable, paths: list[str]) -> DataFrame:
    """Every value as text first, so that one bad value spoils its record and nothing else."""
    rows = session.read.text(paths).where(F.trim("value") != "")
    rows = rows.withColumn("_parsed", F.from_json("value", "map<string,string>"))
    text = {c.name: F.col("_parsed")[c.name] for c in table.columns}
    typed = {c.name: _typed_text(c, text[c.name]) for c in table.columns}
    bad = [F.when(~F.is_valid_utf8("value") | _lone_surrogate("value"), "(not UTF-8)"), F.when(F.col("_parsed").isNull(), "(not JSON)")]
    bad += [F.when(text[c.name].isNotNull() & typed[c.name].isNull(), c.name) for c in table.columns if c.type != "string"]
    return _select(rows, table, typed, F.make_valid_utf8("value"), bad)


def _lone_surrogate(line: str) -> Expression:
    """Half a character, as a JSON escape: what is left when escaped backslashes and whole pairs are taken out."""
    rest = F.regexp_replace(line, r"\\\\|\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w", " ")
    return rest.rlike(r"\\u[dD][89a-fA-F]")


def _typed_text(column: Column, text: Expression) -> Expression:
    if column.type == "list<string>":
        return F.from_json(text, "array<string>")
    if column.type == "int":
        number = text.try_cast("double")
        return F.when(number == F.floor(number), number.try_cast("int"))
    if column.type == "float":
        number = text.try_cast("double")
        return F.when(~F.isnan(number), number)
    if column.type == "bool":
        return F.when(text.isin("true", "false"), text == "true")
    if column.type == "timestamp":
        return F.when(text.rlike(TIMESTAMP), text.try_cast("timestamp"))
    return text.try_cast(SPARK_TYPES[column.type])


def _select(rows: DataFrame, table: LandingTable, typed: dict[str, Expression], record: Expression, bad: list[Expression]) -> DataFrame:
    columns = [typed.get(c.name, F.lit(None)).cast(SPARK_TYPES[c.type]).alias(c.name) for c in table.columns]
    uncastable = F.coalesce(*bad) if bad else F.lit(None).cast("string")
    return rows.select(*columns, uncastable.alias("_uncastable"), record.alias("_record"), F.input_file_name().alias("_file"))
