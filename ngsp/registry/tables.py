"""The registry's tables.

`revision` is the registry's revision at which a row last changed: a snapshot is brought up to date by reading the rows
above its own revision. `row_version` counts the changes of one resource and is its ETag. Rows are never deleted: what
ends gets an end date or a state.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from ngsp.database import metadata

Moment = DateTime(timezone=True)

registry_revision = Table(
    "registry_revision",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

members = Table(
    "members",
    metadata,
    Column("code", Text, primary_key=True),
    Column("old_code", Text, nullable=False),
    Column("name_vi", Text, nullable=False),
    Column("name_en", Text, nullable=False),
    Column("valid_from", Date, nullable=False),
    Column("valid_to", Date),
    Column("zone", Text, nullable=False),
    Column("row_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False, index=True),
    Column("updated_at", Moment, nullable=False),
)

clients = Table(
    "clients",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member", Text, ForeignKey("members.code"), nullable=False, index=True),
    Column("name_vi", Text, nullable=False),
    Column("name_en", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("secret_hash", Text, nullable=False),
    Column("tokens_valid_from", Moment),
    Column("sandbox", Boolean, nullable=False, server_default=text("false")),
    Column("row_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False, index=True),
    Column("updated_at", Moment, nullable=False),
)

client_keys = Table(
    "client_keys",
    metadata,
    Column("client", Text, ForeignKey("clients.id"), primary_key=True),
    Column("kid", Text, primary_key=True),
    Column("alg", Text, nullable=False),
    Column("jwk", JSONB, nullable=False),
    Column("valid_from", Moment, nullable=False),
    Column("valid_to", Moment),
    Column("revoked_at", Moment),
)

adapters = Table(
    "adapters",
    metadata,
    Column("id", Text, primary_key=True),
    Column("provider", Text, ForeignKey("members.code"), nullable=False, index=True),
    Column("registered_by", Text, nullable=False),
    Column("registered_at", Moment, nullable=False),
    Column("row_version", Integer, nullable=False),
    Column("seen_at", Moment),
    Column("build", Text, nullable=False),
    Column("seen_schemas", JSONB, nullable=False),
    Column("retired_at", Moment),
    Column("retired_by", Text, nullable=False),
    Column("retired_reason", Text, nullable=False),
)
"""`seen_*` and `build` are what the last heartbeat said; they are no change of the registry and move no revision."""

adapter_processes = Table(
    "adapter_processes",
    metadata,
    Column("adapter", Text, ForeignKey("adapters.id"), primary_key=True),
    Column("process", Text, primary_key=True),
    Column("seen_at", Moment, nullable=False),
    Column("build", Text, nullable=False),
    Column("schemas", JSONB, nullable=False),
    Column("breakers", JSONB, nullable=False),
    Column("in_work", Integer, nullable=False),
    Column("paused", ARRAY(Text), nullable=False),
    Column("troubles", ARRAY(Text), nullable=False),
    Column("probe", Boolean, nullable=False),
)
"""The last heartbeat of each process; no change of the registry either."""

services = Table(
    "services",
    metadata,
    Column("path", Text, primary_key=True),
    Column("provider", Text, ForeignKey("members.code"), nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("adapter", Text, ForeignKey("adapters.id"), nullable=False, index=True),
    Column("title_vi", Text, nullable=False),
    Column("title_en", Text, nullable=False),
    Column("description_vi", Text, nullable=False),
    Column("description_en", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("effect", Text, nullable=False),
    Column("deadline_s", Double, nullable=False),
    Column("max_body_bytes", Integer, nullable=False),
    Column("request_schema", JSONB, nullable=False),
    Column("request_digest", Text, nullable=False),
    Column("reply_schema", JSONB, nullable=False),
    Column("reply_digest", Text, nullable=False),
    Column("subjects", ARRAY(Text), nullable=False),
    Column("officer_required", Boolean, nullable=False),
    Column("order", Text, nullable=False, server_default=text("'none'")),
    Column("examples", JSONB, nullable=False),
    Column("state", Text, nullable=False),
    Column("revision", BigInteger, nullable=False, index=True),
    Column("updated_at", Moment, nullable=False),
    Column("served", Boolean, nullable=False),
    Column("decided", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("legal_basis", Text, nullable=False),
    Column("maintenance_from", Moment),
    Column("maintenance_until", Moment),
    Column("decided_by", Text, nullable=False),
    Column("decided_at", Moment),
    Column("row_version", Integer, nullable=False),
    Column("events", JSONB, nullable=False, server_default=text("'{}'")),
    UniqueConstraint("provider", "name", "version"),
)
"""`state` follows from `served` (a manifest has it) and `decided` (by a person): see `states.py`. `events`: type →
{title_vi, title_en, schema, digest}."""

agreements = Table(
    "agreements",
    metadata,
    Column("id", Uuid(as_uuid=False), primary_key=True),
    Column("reference", Text),
    Column("consumer", Text, ForeignKey("members.code"), nullable=False, index=True),
    Column("provider", Text, ForeignKey("members.code"), nullable=False, index=True),
    Column("service", Text, ForeignKey("services.path"), nullable=False, index=True),
    Column("row_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("consumer", "reference"),
)
"""`reference`: the consumer's own number for it, by which a declared agreement is found again."""

agreement_versions = Table(
    "agreement_versions",
    metadata,
    Column("agreement", Uuid(as_uuid=False), ForeignKey("agreements.id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("proposed_by", Text, ForeignKey("members.code"), nullable=False),
    Column("purposes", ARRAY(Text), nullable=False),
    Column("legal_basis", Text, nullable=False),
    Column("fields", ARRAY(Text), nullable=False),
    Column("quota_per_minute", Integer),
    Column("quota_per_day", Integer),
    Column("valid_from", Moment, nullable=False),
    Column("valid_to", Moment),
    Column("consent_required", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("ends_at", Moment),
)
"""The terms never change once written; only `state` and `ends_at` (when a later version takes its place) do."""

agreement_events = Table(
    "agreement_events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("agreement", Uuid(as_uuid=False), nullable=False),
    Column("version", Integer, nullable=False),
    Column("event", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("client", Text, nullable=False),
    Column("member", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("legal_basis", Text, nullable=False),
    ForeignKeyConstraint(["agreement", "version"], ["agreement_versions.agreement", "agreement_versions.version"]),
    Index(None, "agreement", "id"),
)
"""Who did what when: proposed, accepted, refused, withdrawn, suspended, resumed, revoked, superseded."""

compatible_routes = Table(
    "compatible_routes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("title_vi", Text, nullable=False),
    Column("title_en", Text, nullable=False),
    Column("methods", ARRAY(Text), nullable=False),
    Column("path", Text, nullable=False),
    Column("service", Text, ForeignKey("services.path"), nullable=False, index=True),
    Column("agreements", ARRAY(Text), nullable=False),
    Column("terms", JSONB, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("row_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False, index=True),
    Column("updated_at", Moment, nullable=False),
)
"""`terms`: what is read of a request and how, and how the answer is given: see `ngsp/registry/routes.py`."""

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("member", Text, ForeignKey("members.code"), nullable=False, index=True),
    Column("client", Text, ForeignKey("clients.id"), nullable=False),
    Column("service", Text, ForeignKey("services.path"), nullable=False, index=True),
    Column("agreement", Uuid(as_uuid=False), ForeignKey("agreements.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("types", ARRAY(Text), nullable=False),
    Column("receiver", Text, ForeignKey("services.path")),
    Column("url", Text, nullable=False),
    Column("secrets", JSONB, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("row_version", Integer, nullable=False),
    Column("revision", BigInteger, nullable=False, index=True),
    Column("updated_at", Moment, nullable=False),
)
"""`secrets`: of a webhook, newest first: {sealed (base64), valid_to (RFC 3339 or null)}. How far it has come is in
`subscription_progress` (`ngsp/transactions/tables.py`), whose row is made with this one."""
