"""Alembic migrations: one line of revisions, each stating the one before it, run by `ngsp.database.migrate`."""
