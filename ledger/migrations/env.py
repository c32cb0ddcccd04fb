"""Alembic's entry: runs on the connection that ledger.database hands over, in its transaction."""

from alembic import context

from ledger.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
