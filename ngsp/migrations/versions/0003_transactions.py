"""The transaction log, its projection, outbox, replies, idempotency, quarantine, gateways, leases, quotas."""

from __future__ import annotations

from alembic import op

revision = "0003_transactions"
down_revision = "0002_identity"

STATEMENTS = (
    """CREATE TABLE entries (
        xid xid8 NOT NULL DEFAULT pg_current_xact_id(), seq integer NOT NULL, at timestamptz NOT NULL,
        tx uuid NOT NULL, kind smallint NOT NULL, body bytea NOT NULL, wrapped bytea) PARTITION BY RANGE (at)""",
    "CREATE INDEX ix_entries_tx ON entries (tx)",
    "CREATE INDEX ix_entries_xid_seq ON entries (xid, seq)",
    # An entry never changes; only the key of its record may be taken away, which erases what was sealed under it.
    """CREATE FUNCTION ngsp_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'UPDATE' AND NEW.wrapped IS NULL
               AND (NEW.xid, NEW.seq, NEW.at, NEW.tx, NEW.kind, NEW.body)
                   IS NOT DISTINCT FROM (OLD.xid, OLD.seq, OLD.at, OLD.tx, OLD.kind, OLD.body) THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION 'the transaction log is append-only' USING ERRCODE = 'insufficient_privilege';
        END $$""",
    """CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE ON entries
        FOR EACH ROW EXECUTE FUNCTION ngsp_append_only()""",
    """CREATE TRIGGER entries_never_emptied BEFORE TRUNCATE ON entries
        FOR EACH STATEMENT EXECUTE FUNCTION ngsp_append_only()""",
    """CREATE TABLE subjects (subject bytea NOT NULL, tx uuid NOT NULL, at timestamptz NOT NULL,
        CONSTRAINT pk_subjects PRIMARY KEY (subject, tx))""",
    """CREATE TABLE transactions (
        tx uuid CONSTRAINT pk_transactions PRIMARY KEY, place bigint NOT NULL, accepted_at timestamptz NOT NULL,
        ended_at timestamptz, state text NOT NULL, mode text NOT NULL, client text NOT NULL, consumer text NOT NULL,
        provider text NOT NULL, service text NOT NULL, version text NOT NULL, adapter text NOT NULL,
        agreement text NOT NULL, agreement_version integer NOT NULL, purpose text NOT NULL, officer text, dossier text,
        procedure text, trace text, gateway text NOT NULL, epoch integer NOT NULL, code text, failure_class text,
        provider_code text, status smallint, request_bytes integer, reply_bytes integer, duration_us bigint)""",
    "CREATE UNIQUE INDEX ix_transactions_place ON transactions (place)",
    "CREATE INDEX ix_transactions_consumer_place ON transactions (consumer, place)",
    "CREATE INDEX ix_transactions_provider_place ON transactions (provider, place)",
    "CREATE INDEX ix_transactions_service_place ON transactions (service, place)",
    "CREATE INDEX ix_transactions_dossier ON transactions (dossier, place) WHERE dossier IS NOT NULL",
    "CREATE INDEX ix_transactions_trace ON transactions (trace, place) WHERE trace IS NOT NULL",
    "CREATE INDEX ix_transactions_officer ON transactions (officer, place) WHERE officer IS NOT NULL",
    "CREATE INDEX ix_transactions_not_well ON transactions (state, place) WHERE state <> 'succeeded'",
    """CREATE TABLE projection (id smallint CONSTRAINT pk_projection PRIMARY KEY, xid xid8 NOT NULL,
        seq integer NOT NULL, horizon xid8 NOT NULL, place bigint NOT NULL)""",
    "INSERT INTO projection VALUES (1, '0', 0, '0', 0)",
    """CREATE TABLE outbox (
        tx uuid CONSTRAINT pk_outbox PRIMARY KEY, service text NOT NULL, agreement text NOT NULL,
        agreement_version integer NOT NULL, purpose text NOT NULL, client text NOT NULL, officer text NOT NULL,
        dossier text NOT NULL, traceparent text NOT NULL, accepted_at timestamptz NOT NULL,
        deadline timestamptz NOT NULL, state text NOT NULL, attempts integer NOT NULL, next_at timestamptz NOT NULL,
        body bytea NOT NULL)""",
    "CREATE INDEX ix_outbox_due ON outbox (next_at) WHERE state = 'open'",
    "CREATE INDEX ix_outbox_closed ON outbox (deadline) WHERE state = 'closed'",
    """CREATE TABLE replies (tx uuid CONSTRAINT pk_replies PRIMARY KEY, at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL, code text NOT NULL, provider_code text NOT NULL, body bytea)""",
    "CREATE INDEX ix_replies_expires_at ON replies (expires_at)",
    """CREATE TABLE idempotency_keys (
        client text NOT NULL, key bytea NOT NULL, digest bytea NOT NULL, tx uuid NOT NULL, mode text NOT NULL,
        at timestamptz NOT NULL, expires_at timestamptz NOT NULL,
        CONSTRAINT pk_idempotency_keys PRIMARY KEY (client, key))""",
    """CREATE TABLE resolutions (tx uuid NOT NULL, what text NOT NULL, at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_resolutions PRIMARY KEY (tx, what))""",
    """CREATE TABLE quarantine (
        id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT pk_quarantine PRIMARY KEY, tx uuid, service text NOT NULL,
        what text NOT NULL, reason text NOT NULL, at timestamptz NOT NULL DEFAULT now(),
        state text NOT NULL DEFAULT 'held', wrapped bytea, body bytea, decided_by text, decided_at timestamptz,
        decision_reason text)""",
    "CREATE INDEX ix_quarantine_state ON quarantine (state, id)",
    """CREATE TABLE gateways (instance text CONSTRAINT pk_gateways PRIMARY KEY, epoch integer NOT NULL,
        slot smallint CONSTRAINT uq_gateways_slot UNIQUE, seen_at timestamptz NOT NULL, fenced_xid xid8 NOT NULL)""",
    # Whoever writes entries says in its session which gateway and epoch it is; a lost epoch refuses the whole batch.
    """CREATE FUNCTION ngsp_fence() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM 1 FROM gateways WHERE instance = current_setting('ngsp.instance', true)
                AND epoch = current_setting('ngsp.epoch', true)::integer FOR KEY SHARE;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'this gateway does not hold its epoch' USING ERRCODE = 'NG001';
            END IF;
            RETURN NULL;
        END $$""",
    """CREATE TRIGGER entries_fence AFTER INSERT ON entries
        FOR EACH STATEMENT EXECUTE FUNCTION ngsp_fence()""",
    """CREATE TABLE leases (name text CONSTRAINT pk_leases PRIMARY KEY, holder text NOT NULL,
        until timestamptz NOT NULL)""",
    """CREATE TABLE quotas (agreement text NOT NULL, "window" text NOT NULL, starts_at timestamptz NOT NULL,
        leased integer NOT NULL, CONSTRAINT pk_quotas PRIMARY KEY (agreement, "window", starts_at))""",
    """CREATE TABLE refusals (minute timestamptz NOT NULL, address text NOT NULL, code text NOT NULL,
        gateway text NOT NULL, count integer NOT NULL,
        CONSTRAINT pk_refusals PRIMARY KEY (minute, address, code, gateway))""",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute(
        "DROP TABLE refusals, quotas, leases, gateways, quarantine, resolutions, idempotency_keys, replies, outbox,"
        " projection, transactions, subjects, entries"
    )
    op.execute("DROP FUNCTION ngsp_fence()")
    op.execute("DROP FUNCTION ngsp_append_only()")
