"""The eligibility log: append-only, numbered in the order in which entries become visible."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from contracts.eligibility import Record
from contracts.release import digest
from ledger import database
from ledger.schema import ELIGIBILITY

CHUNK = 2000
SUBJECTS = 500  # SQLite's oldest limit is 999 parameters a statement

_COLUMNS = [column for column in ELIGIBILITY.c if column.name not in ("record_key", "known_at", "content")]


def append(connection: Connection, records: Iterable[Record]) -> int:
    """Adds the records in their order. Left out are those that the log has (by key), and versions older than the one
    that it has: a late record never undoes a newer one. Returns how many were added."""
    database.lock_appends(connection)
    before = head(connection)
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(ELIGIBILITY).on_conflict_do_nothing(index_elements=["record_key"])
    for chunk in _chunks(records):
        newest = _newest_known(connection, sorted({record.title_id for record in chunk if record.title_id}), before)
        rows = [_row(r) for r in chunk if r.known_at >= newest.get((r.kind, r.title_id, r.market, r.window_id), r.known_at)]
        if rows:
            connection.execute(statement, rows)
    return connection.execute(select(func.count()).where(ELIGIBILITY.c.seq > before)).scalar_one()


def since(connection: Connection, seq: int, limit: int) -> list[Record]:
    """Entries after `seq`, in order, at most `limit`; without content."""
    query = select(*_COLUMNS).where(ELIGIBILITY.c.seq > seq).order_by(ELIGIBILITY.c.seq).limit(limit)
    return [Record(**row) for row in connection.execute(query).mappings()]


def titles_since(connection: Connection, seq: int) -> list[str]:
    """The titles that entries after `seq` speak of, in order of id."""
    query = select(ELIGIBILITY.c.title_id).where(ELIGIBILITY.c.seq > seq).distinct().order_by(ELIGIBILITY.c.title_id)
    return list(connection.execute(query).scalars())


def of_titles(connection: Connection, title_ids: Sequence[str]) -> list[Record]:
    """All entries of these titles, in order; without content."""
    found: list[Record] = []
    for some in _subjects(title_ids):
        query = select(*_COLUMNS).where(ELIGIBILITY.c.title_id.in_(some))
        found += [Record(**row) for row in connection.execute(query).mappings()]
    return sorted(found, key=lambda record: record.seq)


def contents(connection: Connection, title_ids: Sequence[str]) -> dict[str, tuple[int, dict[str, Any]]]:
    """title -> (number, content) of its newest version, for those of the titles whose newest version has a content."""
    found: dict[str, tuple[int, dict[str, Any]]] = {}
    for some in _subjects(title_ids):
        versions = (ELIGIBILITY.c.kind == "title", ELIGIBILITY.c.title_id.in_(some))
        newest = select(func.max(ELIGIBILITY.c.seq)).where(*versions).group_by(ELIGIBILITY.c.title_id)
        query = select(ELIGIBILITY.c.title_id, ELIGIBILITY.c.seq, ELIGIBILITY.c.content).where(ELIGIBILITY.c.seq.in_(newest))
        found |= {row.title_id: (row.seq, row.content) for row in connection.execute(query) if row.content is not None}
    return found


def head(connection: Connection) -> int:
    """The newest number; 0 for an empty log."""
    return connection.execute(select(func.max(ELIGIBILITY.c.seq))).scalar() or 0


def _newest_known(connection: Connection, title_ids: list[str], up_to: int) -> dict[tuple[str, str, str, str], int]:
    """(kind, title, market, window) -> when its newest version became known (epoch microseconds), for these titles, as the log
    had them at number `up_to`."""
    newest: dict[tuple[str, str, str, str], int] = {}
    subject = (ELIGIBILITY.c.kind, ELIGIBILITY.c.title_id, ELIGIBILITY.c.market, ELIGIBILITY.c.window_id)
    for some in _subjects(title_ids):
        query = select(*subject, func.max(ELIGIBILITY.c.known_at))
        query = query.where(ELIGIBILITY.c.title_id.in_(some), ELIGIBILITY.c.seq <= up_to).group_by(*subject)
        newest |= {tuple(row[:4]): row[4] for row in connection.execute(query)}
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


def _subjects(title_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (title_ids[start:start + SUBJECTS] for start in range(0, len(title_ids), SUBJECTS))
