"""Run by Alembic inside the transaction and under the lock that `ngsp.database.migrate` holds."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
