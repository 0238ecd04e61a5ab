"""Events: what providers publish, who has subscribed, and how far each subscription has come."""

from __future__ import annotations

from alembic import op

revision = "0012_events"
down_revision = "0011_sandbox"

STATEMENTS = (
    "ALTER TABLE services ADD COLUMN events jsonb NOT NULL DEFAULT '{}'",
    "ALTER TABLE outbox ADD COLUMN subscription text",
    """CREATE INDEX ix_outbox_subscription ON outbox (subscription)
        WHERE subscription IS NOT NULL AND state <> 'closed'""",
    """CREATE TABLE subscriptions (
        id text NOT NULL CONSTRAINT pk_subscriptions PRIMARY KEY,
        member text NOT NULL CONSTRAINT fk_subscriptions_member_members REFERENCES members (code),
        client text NOT NULL CONSTRAINT fk_subscriptions_client_clients REFERENCES clients (id),
        service text NOT NULL CONSTRAINT fk_subscriptions_service_services REFERENCES services (path),
        agreement uuid NOT NULL CONSTRAINT fk_subscriptions_agreement_agreements REFERENCES agreements (id),
        purpose text NOT NULL,
        types text[] NOT NULL,
        receiver text CONSTRAINT fk_subscriptions_receiver_services REFERENCES services (path),
        url text NOT NULL,
        secrets jsonb NOT NULL,
        active boolean NOT NULL,
        row_version integer NOT NULL,
        revision bigint NOT NULL,
        updated_at timestamptz NOT NULL)""",
    "CREATE INDEX ix_subscriptions_revision ON subscriptions (revision)",
    "CREATE INDEX ix_subscriptions_member ON subscriptions (member)",
    "CREATE INDEX ix_subscriptions_service ON subscriptions (service)",
    """CREATE TABLE subscription_progress (
        subscription text NOT NULL CONSTRAINT pk_subscription_progress PRIMARY KEY
            CONSTRAINT fk_subscription_progress_subscription_subscriptions REFERENCES subscriptions (id),
        xid xid8 NOT NULL,
        seq integer NOT NULL,
        run integer NOT NULL,
        moved_at timestamptz NOT NULL DEFAULT now(),
        delivered_at timestamptz,
        failing_since timestamptz,
        stopped text NOT NULL DEFAULT '')""",
    """CREATE TABLE events (
        service text NOT NULL,
        xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
        seq integer NOT NULL,
        type text NOT NULL,
        tx uuid NOT NULL,
        at timestamptz NOT NULL,
        line bytea,
        body bytea NOT NULL,
        CONSTRAINT pk_events PRIMARY KEY (service, xid, seq))""",
    "CREATE INDEX ix_events_at ON events (at)",
    """CREATE TABLE deliveries (
        subscription text NOT NULL,
        xid xid8 NOT NULL,
        seq integer NOT NULL,
        run integer NOT NULL,
        tx uuid NOT NULL,
        publication uuid NOT NULL,
        type text NOT NULL,
        at timestamptz NOT NULL,
        place bigint GENERATED ALWAYS AS IDENTITY,
        CONSTRAINT pk_deliveries PRIMARY KEY (subscription, run, xid, seq))""",
    "CREATE UNIQUE INDEX ix_deliveries_tx ON deliveries (tx)",
    "CREATE INDEX ix_deliveries_subscription_place ON deliveries (subscription, place)",
    "CREATE INDEX ix_deliveries_at ON deliveries (at)",
    """CREATE TABLE delivery_attempts (
        tx uuid NOT NULL,
        attempt integer NOT NULL,
        at timestamptz NOT NULL,
        status smallint,
        problem text NOT NULL,
        duration_us bigint NOT NULL,
        CONSTRAINT pk_delivery_attempts PRIMARY KEY (tx, attempt))""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("delivery_attempts", "deliveries", "events", "subscription_progress", "subscriptions"):
        op.execute(f"DROP TABLE {table}")
    op.execute("ALTER TABLE outbox DROP COLUMN subscription")
    op.execute("ALTER TABLE services DROP COLUMN events")
