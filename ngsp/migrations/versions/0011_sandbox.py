"""The sandbox: clients whose calls are answered from examples, and their transactions kept out of everything else.

Lists go down indexes of real transactions only, however much is tried out; statistics count real ones only.
"""

from __future__ import annotations

import importlib

from alembic import op

revision = "0011_sandbox"
down_revision = "0010_failed_attempts"

_counting = importlib.import_module("ngsp.migrations.versions.0004_statistics")

INDEXES = {
    "ix_transactions_consumer_place": ("consumer, place", ""),
    "ix_transactions_provider_place": ("provider, place", ""),
    "ix_transactions_service_place": ("service, place", ""),
    "ix_transactions_dossier": ("dossier, place", "dossier IS NOT NULL"),
    "ix_transactions_trace": ("trace, place", "trace IS NOT NULL"),
    "ix_transactions_officer": ("officer, place", "officer IS NOT NULL"),
    "ix_transactions_not_well": ("state, place", "state <> 'succeeded'"),
}


def _made(name: str, columns: str, where: str) -> str:
    return f"CREATE INDEX {name} ON transactions ({columns})" + (f" WHERE {where}" if where else "")


def _count(of_all: bool) -> list[str]:
    """The functions of the counting triggers, over all rows or over real transactions."""
    real = "" if of_all else " WHERE NOT {alias}.sandbox"
    added = _counting.ADDED + real.format(alias="a")
    changed = _counting.CHANGED.replace(" UNION ALL", real.format(alias="a") + " UNION ALL") + real.format(alias="r")
    dossiers = _counting.COUNT_DOSSIERS
    if not of_all:
        dossiers = dossiers.replace(" GROUP BY", " AND NOT t.sandbox GROUP BY")
    counted = f"{_counting.COUNT.format(changes=added.format(rows='added'))}; {dossiers.format(rows='added')}"
    return [
        _function("ngsp_count_added", counted),
        _function("ngsp_count_changed", _counting.COUNT.format(changes=changed)),
    ]


def _function(name: str, work: str) -> str:
    begun = f"CREATE OR REPLACE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$"
    return f"{begun} BEGIN {work}; RETURN NULL; END $$"


def upgrade() -> None:
    op.execute("ALTER TABLE clients ADD COLUMN sandbox boolean NOT NULL DEFAULT false")
    op.execute("ALTER TABLE transactions ADD COLUMN IF NOT EXISTS sandbox boolean NOT NULL DEFAULT false")
    for name, (columns, where) in INDEXES.items():
        op.execute(f"DROP INDEX {name}")
        op.execute(_made(name, columns, f"{where} AND NOT sandbox" if where else "NOT sandbox"))
    op.execute(_made("ix_transactions_sandbox_place", "place", "sandbox"))
    op.execute(_made("ix_transactions_sandbox_consumer_place", "consumer, place", "sandbox"))
    for statement in _count(of_all=False):
        op.execute(statement)


def downgrade() -> None:
    for statement in _count(of_all=True):
        op.execute(statement)
    for name, (columns, where) in INDEXES.items():
        op.execute(f"DROP INDEX {name}")
        op.execute(_made(name, columns, where))
    op.execute("ALTER TABLE transactions DROP COLUMN sandbox")
    op.execute("ALTER TABLE clients DROP COLUMN sandbox")
