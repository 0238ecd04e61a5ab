"""What was decided of a service, by whom and why; maintenance until when; adapters that are retired.

`served`: some manifest of its adapter has it. What is decided outlives manifests that leave it out and bring it back.
The defaults are for gateways of the release before this one, which know nothing of these columns.
"""

from __future__ import annotations

from alembic import op

revision = "0007_service_states"
down_revision = "0006_compatible_routes"

SERVICES = {
    "served": "boolean NOT NULL DEFAULT true",
    "decided": "text NOT NULL DEFAULT 'active'",
    "reason": "text NOT NULL DEFAULT ''",
    "legal_basis": "text NOT NULL DEFAULT ''",
    "maintenance_from": "timestamptz",
    "maintenance_until": "timestamptz",
    "decided_by": "text NOT NULL DEFAULT ''",
    "decided_at": "timestamptz",
    "row_version": "integer NOT NULL DEFAULT 1",
}
ADAPTERS = {
    "retired_at": "timestamptz",
    "retired_by": "text NOT NULL DEFAULT ''",
    "retired_reason": "text NOT NULL DEFAULT ''",
}


def upgrade() -> None:
    for table, columns in (("services", SERVICES), ("adapters", ADAPTERS)):
        for name, kind in columns.items():
            op.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    op.execute("UPDATE services SET served = false WHERE state = 'retired'")
    op.execute("UPDATE services SET decided = 'disabled' WHERE state = 'disabled'")


def downgrade() -> None:
    for table, columns in (("services", SERVICES), ("adapters", ADAPTERS)):
        for name in columns:
            op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
