"""Nights: live quality by release, day and arm; whether a night trains or refreshes."""

import sqlalchemy as sa
from alembic import op

from ledger.schema import UtcTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "live_quality",
        sa.Column("release_id", sa.String(64), sa.ForeignKey("releases.release_id"), primary_key=True),
        sa.Column("ds", sa.String(10), primary_key=True),
        sa.Column("arm", sa.String(64), primary_key=True),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("figures", sa.JSON, nullable=False),
    )
    op.create_table(
        "decisions",
        sa.Column("ds", sa.String(10), primary_key=True),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("base", sa.String(64), sa.ForeignKey("releases.release_id")),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
    )


def downgrade() -> None:
    for table in ("decisions", "live_quality"):
        op.drop_table(table)
