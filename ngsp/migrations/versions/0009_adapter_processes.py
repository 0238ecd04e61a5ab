"""What each process of an adapter said last of itself; one that is gone is forgotten after a while."""

from __future__ import annotations

from alembic import op

revision = "0009_adapter_processes"
down_revision = "0008_order"


def upgrade() -> None:
    op.execute(
        """CREATE TABLE adapter_processes (
            adapter text NOT NULL CONSTRAINT fk_adapter_processes_adapter_adapters REFERENCES adapters (id),
            process text NOT NULL, seen_at timestamptz NOT NULL, build text NOT NULL, schemas jsonb NOT NULL,
            breakers jsonb NOT NULL, in_work integer NOT NULL, paused text[] NOT NULL, troubles text[] NOT NULL,
            probe boolean NOT NULL, CONSTRAINT pk_adapter_processes PRIMARY KEY (adapter, process))"""
    )


def downgrade() -> None:
    op.execute("DROP TABLE adapter_processes")
