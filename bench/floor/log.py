"""Two durable rows a request, group-committed: one task writes by COPY whatever queued while its last commit ran."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from uuid import UUID

COLUMNS = ("id", "at", "kind", "entry")
CREATE_TABLE = """
CREATE TABLE entries (
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    kind smallint NOT NULL,
    entry bytea NOT NULL,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX entries_id ON entries (id);
"""

Row = tuple["UUID", datetime, int, bytes]


class GroupCommit:
    """`await write(...)` returns once the row is durable. Needs `run` as a task."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._rows: list[Row] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def write(self, id_: UUID, kind: int, entry: bytes) -> asyncio.Future[None]:
        durable = self._loop.create_future()
        self._rows.append((id_, datetime.now(UTC), kind, entry))
        self._waiting.append(durable)
        self._wake.set()
        return durable

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            rows, self._rows = self._rows, []
            waiting, self._waiting = self._waiting, []
            try:
                await self._connection.copy_records_to_table("entries", records=rows, columns=COLUMNS)
            except (asyncpg.PostgresError, OSError) as error:
                for durable in waiting:
                    if not durable.done():
                        durable.set_exception(error)
                continue
            for durable in waiting:
                if not durable.done():
                    durable.set_result(None)
