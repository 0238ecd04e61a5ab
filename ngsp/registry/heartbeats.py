"""Heartbeats: what each process of an adapter says of itself, and what is wrong by that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngsp.errors import NotFound, StateConflict
from ngsp.registry.change import Actor, database_errors, fetch, find
from ngsp.registry.documents import HeartbeatDocument
from ngsp.registry.tables import adapter_processes, adapters, services
from ngsp.text import Text

SILENT_AFTER = timedelta(seconds=30)
"""Three heartbeats at the pace of ten seconds that adapters keep."""
FORGOTTEN_AFTER = timedelta(hours=1)


class Complaint(NamedTuple):
    """Something wrong with a process. `name`: of the breaker that is not closed, the service, or the trouble's code."""

    what: Literal["breaker", "schemas", "trouble"]
    name: str


@dataclass(frozen=True, slots=True)
class Registered:
    """What is registered of a service that is not retired. `served`: processes serve it; those of events nobody does,
    and a process need not tell of them."""

    schema_version: str
    served: bool

    @classmethod
    def of(cls, mode: str, request_digest: str, reply_digest: str) -> Registered:
        return cls(schema_version(request_digest, reply_digest), mode != "event")


@dataclass(frozen=True, slots=True)
class AdapterProcess:
    """One process of an adapter by its last heartbeat; see `HeartbeatDocument`.

    `differing`: services whose schemas there are not the registered ones.
    """

    name: str
    seen_at: datetime
    build: str
    breakers: dict[str, str]
    in_work: int
    paused: tuple[str, ...]
    troubles: tuple[str, ...]
    probe: bool
    differing: tuple[str, ...]

    @property
    def complaints(self) -> tuple[Complaint, ...]:
        """Why it counts as degraded: a breaker that is not closed, schemas that differ, a trouble it told of."""
        return (
            *(Complaint("breaker", name) for name, state in sorted(self.breakers.items()) if state != "closed"),
            *(Complaint("schemas", path) for path in self.differing),
            *(Complaint("trouble", code) for code in self.troubles),
        )


async def beat(engine: AsyncEngine, actor: Actor, adapter_id: str, heartbeat: HeartbeatDocument) -> AdapterProcess:
    """Notes the heartbeat: no change of the registry, no revision. Returns the process as it is understood.

    `NotFound` where the adapter is not the caller's own member's, `StateConflict` (409) where it is retired.
    """
    with database_errors():
        async with engine.begin() as connection:
            row = await find(connection, adapters, id=adapter_id)
            if row is None or not (actor.is_operator or row["provider"] == actor.member):
                raise NotFound(reason="no such adapter of this member")
            if row["retired_at"] is not None:
                retired = Text("Bộ kết nối này đã ngừng phục vụ.", "This adapter is retired.")
                raise StateConflict(retired, reason="a heartbeat of a retired adapter")
            await _note(connection, adapter_id, heartbeat)
            columns = (services.c[name] for name in ("path", "mode", "request_digest", "reply_digest"))
            known = select(*columns).where(services.c.adapter == adapter_id, services.c.state != "retired")
            registered = {path: Registered.of(*told) for path, *told in (await connection.execute(known)).all()}
            found = await processes_of(connection, {adapter_id: registered}, heartbeat.process)
    return found[adapter_id][0]


async def _note(connection: AsyncConnection, adapter_id: str, heartbeat: HeartbeatDocument) -> None:
    now = func.clock_timestamp()
    told = {
        "seen_at": now,
        "build": heartbeat.build,
        "schemas": heartbeat.schemas,
        "breakers": heartbeat.breakers,
        "in_work": heartbeat.in_work,
        "paused": heartbeat.paused,
        "troubles": heartbeat.troubles,
        "probe": heartbeat.probe,
    }
    new = insert(adapter_processes).values(adapter=adapter_id, process=heartbeat.process, **told)
    await connection.execute(new.on_conflict_do_update(index_elements=["adapter", "process"], set_=told))
    await connection.execute(
        update(adapters)
        .where(adapters.c.id == adapter_id)
        .values(seen_at=now, build=heartbeat.build, seen_schemas=heartbeat.schemas)
    )
    await connection.execute(
        delete(adapter_processes).where(
            adapter_processes.c.adapter == adapter_id, adapter_processes.c.seen_at < now - FORGOTTEN_AFTER
        )
    )


async def processes_of(
    connection: AsyncConnection, registered: Mapping[str, Mapping[str, Registered]], process: str | None = None
) -> dict[str, tuple[AdapterProcess, ...]]:
    """Adapter id → its processes, by name; of one name only, where it is given.

    `registered`: adapter id → service path → what is registered there, less what is retired.
    """
    statement = select(adapter_processes).where(adapter_processes.c.adapter.in_(registered))
    if process is not None:
        statement = statement.where(adapter_processes.c.process == process)
    found: dict[str, tuple[AdapterProcess, ...]] = dict.fromkeys(registered, ())
    for row in await fetch(connection, statement.order_by(adapter_processes.c.process)):
        ours, theirs = registered[row["adapter"]], row["schemas"]
        found[row["adapter"]] += (
            AdapterProcess(
                name=row["process"],
                seen_at=row["seen_at"],
                build=row["build"],
                breakers=row["breakers"],
                in_work=row["in_work"],
                paused=tuple(row["paused"]),
                troubles=tuple(row["troubles"]),
                probe=row["probe"],
                differing=tuple(sorted(_differing(ours, theirs))),
            ),
        )
    return found


def _differing(ours: Mapping[str, Registered], theirs: Mapping[str, str]) -> Iterator[str]:
    for path in ours.keys() | theirs:
        known, told = ours.get(path), theirs.get(path)
        if known is None or (told is None and known.served) or (told is not None and told != known.schema_version):
            yield path


def schema_version(request_digest: str, reply_digest: str) -> str:
    """What names both schemas in messages and heartbeats."""
    return f"{request_digest[:16]}.{reply_digest[:16]}"
