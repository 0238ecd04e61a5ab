"""Identity: the keys that sign access tokens, and the client assertions that were used."""

from __future__ import annotations

from alembic import op

revision = "0002_identity"
down_revision = "0001_registry"

STATEMENTS = (
    """CREATE TABLE signing_keys (
        kid text NOT NULL CONSTRAINT pk_signing_keys PRIMARY KEY,
        public_jwk jsonb NOT NULL,
        private_sealed bytea NOT NULL,
        created_at timestamptz NOT NULL,
        signs_from timestamptz NOT NULL,
        signs_until timestamptz,
        verifies_until timestamptz)""",
    """CREATE TABLE used_assertions (
        client text NOT NULL,
        jti text NOT NULL,
        expires_at timestamptz NOT NULL,
        CONSTRAINT pk_used_assertions PRIMARY KEY (client, jti))""",
    "CREATE INDEX ix_used_assertions_expires_at ON used_assertions (expires_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("used_assertions", "signing_keys"):
        op.execute(f"DROP TABLE {table}")
