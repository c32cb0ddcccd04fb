"""The eligibility log: append-only, numbered in the order in which entries become visible."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from contracts.eligibility import Record
from contracts.release import digest
from ledger import database
from ledger.schema import ELIGIBILITY

CHUNK = 2000
SUBJECTS = 500  # SQLite's oldest limit is 999 parameters a statement

_COLUMNS = [column for column in ELIGIBILITY.c if column.name not in ("record_key", "known_at")]


def append(connection: Connection, records: Iterable[Record]) -> int:
    """Adds the records in their order; those that the log has (by key) are left out. Returns how many were added."""
    database.lock_appends(connection)
    before = head(connection)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(ELIGIBILITY).on_conflict_do_nothing(index_elements=["record_key"])
    for chunk in _chunks(records):
        connection.execute(statement, [_row(record) for record in chunk])
    return connection.execute(select(func.count()).where(ELIGIBILITY.c.seq > before)).scalar_one()


def since(connection: Connection, seq: int, limit: int) -> list[Record]:
    """Entries after `seq`, in order, at most `limit`."""
    query = select(*_COLUMNS).where(ELIGIBILITY.c.seq > seq).order_by(ELIGIBILITY.c.seq).limit(limit)
    return [Record(**row) for row in connection.execute(query).mappings()]


def head(connection: Connection) -> int:
    """The newest number; 0 for an empty log."""
    return connection.execute(select(func.max(ELIGIBILITY.c.seq))).scalar() or 0


def newest_known(connection: Connection, title_ids: list[str]) -> dict[tuple[str, str, str], int]:
    """(kind, title, window) -> when its newest logged version became known (epoch seconds), for these titles."""
    newest: dict[tuple[str, str, str], int] = {}
    subject = (ELIGIBILITY.c.kind, ELIGIBILITY.c.title_id, ELIGIBILITY.c.window_id)
    for start in range(0, len(title_ids), SUBJECTS):
        some = ELIGIBILITY.c.title_id.in_(title_ids[start:start + SUBJECTS])
        query = select(*subject, func.max(ELIGIBILITY.c.known_at)).where(some).group_by(*subject)
        newest |= {tuple(row[:3]): row[3] for row in connection.execute(query)}
    return newest


def _row(record: Record) -> dict:
    row = asdict(record)
    del row["seq"]
    key = row.pop("key") or digest(row)
    return {"record_key": key, **row}


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
