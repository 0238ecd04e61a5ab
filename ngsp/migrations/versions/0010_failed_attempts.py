"""Failed client authentications, counted over all gateways."""

from __future__ import annotations

from alembic import op

revision = "0010_failed_attempts"
down_revision = "0009_adapter_processes"

STATEMENTS = (
    """CREATE TABLE failed_attempts (
        kind text NOT NULL,
        key bytea NOT NULL,
        failures integer NOT NULL,
        failed_at timestamptz NOT NULL,
        good_at timestamptz,
        changed_at timestamptz NOT NULL,
        CONSTRAINT pk_failed_attempts PRIMARY KEY (kind, key))""",
    "CREATE INDEX ix_failed_attempts_changed_at ON failed_attempts (changed_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE failed_attempts")
