"""First tables: releases, transitions, pointer, replicas, eligibility log, cursors."""

import sqlalchemy as sa
from alembic import op

from ledger.schema import Sequence, UtcTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "releases",
        sa.Column("release_id", sa.String(64), primary_key=True),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("payload_digest", sa.String(64)),
        sa.Column("evidence_digest", sa.String(64)),
        sa.Column("compared_with", sa.String(64)),
        sa.Column("created_at", UtcTime, nullable=False),
    )
    op.create_table(
        "transitions",
        sa.Column("number", Sequence, primary_key=True, autoincrement=True),
        sa.Column("release_id", sa.String(64), sa.ForeignKey("releases.release_id"), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("from_state", sa.String(32)),
        sa.Column("to_state", sa.String(32), nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("transitions_by_release", "transitions", ["release_id", "number"])
    op.create_table(
        "pointer",
        sa.Column("arm", sa.String(64), primary_key=True),
        sa.Column("release_id", sa.String(64), sa.ForeignKey("releases.release_id")),
        sa.Column("previous", sa.String(64), sa.ForeignKey("releases.release_id")),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("candidate", sa.String(64), sa.ForeignKey("releases.release_id")),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("deadline", UtcTime),
    )
    op.create_table(
        "replicas",
        sa.Column("replica_id", sa.String(200), primary_key=True),
        sa.Column("address", sa.String(500), nullable=False),
        sa.Column("loaded", sa.JSON, nullable=False),
        sa.Column("serving", sa.String(64)),
        sa.Column("expires_at", UtcTime, nullable=False),
    )
    op.create_table(
        "eligibility_log",
        sa.Column("seq", Sequence, primary_key=True, autoincrement=True),
        sa.Column("record_key", sa.String(300), nullable=False, unique=True),
        sa.Column("known_at", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("title_id", sa.String(200), nullable=False),
        sa.Column("maturity", sa.Integer),
        sa.Column("window_id", sa.String(200), nullable=False),
        sa.Column("market", sa.String(64), nullable=False),
        sa.Column("opens_at", sa.BigInteger, nullable=False),
        sa.Column("closes_at", sa.BigInteger, nullable=False),
        sa.Column("revoked", sa.Boolean, nullable=False),
    )
    op.create_index("eligibility_by_subject", "eligibility_log", ["title_id", "kind", "window_id"])
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("position", sa.JSON, nullable=False),
    )


def downgrade() -> None:
    for table in ("cursors", "eligibility_log", "replicas", "pointer", "transitions", "releases"):
        op.drop_table(table)
