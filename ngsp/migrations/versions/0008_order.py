"""Order: what a service orders its submissions by, and the line in which they wait.

`place` is the order of acceptance: a row that could be seen when another came has the smaller one, whatever the clocks
of the gateways say. Of a line at most one submission is on the bus: the unique index makes sure.
"""

from __future__ import annotations

from alembic import op

revision = "0008_order"
down_revision = "0007_service_states"

STATEMENTS = (
    """ALTER TABLE services ADD COLUMN "order" text NOT NULL DEFAULT 'none'""",
    "ALTER TABLE outbox ADD COLUMN place bigint GENERATED ALWAYS AS IDENTITY, ADD COLUMN order_key bytea",
    """CREATE INDEX ix_outbox_line ON outbox (order_key, place) WHERE order_key IS NOT NULL AND state <> 'closed'""",
    """CREATE UNIQUE INDEX ix_outbox_first ON outbox (order_key)
        WHERE order_key IS NOT NULL AND state <> 'closed' AND attempts > 0""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE outbox DROP COLUMN order_key, DROP COLUMN place")
    op.execute('ALTER TABLE services DROP COLUMN "order"')
