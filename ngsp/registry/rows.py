"""Rows of the registry's tables → the values of `model.py`. Rows of asyncpg and of SQLAlchemy serve alike."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from ngsp.messages import ServiceKey
from ngsp.registry.model import (
    Agreement,
    AgreementState,
    Client,
    ClientKey,
    EventType,
    Maintenance,
    Member,
    Schema,
    Service,
    Subscription,
    WebhookSecret,
)
from ngsp.registry.routes import CompatibleRoute, compiled
from ngsp.text import Text

Row = Mapping[str, Any]


def member(row: Row) -> Member:
    return Member(
        code=row["code"],
        old_code=row["old_code"],
        name=Text(row["name_vi"], row["name_en"]),
        valid_from=row["valid_from"],
        valid_to=row["valid_to"],
        zone=row["zone"],
    )


def client(row: Row, keys: Sequence[Row]) -> Client:
    """`keys`: the client's rows of `client_keys`; those revoked are left out."""
    return Client(
        id=row["id"],
        member=row["member"],
        name=Text(row["name_vi"], row["name_en"]),
        scopes=frozenset(row["scopes"]),
        active=row["active"],
        secret_hash=row["secret_hash"],
        keys=tuple(client_key(key) for key in keys if key["revoked_at"] is None),
        tokens_valid_from=row["tokens_valid_from"],
        sandbox=row["sandbox"],
    )


def client_key(row: Row) -> ClientKey:
    return ClientKey(
        kid=row["kid"], alg=row["alg"], jwk=row["jwk"], valid_from=row["valid_from"], valid_to=row["valid_to"]
    )


def service(row: Row, request_schema: Schema, reply_schema: Schema, events: Mapping[str, EventType]) -> Service:
    return Service(
        key=ServiceKey(row["provider"], row["name"], row["version"]),
        title=Text(row["title_vi"], row["title_en"]),
        description=Text(row["description_vi"], row["description_en"]),
        mode=row["mode"],
        effect=row["effect"],
        deadline_s=row["deadline_s"],
        max_body_bytes=row["max_body_bytes"],
        request_schema=request_schema,
        reply_schema=reply_schema,
        adapter=row["adapter"],
        subjects=tuple(row["subjects"]),
        officer_required=row["officer_required"],
        order=row["order"],
        state=row["state"],
        examples=tuple(row["examples"]),
        maintenance=maintenance(row),
        reason=row["reason"],
        legal_basis=row["legal_basis"],
        row_version=row["row_version"],
        events=events,
    )


def event_title(found: Row) -> Text:
    """The title in one of the members of the column `events`."""
    return Text(found["title_vi"], found["title_en"])


def subscription(row: Row) -> Subscription:
    return Subscription(
        id=row["id"],
        member=row["member"],
        client=row["client"],
        service=row["service"],
        agreement=str(row["agreement"]),
        purpose=row["purpose"],
        types=frozenset(row["types"]),
        receiver=row["receiver"] or "",
        url=row["url"],
        secrets=tuple(_webhook_secret(secret) for secret in row["secrets"]),
        active=row["active"],
        row_version=row["row_version"],
    )


def _webhook_secret(found: Row) -> WebhookSecret:
    valid_to = found["valid_to"]
    return WebhookSecret(b64decode(found["sealed"]), datetime.fromisoformat(valid_to) if valid_to else None)


def maintenance(row: Row) -> Maintenance | None:
    since, until = row["maintenance_from"], row["maintenance_until"]
    return None if since is None or until is None else Maintenance(since, until)


def agreement(row: Row, version: Row) -> Agreement:
    """`row` of `agreements` with one of its versions, which ends where a later one takes its place."""
    ends = [end for end in (version["valid_to"], version["ends_at"]) if end is not None]
    return Agreement(
        id=str(row["id"]),
        version=version["version"],
        consumer=row["consumer"],
        service=row["service"],
        purposes=frozenset(version["purposes"]),
        legal_basis=version["legal_basis"],
        fields=tuple(version["fields"]),
        quota_per_minute=version["quota_per_minute"],
        quota_per_day=version["quota_per_day"],
        valid_from=version["valid_from"],
        valid_to=min(ends, default=None),
        state=version["state"],
        consent_required=version["consent_required"],
    )


ONCE_ACCEPTED = frozenset(("accepted", "suspended", "revoked", "superseded"))


def governing(versions: Sequence[Row]) -> Row:
    """Of an agreement's versions, oldest first, the newest that was ever accepted, else the newest."""
    return next((row for row in reversed(versions) if row["state"] in ONCE_ACCEPTED), versions[-1])


def state_at(version: Row, now: datetime) -> AgreementState:
    """The state as people see it: dates are counted in, which no stored state follows by itself."""
    state: AgreementState = version["state"]
    if state in ("accepted", "suspended") and version["ends_at"] is not None and version["ends_at"] <= now:
        return "superseded"
    if (
        state in ("proposed", "accepted", "suspended")
        and version["valid_to"] is not None
        and version["valid_to"] <= now
    ):
        return "expired"
    return state


def compatible_route(row: Row) -> CompatibleRoute:
    """ValueError where an expression does not compile, which was checked when it was registered."""
    expressions, faults = compiled(row["terms"])
    if faults:
        raise ValueError(f"{len(faults)} expressions that do not compile")
    return CompatibleRoute(
        id=row["id"],
        title=Text(row["title_vi"], row["title_en"]),
        methods=tuple(row["methods"]),
        path=row["path"],
        service=row["service"],
        agreements=tuple(row["agreements"]),
        active=row["active"],
        terms=row["terms"],
        expressions=expressions,
    )
