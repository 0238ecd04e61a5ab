"""Outbox rows know which of their deliveries were answered with: nothing was done."""

from __future__ import annotations

from alembic import op

revision = "0005_answered"
down_revision = "0004_statistics"


def upgrade() -> None:
    op.execute("ALTER TABLE outbox ADD COLUMN answered int4multirange NOT NULL DEFAULT '{}'")


def downgrade() -> None:
    op.execute("ALTER TABLE outbox DROP COLUMN answered")
