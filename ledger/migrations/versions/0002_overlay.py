"""The overlay, and the content of title versions in the eligibility log.

Versions that were logged before have no content: their titles get a vector with the next build.
"""

import sqlalchemy as sa
from alembic import op

from ledger.schema import Sequence

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("eligibility_log", sa.Column("content", sa.JSON(none_as_null=True)))
    op.create_table(
        "overlay",
        sa.Column("seq", Sequence, primary_key=True, autoincrement=True),
        sa.Column("release_id", sa.String(64), sa.ForeignKey("releases.release_id"), nullable=False),
        sa.Column("title_id", sa.String(200), nullable=False),
        sa.Column("title_seq", Sequence, sa.ForeignKey("eligibility_log.seq"), nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("overlay_by_title", "overlay", ["release_id", "title_id", "title_seq"], unique=True)
    op.create_index("overlay_by_release", "overlay", ["release_id", "seq"])


def downgrade() -> None:
    op.drop_table("overlay")
    op.drop_column("eligibility_log", "content")
