"""What nights leave besides releases: live quality, written once, and the decision to train or to refresh."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from ledger.rows import Decision, LiveQuality
from ledger.schema import DECISIONS, LIVE_QUALITY


def keep_quality(connection: Connection, release_id: str, ds: str, arm: str, at: datetime, figures: dict[str, Any]) -> LiveQuality:
    """Writes the row, or finds the one that was written first."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = dialect.insert(LIVE_QUALITY).values(release_id=release_id, ds=ds, arm=arm, at=at, figures=figures)
    connection.execute(row.on_conflict_do_nothing())
    return next(q for q in quality(connection, release_id) if (q.ds, q.arm) == (ds, arm))


def quality(connection: Connection, release_id: str | None = None) -> list[LiveQuality]:
    """Oldest night first; of one release, or of all."""
    query = select(LIVE_QUALITY).order_by(LIVE_QUALITY.c.ds, LIVE_QUALITY.c.at, LIVE_QUALITY.c.arm)
    if release_id is not None:
        query = query.where(LIVE_QUALITY.c.release_id == release_id)
    return [LiveQuality(**row) for row in connection.execute(query).mappings()]


def decision(connection: Connection, ds: str) -> Decision | None:
    row = connection.execute(select(DECISIONS).where(DECISIONS.c.ds == ds)).mappings().first()
    return Decision(**row) if row else None


def decide(connection: Connection, decided: Decision) -> Decision:
    """In place of what was decided for the night before."""
    connection.execute(delete(DECISIONS).where(DECISIONS.c.ds == decided.ds))
    connection.execute(insert(DECISIONS).values(vars(decided)))
    return decided
