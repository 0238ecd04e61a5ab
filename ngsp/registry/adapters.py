"""Adapters and the services they serve: register, beat, find, list."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngsp.errors import AccessDenied, Fault, NotFound, StateConflict, VersionConflict
from ngsp.registry.change import ANY, Actor, Change, Condition, Row, Stored, database_errors, fetch, find
from ngsp.registry.documents import HeartbeatDocument, ManifestDocument
from ngsp.registry.manifests import CheckedService
from ngsp.registry.tables import adapters, services
from ngsp.registry.texts import MOST_FAULTS
from ngsp.text import Text

SILENT_AFTER = timedelta(seconds=30)
"""Three heartbeats at the pace of ten seconds that adapters keep."""


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """An adapter as the registry shows it. `services`: path → state. `seen_at`, `build`: of the last heartbeat.

    `retired_reason`: why it is retired, since `retired_at`; empty where it is not.
    """

    id: str
    provider: str
    registered_by: str
    registered_at: datetime
    seen_at: datetime | None
    build: str
    services: dict[str, str]
    retired_at: datetime | None = None
    retired_reason: str = ""

    def state(self, now: datetime) -> Literal["online", "silent", "retired"]:
        if self.retired_at is not None:
            return "retired"
        return "online" if self.seen_at is not None and now - self.seen_at < SILENT_AFTER else "silent"


async def put_adapter(
    change: Change,
    manifest: ManifestDocument,
    checked: list[CheckedService],
    condition: Condition = ANY,
) -> Stored[AdapterRecord]:
    """Registers or upgrades. 403 for another member's client; 409 where a version would change, nothing stored then."""
    actor = change.actor
    if not actor.is_operator and actor.member != manifest.provider:
        raise AccessDenied(reason="an adapter of another member")
    row = await change.find(adapters, id=manifest.id)
    if row is not None and row["provider"] != manifest.provider:
        if not actor.is_operator:
            raise AccessDenied(reason="the adapter belongs to another member")
        raise StateConflict(
            Text("Bộ kết nối này thuộc cơ quan khác.", "This adapter belongs to another member."),
            reason="the adapter belongs to another member",
        )
    if row is not None and row["retired_at"] is not None and not actor.is_operator:
        raise StateConflict(
            Text(
                "Bộ kết nối này đã ngừng phục vụ; chỉ đơn vị vận hành đăng ký lại được.",
                "This adapter is retired; only the node's operators can register it again.",
            ),
            reason="the adapter is retired",
        )
    condition.check(row["row_version"] if row else None)
    await change.need_member(manifest.provider, "/provider")
    version = row["row_version"] if row else 1
    if row is None:
        await _insert(change, manifest)
    changes = await _put_services(change, manifest.id, checked)
    if row is not None and (changes or row["retired_at"] is not None):
        version += 1
        change.touched = True
        back = {"retired_at": None, "retired_by": "", "retired_reason": ""}
        await change.connection.execute(
            update(adapters)
            .where(adapters.c.id == manifest.id)
            .values(row_version=version, registered_by=actor.client, registered_at=change.now, **back)
        )
    stored = await get_adapter(change.connection, manifest.id)
    return Stored(stored.value, version, row is None, changes)


async def _insert(change: Change, manifest: ManifestDocument) -> None:
    change.touched = True
    await change.connection.execute(
        insert(adapters).values(
            id=manifest.id,
            provider=manifest.provider,
            registered_by=change.actor.client,
            registered_at=change.now,
            row_version=1,
            build="",
            seen_schemas={},
            retired_by="",
            retired_reason="",
        )
    )


async def _put_services(change: Change, adapter_id: str, checked: list[CheckedService]) -> dict[str, tuple[Any, Any]]:
    """Service path → (what it was, what it is now) for each that changed."""
    mine = await fetch(change.connection, select(services).where(services.c.adapter == adapter_id))
    dropped = {row["path"]: row for row in mine}
    changes: dict[str, tuple[Any, Any]] = {}
    conflicts: list[Fault] = []
    for service in checked:
        row = dropped.pop(service.key.path, None) or await change.find(services, path=service.key.path)
        if row is not None and row["adapter"] != adapter_id:
            raise StateConflict(
                Text("Một dịch vụ đã thuộc bộ kết nối khác.", "A service belongs to another adapter already."),
                reason=f"{service.key.path} belongs to another adapter",
            )
        if row is not None:
            conflicts += await asyncio.to_thread(service.conflicts, row)
        if not conflicts:
            changes |= await _put_service(change, adapter_id, service, row)
    if conflicts:
        raise VersionConflict(
            faults=tuple(conflicts[:MOST_FAULTS]),
            reason=f"{adapter_id}: {len(conflicts)} conflicts under the same version",
        )
    for path, row in dropped.items():
        if row["served"]:
            await _update(change, row, {"served": False, "state": state_of(False, row["decided"])})
            changes[path] = (row["state"], "retired")
    return changes


async def _put_service(
    change: Change, adapter_id: str, service: CheckedService, row: Row | None
) -> dict[str, tuple[Any, Any]]:
    path = service.key.path
    columns = service.columns()
    if row is None:
        change.touched = True
        begun = {"served": True, "decided": "active", "state": "active", "row_version": 1}
        empty = dict.fromkeys(("reason", "legal_basis", "decided_by"), "")
        stamp = {"revision": change.revision, "updated_at": change.now}
        await change.connection.execute(
            insert(services).values(path=path, adapter=adapter_id, **columns, **begun, **empty, **stamp)
        )
        return {path: (None, "active")}
    columns |= {"served": True, "state": state_of(True, row["decided"])}
    if all(row[name] == value for name, value in columns.items()):
        return {}
    await _update(change, row, columns)
    return {path: (row["state"], columns["state"])}


async def _update(change: Change, row: Row, columns: dict[str, Any]) -> None:
    change.touched = True
    stamp = {"row_version": row["row_version"] + 1, "revision": change.revision, "updated_at": change.now}
    await change.connection.execute(update(services).where(services.c.path == row["path"]).values(**columns, **stamp))


def state_of(served: bool, decided: str) -> str:
    """The state of a service: retired where no manifest has it, else what was decided of it (`states.py`)."""
    return decided if served else "retired"


async def beat(engine: AsyncEngine, actor: Actor, adapter_id: str, heartbeat: HeartbeatDocument) -> tuple[str, ...]:
    """Notes the heartbeat: no change of the registry, no revision. Returns the services whose schemas differ from ours.

    `NotFound` where the adapter is not the caller's own member's.
    """
    with database_errors():
        async with engine.begin() as connection:
            row = await find(connection, adapters, id=adapter_id)
            if row is None or not (actor.is_operator or row["provider"] == actor.member):
                raise NotFound(reason="no such adapter of this member")
            if row["retired_at"] is not None:
                retired = Text("Bộ kết nối này đã ngừng phục vụ.", "This adapter is retired.")
                raise StateConflict(retired, reason="a heartbeat of a retired adapter")
            await connection.execute(
                update(adapters)
                .where(adapters.c.id == adapter_id)
                .values(seen_at=func.clock_timestamp(), build=heartbeat.build, seen_schemas=heartbeat.schemas)
            )
            digests = select(services.c.path, services.c.request_digest, services.c.reply_digest).where(
                services.c.adapter == adapter_id, services.c.state != "retired"
            )
            found = (await connection.execute(digests)).all()
    ours = {path: f"{request[:16]}.{reply[:16]}" for path, request, reply in found}
    return tuple(
        sorted(path for path in ours.keys() | heartbeat.schemas if ours.get(path) != heartbeat.schemas.get(path))
    )


async def get_adapter(connection: AsyncConnection, adapter_id: str) -> Stored[AdapterRecord]:
    """`NotFound` where there is none."""
    row = await find(connection, adapters, id=adapter_id)
    if row is None:
        raise NotFound(reason="no such adapter")
    return (await _records(connection, [row]))[0]


async def list_adapters(
    connection: AsyncConnection, after: str, limit: int, provider: str | None
) -> list[Stored[AdapterRecord]]:
    """At most `limit` adapters whose id comes after `after`, by id; of `provider` only, where one is given."""
    statement = select(adapters).where(adapters.c.id > after).order_by(adapters.c.id).limit(limit)
    if provider is not None:
        statement = statement.where(adapters.c.provider == provider)
    return await _records(connection, await fetch(connection, statement))


async def _records(connection: AsyncConnection, found: list[Row]) -> list[Stored[AdapterRecord]]:
    served: dict[str, dict[str, str]] = {row["id"]: {} for row in found}
    statement = select(services.c.adapter, services.c.path, services.c.state).where(services.c.adapter.in_(served))
    for adapter, path, state in (await connection.execute(statement.order_by(services.c.path))).all():
        served[adapter][path] = state
    return [
        Stored(
            AdapterRecord(
                id=row["id"],
                provider=row["provider"],
                registered_by=row["registered_by"],
                registered_at=row["registered_at"],
                seen_at=row["seen_at"],
                build=row["build"],
                services=served[row["id"]],
                retired_at=row["retired_at"],
                retired_reason=row["retired_reason"],
            ),
            row["row_version"],
        )
        for row in found
    ]
