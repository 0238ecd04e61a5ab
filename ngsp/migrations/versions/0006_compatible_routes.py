"""Compatible routes: which old address is which service."""

from __future__ import annotations

from alembic import op

revision = "0006_compatible_routes"
down_revision = "0005_answered"

STATEMENTS = (
    """CREATE TABLE compatible_routes (
        id text NOT NULL CONSTRAINT pk_compatible_routes PRIMARY KEY,
        title_vi text NOT NULL,
        title_en text NOT NULL,
        methods text[] NOT NULL,
        path text NOT NULL,
        service text NOT NULL CONSTRAINT fk_compatible_routes_service_services REFERENCES services (path),
        agreements text[] NOT NULL,
        terms jsonb NOT NULL,
        active boolean NOT NULL,
        row_version integer NOT NULL,
        revision bigint NOT NULL,
        updated_at timestamptz NOT NULL)""",
    "CREATE INDEX ix_compatible_routes_service ON compatible_routes (service)",
    "CREATE INDEX ix_compatible_routes_revision ON compatible_routes (revision)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE compatible_routes")
