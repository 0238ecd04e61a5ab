"""The tables of the transaction log and of what stands beside it.

`entries` is partitioned by month of `at` and never updated, but that the wrapped key of a record may be taken out of
its first entry: that is erasure. What a filter needs is in `transactions`, one row each, kept by the projector.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import BIT, INT4MULTIRANGE
from sqlalchemy.types import UserDefinedType

from ngsp.database import metadata

Moment = DateTime(timezone=True)


class Xid8(UserDefinedType[str]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


entries = Table(
    "entries",
    metadata,
    Column("xid", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    Column("seq", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("tx", Uuid, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("wrapped", LargeBinary),
    Index("ix_entries_tx", "tx"),
    Index("ix_entries_xid_seq", "xid", "seq"),
    postgresql_partition_by="RANGE (at)",
)

subjects = Table(
    "subjects",
    metadata,
    Column("subject", LargeBinary, nullable=False),
    Column("tx", Uuid, nullable=False),
    Column("at", Moment, nullable=False),
    PrimaryKeyConstraint("subject", "tx"),
)

transactions = Table(
    "transactions",
    metadata,
    Column("tx", Uuid, primary_key=True),
    Column("place", BigInteger, nullable=False),
    Column("accepted_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("state", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("consumer", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("adapter", Text, nullable=False),
    Column("agreement", Text, nullable=False),
    Column("agreement_version", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("officer", Text),
    Column("dossier", Text),
    Column("procedure", Text),
    Column("trace", Text),
    Column("gateway", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("code", Text),
    Column("failure_class", Text),
    Column("provider_code", Text),
    Column("status", SmallInteger),
    Column("request_bytes", Integer),
    Column("reply_bytes", Integer),
    Column("duration_us", BigInteger),
    Column("sandbox", Boolean, nullable=False, server_default=text("false")),
    Index("ix_transactions_place", "place", unique=True),
    Index("ix_transactions_consumer_place", "consumer", "place", postgresql_where=text("NOT sandbox")),
    Index("ix_transactions_provider_place", "provider", "place", postgresql_where=text("NOT sandbox")),
    Index("ix_transactions_service_place", "service", "place", postgresql_where=text("NOT sandbox")),
    Index("ix_transactions_dossier", "dossier", "place", postgresql_where=text("dossier IS NOT NULL AND NOT sandbox")),
    Index("ix_transactions_trace", "trace", "place", postgresql_where=text("trace IS NOT NULL AND NOT sandbox")),
    Index("ix_transactions_officer", "officer", "place", postgresql_where=text("officer IS NOT NULL AND NOT sandbox")),
    Index("ix_transactions_not_well", "state", "place", postgresql_where=text("state <> 'succeeded' AND NOT sandbox")),
    Index("ix_transactions_sandbox_place", "place", postgresql_where=text("sandbox")),
    Index("ix_transactions_sandbox_consumer_place", "consumer", "place", postgresql_where=text("sandbox")),
)

projection = Table(
    "projection",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("xid", Xid8(), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("horizon", Xid8(), nullable=False),
    Column("place", BigInteger, nullable=False),
)

statistics = Table(
    "statistics",
    metadata,
    Column("span", Text, nullable=False),
    Column("begins_at", Moment, nullable=False),
    Column("consumer", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("adapter", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("failure_class", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("bucket", SmallInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("last_success_at", Moment),
    PrimaryKeyConstraint(
        *("span", "begins_at", "consumer", "provider", "service", "version", "adapter", "mode", "state"),
        *("failure_class", "code", "bucket"),
    ),
)
"""How many transactions stand where, by hour and by day of acceptance; kept by triggers on `transactions`.

`span`: hour or day (of Việt Nam). `bucket`: of the duration, see `statistics.py`; -1 for what has none.
"""

statistics_dossiers = Table(
    "statistics_dossiers",
    metadata,
    Column("begins_at", Moment, nullable=False),
    Column("consumer", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("service", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("seen", BIT(32768), nullable=False),
    PrimaryKeyConstraint("begins_at", "consumer", "provider", "service", "version"),
)
"""A sketch of the dossiers of each day: how many different ones, not which. Sketches are united by OR."""

outbox = Table(
    "outbox",
    metadata,
    Column("tx", Uuid, primary_key=True),
    Column("service", Text, nullable=False),
    Column("agreement", Text, nullable=False),
    Column("agreement_version", Integer, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("officer", Text, nullable=False),
    Column("dossier", Text, nullable=False),
    Column("traceparent", Text, nullable=False),
    Column("accepted_at", Moment, nullable=False),
    Column("deadline", Moment, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("answered", INT4MULTIRANGE, nullable=False, server_default=text("'{}'")),
    Column("next_at", Moment, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("place", BigInteger, Identity(always=True), nullable=False),
    Column("order_key", LargeBinary),
    Column("subscription", Text),
    Index(
        "ix_outbox_subscription",
        "subscription",
        postgresql_where=text("subscription IS NOT NULL AND state <> 'closed'"),
    ),
    Index("ix_outbox_due", "next_at", postgresql_where=text("state = 'open'")),
    Index("ix_outbox_closed", "deadline", postgresql_where=text("state = 'closed'")),
    Index("ix_outbox_line", "order_key", "place", postgresql_where=text("order_key IS NOT NULL AND state <> 'closed'")),
    Index(
        "ix_outbox_first",
        "order_key",
        unique=True,
        postgresql_where=text("order_key IS NOT NULL AND state <> 'closed' AND attempts > 0"),
    ),
)

replies = Table(
    "replies",
    metadata,
    Column("tx", Uuid, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False, index=True),
    Column("code", Text, nullable=False),
    Column("provider_code", Text, nullable=False),
    Column("body", LargeBinary),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client", Text, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("tx", Uuid, nullable=False),
    Column("mode", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    PrimaryKeyConstraint("client", "key"),
)

resolutions = Table(
    "resolutions",
    metadata,
    Column("tx", Uuid, nullable=False),
    Column("what", Text, nullable=False),
    Column("at", Moment, nullable=False, server_default=text("now()")),
    PrimaryKeyConstraint("tx", "what"),
)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("tx", Uuid),
    Column("service", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Moment, nullable=False, server_default=text("now()")),
    Column("state", Text, nullable=False, server_default=text("'held'")),
    Column("wrapped", LargeBinary),
    Column("body", LargeBinary),
    Column("decided_by", Text),
    Column("decided_at", Moment),
    Column("decision_reason", Text),
    Index("ix_quarantine_state", "state", "id"),
)

gateways = Table(
    "gateways",
    metadata,
    Column("instance", Text, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("slot", SmallInteger, unique=True),
    Column("seen_at", Moment, nullable=False),
    Column("fenced_xid", Xid8(), nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until", Moment, nullable=False),
)

quotas = Table(
    "quotas",
    metadata,
    Column("agreement", Text, nullable=False),
    Column("window", Text, nullable=False),
    Column("starts_at", Moment, nullable=False),
    Column("leased", Integer, nullable=False),
    PrimaryKeyConstraint("agreement", "window", "starts_at"),
)

refusals = Table(
    "refusals",
    metadata,
    Column("minute", Moment, nullable=False),
    Column("address", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("gateway", Text, nullable=False),
    Column("count", Integer, nullable=False),
    PrimaryKeyConstraint("minute", "address", "code", "gateway"),
)

events = Table(
    "events",
    metadata,
    Column("service", Text, nullable=False),
    Column("xid", Xid8(), nullable=False, server_default=text("pg_current_xact_id()")),
    Column("seq", Integer, nullable=False),
    Column("type", Text, nullable=False),
    Column("tx", Uuid, nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("line", LargeBinary),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("service", "xid", "seq"),
)
"""What was published, in order: `tx` is the publication, under whose record key `body`, the CloudEvent, is sealed.
`line` stands for the partition key or the subject: a keyed digest."""

subscription_progress = Table(
    "subscription_progress",
    metadata,
    Column("subscription", Text, ForeignKey("subscriptions.id"), primary_key=True),
    Column("xid", Xid8(), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("run", Integer, nullable=False),
    Column("moved_at", Moment, nullable=False, server_default=text("now()")),
    Column("delivered_at", Moment),
    Column("failing_since", Moment),
    Column("stopped", Text, nullable=False, server_default=text("''")),
)
"""The last event of which a delivery was made, and the run it was made in. `stopped`: why none is made any more."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("subscription", Text, nullable=False),
    Column("xid", Xid8(), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("run", Integer, nullable=False),
    Column("tx", Uuid, nullable=False),
    Column("publication", Uuid, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", Moment, nullable=False, index=True),
    Column("place", BigInteger, Identity(always=True), nullable=False),
    PrimaryKeyConstraint("subscription", "run", "xid", "seq"),
    Index("ix_deliveries_tx", "tx", unique=True),
    Index("ix_deliveries_subscription_place", "subscription", "place"),
)
"""Which transaction delivers which event to which subscription: one for each run."""

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("tx", Uuid, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    Column("status", SmallInteger),
    Column("problem", Text, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    PrimaryKeyConstraint("tx", "attempt"),
)
"""What each attempt at a webhook came to: the HTTP status, or a code of what went wrong before there was one."""
