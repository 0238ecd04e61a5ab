"""The database → a `Snapshot`, by reading only the rows that changed since the one at hand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import asyncpg
import jsonschema_rs
import structlog

from ngsp.registry import rows
from ngsp.registry.model import Agreement, EventType, Schema, Service, Snapshot
from ngsp.registry.routes import RouteTable

logger = structlog.get_logger(__name__)

EMPTY = Snapshot(revision=-1, members={}, clients={}, services={}, agreements={}, by_consumer={})
"""What is known before the first load: nothing, older than any revision."""

REVISION = "SELECT revision FROM registry_revision"
_MEMBERS = "SELECT * FROM members WHERE revision > $1"
_CLIENTS = "SELECT * FROM clients WHERE revision > $1"
_KEYS = "SELECT k.* FROM client_keys k JOIN clients c ON c.id = k.client WHERE c.revision > $1 ORDER BY k.client, k.kid"
_SERVICES = "SELECT * FROM services WHERE revision > $1"
_AGREEMENTS = "SELECT * FROM agreements WHERE revision > $1"
_VERSIONS = """
SELECT v.* FROM agreement_versions v JOIN agreements a ON a.id = v.agreement
WHERE a.revision > $1 ORDER BY v.agreement, v.version"""
_ROUTES = "SELECT * FROM compatible_routes WHERE revision > $1"
_SUBSCRIPTIONS = "SELECT * FROM subscriptions WHERE revision > $1"


class Loader:
    """Keeps compiled schemas by digest from load to load: most of them never change."""

    def __init__(self) -> None:
        self._schemas: dict[str, Schema] = {}

    async def load(self, connection: asyncpg.Connection, known: Snapshot) -> Snapshot:
        """The snapshot at the database's revision; `known` itself where nothing changed. asyncpg's errors, OSError."""
        # Revisions are handed out under a row lock that is held until commit, so every row up to the revision that is
        # seen here is seen too, and no row above it.
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            revision = await connection.fetchval(REVISION)
            if revision == known.revision:
                return known
            changed = {
                name: await connection.fetch(statement, known.revision)
                for name, statement in (
                    ("members", _MEMBERS),
                    ("clients", _CLIENTS),
                    ("keys", _KEYS),
                    ("services", _SERVICES),
                    ("agreements", _AGREEMENTS),
                    ("versions", _VERSIONS),
                    ("routes", _ROUTES),
                    ("subscriptions", _SUBSCRIPTIONS),
                )
            }
        return self._merged(revision, known, changed)

    def _merged(self, revision: int, known: Snapshot, changed: dict[str, list[Any]]) -> Snapshot:
        keys = _by(changed["keys"], "client")
        services = known.services | {
            found.path: found for row in changed["services"] if (found := self._service(row)) is not None
        }
        agreements, by_consumer = _agreements(known, changed["agreements"], _by(changed["versions"], "agreement"))
        in_use = [schema for one in services.values() for schema in (one.request_schema, one.reply_schema)]
        in_use += [event.schema for one in services.values() for event in one.events.values()]
        self._schemas = {schema.digest: schema for schema in in_use}
        return Snapshot(
            revision=revision,
            members=known.members | {row["code"]: rows.member(row) for row in changed["members"]},
            clients=known.clients | {row["id"]: rows.client(row, keys[row["id"]]) for row in changed["clients"]},
            services=services,
            agreements=agreements,
            by_consumer=by_consumer,
            routes=_routes(known, changed["routes"]),
            subscriptions={
                **known.subscriptions,
                **{row["id"]: rows.subscription(row) for row in changed["subscriptions"]},
            },
        )

    def _service(self, row: Any) -> Service | None:
        """None, said loudly, where a stored schema does not compile: one bad row must not stop the others."""
        try:
            return rows.service(
                row,
                self._schema(row["request_schema"], row["request_digest"]),
                self._schema(row["reply_schema"], row["reply_digest"]),
                {
                    type: EventType(rows.event_title(found), self._schema(found["schema"], found["digest"]))
                    for type, found in row["events"].items()
                },
            )
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
            logger.error("registry.schema_unusable", service=row["path"], error=type(error).__name__)
            return None

    def _schema(self, document: dict[str, Any], digest: str) -> Schema:
        found = self._schemas.get(digest)
        if found is None:
            found = self._schemas[digest] = Schema(document, digest)
        return found


def _routes(known: Snapshot, changed: list[Any]) -> RouteTable:
    """One that does not compile, which only a hand in the database can have made, is left out and said loudly."""
    if not changed:
        return known.routes
    by_id = dict(known.routes.by_id)
    for row in changed:
        by_id.pop(row["id"], None)
        try:
            by_id[row["id"]] = rows.compatible_route(row)
        except ValueError as error:
            logger.error("registry.route_unusable", route=row["id"], error=type(error).__name__)
    return RouteTable(by_id.values())


def _by(found: Iterable[Any], column: str) -> defaultdict[Any, list[Any]]:
    grouped: defaultdict[Any, list[Any]] = defaultdict(list)
    for row in found:
        grouped[row[column]].append(row)
    return grouped


def _agreements(
    known: Snapshot, changed: list[Any], versions: dict[Any, list[Any]]
) -> tuple[dict[str, Agreement], dict[tuple[str, str], tuple[Agreement, ...]]]:
    agreements = dict(known.agreements)
    by_consumer = dict(known.by_consumer)
    for row in changed:
        own = versions[row["id"]]
        governing = rows.governing(own)
        held = [
            rows.agreement(row, version) for version in own if version is governing or version["state"] == "accepted"
        ]
        agreements[str(row["id"])] = rows.agreement(row, governing)
        pair = (row["consumer"], row["service"])
        others = [one for one in by_consumer.get(pair, ()) if one.id != str(row["id"])]
        by_consumer[pair] = (*others, *held)
    return agreements, by_consumer
