"""Adapters and the services they serve: register, beat, find, list."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.errors import AccessDenied, Fault, NotFound, StateConflict, VersionConflict
from ngsp.registry.change import ANY, Change, Condition, Row, Stored, fetch, find
from ngsp.registry.heartbeats import SILENT_AFTER, AdapterProcess, Registered, processes_of
from ngsp.registry.manifest_documents import ManifestDocument
from ngsp.registry.manifests import CheckedService
from ngsp.registry.tables import adapters, services
from ngsp.registry.texts import MOST_FAULTS
from ngsp.text import Text

AdapterState = Literal["online", "degraded", "silent", "retired"]
"""Of an adapter: all well; heard, but something is wrong; nothing heard; ended."""


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """An adapter as the registry shows it. `services`: path → state. `seen_at`, `build`: of the last heartbeat.

    `of_events`: paths of those services that nobody serves. `processes`: those that were heard of lately.
    `retired_reason`: why it is retired, since `retired_at`; empty where it is not.
    """

    id: str
    provider: str
    registered_by: str
    registered_at: datetime
    seen_at: datetime | None
    build: str
    services: dict[str, str]
    of_events: frozenset[str] = frozenset()
    processes: tuple[AdapterProcess, ...] = ()
    retired_at: datetime | None = None
    retired_reason: str = ""

    def state(self, now: datetime) -> AdapterState:
        if self.retired_at is not None:
            return "retired"
        alive = self.alive(now)
        if not alive:
            return "silent" if self.served or self.seen_at is not None else "online"
        return "degraded" if any(process.complaints for process in alive) else "online"

    @property
    def served(self) -> list[str]:
        """Paths of the services that its processes serve."""
        return [path for path, state in self.services.items() if state != "retired" and path not in self.of_events]

    def alive(self, now: datetime) -> list[AdapterProcess]:
        return [process for process in self.processes if now - process.seen_at < SILENT_AFTER]


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
    registered: dict[str, dict[str, Registered]] = {row["id"]: {} for row in found}
    of_events: set[str] = set()
    columns = ("adapter", "path", "state", "mode", "request_digest", "reply_digest")
    statement = select(*(services.c[name] for name in columns)).where(services.c.adapter.in_(served))
    for adapter, path, state, mode, *digests in (await connection.execute(statement.order_by(services.c.path))).all():
        served[adapter][path] = state
        if mode == "event":
            of_events.add(path)
        if state != "retired":
            registered[adapter][path] = Registered.of(mode, *digests)
    processes = await processes_of(connection, registered)
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
                of_events=frozenset(of_events & served[row["id"]].keys()),
                processes=processes[row["id"]],
                retired_at=row["retired_at"],
                retired_reason=row["retired_reason"],
            ),
            row["row_version"],
        )
        for row in found
    ]
