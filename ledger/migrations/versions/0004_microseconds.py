"""The eligibility log knows to the microsecond when a version became known: two of one second are told apart."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.execute("UPDATE eligibility_log SET known_at = known_at * 1000000")


def downgrade() -> None:
    op.execute("UPDATE eligibility_log SET known_at = known_at / 1000000")
