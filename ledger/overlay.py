"""The overlay: append-only records of titles beside each kept release, numbered in the order in which they become
visible.
"""

from collections.abc import Iterable

import numpy as np
from sqlalchemy import Connection, func, insert, select

from contracts.overlay import OverlayRecord
from ledger import database
from ledger.schema import ELIGIBILITY, OVERLAY


def append(connection: Connection, release_id: str, records: Iterable[OverlayRecord]) -> int:
    """Adds the records, in their order, for a release. Left out are versions of a title that are not newer than the one
    that the overlay has, whoever appended it meanwhile. Returns how many were added."""
    database.lock_appends(connection)
    newest = _versions(connection, release_id)
    rows = [
        {"release_id": release_id, "title_id": record.title_id, "title_seq": record.title_seq,
         "vector": np.ascontiguousarray(record.vector_D, "<f4").tobytes()}
        for record in records if record.title_seq > newest.get(record.title_id, 0)
    ]
    if rows:
        connection.execute(insert(OVERLAY), rows)
    return len(rows)


def since(connection: Connection, release_id: str, seq: int) -> list[OverlayRecord]:
    """The release's records after `seq`, in order."""
    query = (
        select(OVERLAY.c.seq, OVERLAY.c.title_id, OVERLAY.c.title_seq, OVERLAY.c.vector, ELIGIBILITY.c.content)
        .join(ELIGIBILITY, ELIGIBILITY.c.seq == OVERLAY.c.title_seq)
        .where(OVERLAY.c.release_id == release_id, OVERLAY.c.seq > seq).order_by(OVERLAY.c.seq)
    )
    return [OverlayRecord(row.seq, row.title_id, row.title_seq, row.content or {}, np.frombuffer(row.vector, "<f4"))
            for row in connection.execute(query)]


def titles(connection: Connection, release_id: str) -> dict[str, dict]:
    """title -> content of its newest version in the release's overlay."""
    newest = select(func.max(OVERLAY.c.title_seq)).where(OVERLAY.c.release_id == release_id).group_by(OVERLAY.c.title_id)
    query = select(ELIGIBILITY.c.title_id, ELIGIBILITY.c.content).where(ELIGIBILITY.c.seq.in_(newest))
    return {row.title_id: row.content or {} for row in connection.execute(query)}


def head(connection: Connection, release_id: str) -> int:
    """The newest number of the release's records; 0 where it has none."""
    return connection.execute(select(func.max(OVERLAY.c.seq)).where(OVERLAY.c.release_id == release_id)).scalar() or 0


def _versions(connection: Connection, release_id: str) -> dict[str, int]:
    query = select(OVERLAY.c.title_id, func.max(OVERLAY.c.title_seq)).where(OVERLAY.c.release_id == release_id)
    return dict(connection.execute(query.group_by(OVERLAY.c.title_id)).tuples().all())
