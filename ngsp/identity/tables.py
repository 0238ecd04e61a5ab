"""Tables of the identity side: keys that sign access tokens, assertions that were used, failed authentications."""

from __future__ import annotations

import asyncpg
from sqlalchemy import Column, DateTime, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import SQLAlchemyError

from ngsp.database import metadata

DATABASE_LOST = (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What a statement raises while PostgreSQL is away, connecting included."""

Moment = DateTime(timezone=True)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Text, nullable=False),
    Column("public_jwk", JSONB, nullable=False),
    # The private JWK, sealed by the vault under the name "signing-key:" + kid.
    Column("private_sealed", LargeBinary, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("signs_from", Moment, nullable=False),
    Column("signs_until", Moment),
    Column("verifies_until", Moment),
    PrimaryKeyConstraint("kid"),
)

used_assertions = Table(
    "used_assertions",
    metadata,
    Column("client", Text, nullable=False),
    Column("jti", Text, nullable=False),
    Column("expires_at", Moment, nullable=False),
    PrimaryKeyConstraint("client", "jti"),
    Index("ix_used_assertions_expires_at", "expires_at"),
)

failed_attempts = Table(
    "failed_attempts",
    metadata,
    Column("kind", Text, nullable=False),
    # A keyed digest: what was presented as a client's id may be anything.
    Column("key", LargeBinary, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failed_at", Moment, nullable=False),
    Column("good_at", Moment),
    Column("changed_at", Moment, nullable=False),
    PrimaryKeyConstraint("kind", "key"),
    Index("ix_failed_attempts_changed_at", "changed_at"),
)
