"""Reading the lake outside Spark: a table, by the snapshot that a nightly tag pins, as an Arrow table.

Later steps read the tag only; without a tag a read sees main, which the next night moves.
"""

from collections.abc import Iterable, Sequence

import pyarrow as pa
from pydantic import ValidationError
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.expressions import AlwaysTrue, And, BooleanExpression, EqualTo
from pyiceberg.table import Table

from contracts.errors import UsageError
from contracts.marts import CATALOG, TRAINING, tag_name
from contracts.settings import Settings
from contracts.tags import TagRecord, tag_file, training_file


def catalog(settings: Settings) -> SqlCatalog:
    """The same catalogue as Spark's, read through SQLAlchemy."""
    address = settings.catalog_address()
    if address.startswith("postgresql://"):
        address = address.replace("postgresql://", "postgresql+psycopg://", 1)
    settings.lake.mkdir(parents=True, exist_ok=True)
    return SqlCatalog(CATALOG, uri=address, warehouse=settings.warehouse_address())


def open_table(settings: Settings, name: str) -> Table:
    """`name` as in `marts.fct_play`. Raises UsageError where the lake has no such table."""
    try:
        return catalog(settings).load_table(name)
    except NoSuchTableError as error:
        raise UsageError(f"the lake at {settings.lake} has no table {name}: ingest and build the warehouse first") from error


def table(
    settings: Settings,
    name: str,
    tag: str | None = None,
    columns: Sequence[str] | None = None,
    row_filter: str | BooleanExpression | None = None,
) -> pa.Table:
    """The rows of a table at a tag (None: main), in no particular order; times are timestamp[us, UTC].

    `row_filter` is an expression of pyiceberg, or its text form: `"known_at < '2026-03-31T00:00:00+00:00'"`.
    Raises UsageError for an unknown table or tag.
    """
    source = open_table(settings, name)
    return _scan(source, _snapshot(source, name, tag), columns, row_filter)


def batches(
    settings: Settings, name: str, tag: str, columns: Sequence[str], row_filter: BooleanExpression
) -> Iterable[pa.RecordBatch]:
    """As `table`, a record batch at a time: for what must not be in memory at once."""
    source = open_table(settings, name)
    scan = source.scan(row_filter=row_filter, selected_fields=tuple(columns), snapshot_id=_snapshot(source, name, tag))
    return scan.to_arrow_batch_reader()


def training(
    settings: Settings,
    name: str,
    ds: str,
    role: str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The rows of `training.<name>` that night `ds` made (`role`: ranker or judge), at the snapshot on record."""
    version = training_record(settings, ds).tables
    pinned = version.get(name) or version.get(f"{TRAINING}.{name}")
    if pinned is None:
        raise UsageError(f"the training record of {ds} has no table {name}; it has {', '.join(version)}")
    wanted: BooleanExpression = EqualTo("ds", ds)
    if role is not None:
        wanted = And(wanted, EqualTo("role", role))
    return _scan(open_table(settings, f"{TRAINING}.{name}"), pinned.snapshot_id, columns, wanted)


def tag_record(settings: Settings, ds: str) -> TagRecord:
    """What `nightly_<ds>` pins. Raises UsageError where the night has not been built."""
    return _record(settings, tag_file(tag_name(ds)), f"night {ds} has no marts yet: run `marquee warehouse --ds {ds}` first")


def training_record(settings: Settings, ds: str) -> TagRecord:
    """What the examples job of night `ds` wrote. Raises UsageError where it has not run."""
    return _record(settings, training_file(tag_name(ds)), f"night {ds} has no training rows yet: run `marquee examples --ds {ds}` first")


def _record(settings: Settings, file: str, missing: str) -> TagRecord:
    path = settings.lake / "tags" / file
    try:
        return TagRecord.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise UsageError(missing) from error
    except ValidationError as error:
        raise UsageError(f"{path}: not a tag record ({error.error_count()} fields are wrong); delete it and rerun the step") from error


def _snapshot(source: Table, name: str, tag: str | None) -> int | None:
    if tag is None:
        return None
    pinned = source.refs().get(tag)
    if pinned is None:
        raise UsageError(f"{name} has no tag {tag}: run `marquee warehouse --ds {tag.removeprefix('nightly_')}` first")
    return pinned.snapshot_id


def _scan(source: Table, snapshot: int | None, columns, row_filter) -> pa.Table:
    if snapshot is None and source.current_snapshot() is None:
        empty = source.schema().as_arrow().empty_table()
        return _plain(empty.select(list(columns)) if columns else empty)
    fields = tuple(columns) if columns else ("*",)
    return _plain(source.scan(row_filter=row_filter or AlwaysTrue(), selected_fields=fields, snapshot_id=snapshot).to_arrow())


def _plain(rows: pa.Table) -> pa.Table:
    """Strings and lists with 32-bit offsets. Which of the two a scan gives depends on who wrote the file, and Arrow joins
    no string with a large one."""
    return rows.cast(pa.schema([field.with_type(_plain_type(field.type)) for field in rows.schema]))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_list(kind) or pa.types.is_list(kind):
        return pa.list_(_plain_type(kind.value_type))
    return kind
