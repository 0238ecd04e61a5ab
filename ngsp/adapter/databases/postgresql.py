"""PostgreSQL, by asyncpg."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime, time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
from sqlalchemy import MetaData, Table, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngsp.adapter.databases.base import TIME_ZONE, Complaint, Database, wrong_address
from ngsp.database import engine

_SET_UP_LOCK = 0x696E626F78
"""Advisory lock: `CREATE TABLE IF NOT EXISTS` from two processes at once can fail."""
_RAISED = "P0001"
_SETTINGS = {"application_name": "ngsp-adapter", "timezone": TIME_ZONE, "datestyle": "ISO"}


class PostgreSql(Database):
    """Values are read and written in the types of the statement's context: a text will do for a date."""

    unreachable = (*Database.unreachable, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
    unwrapped = (asyncpg.PostgresError, asyncpg.InterfaceError)

    def _open(self, url: str) -> AsyncEngine:
        self.hosts = tuple(_hosts(url))

        settings = dict(_SETTINGS)
        if self.limit_s is not None:
            settings["statement_timeout"] = str(int(self.limit_s * 1000))

        async def opens(address: str) -> asyncpg.Connection:
            for host in self.hosts:
                await self.check_name(host)
            connection = await asyncpg.connect(address, timeout=self.connect_timeout_s, server_settings=settings)
            try:
                self.check_peer(connection._transport.get_extra_info("peername"))
                for kind, read in _TIMES.items():
                    decode = _or_itself(read)
                    await connection.set_type_codec(
                        kind, schema="pg_catalog", encoder=str, decoder=decode, format="text"
                    )
            except BaseException:
                connection.terminate()
                raise
            return connection

        found = engine(url, pool_size=self.connections, opens=opens, pre_ping=not self.read_only)
        return found.execution_options(postgresql_readonly=True) if self.read_only else found

    async def limit(self, connection: AsyncConnection, seconds: float) -> None:
        ours = connection.engine.pool is self.engine.pool  # others may have sessions without a limit
        if ours and self.limit_s is not None and seconds > 0.9 * self.limit_s:
            return  # the session's own is near enough
        milliseconds = str(max(1, int(seconds * 1000)))
        await connection.execute(select(func.set_config("statement_timeout", milliseconds, True)))

    def part(self, connection: AsyncConnection) -> AbstractAsyncContextManager[Any]:
        return connection.begin_nested()

    async def add(self, connection: AsyncConnection, table: Table, row: Mapping[str, Any]) -> bool:
        statement = insert(table).values(row).on_conflict_do_nothing().returning(*table.primary_key)
        return (await connection.execute(statement)).first() is not None

    async def create(self, metadata: MetaData) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(select(func.pg_advisory_xact_lock(_SET_UP_LOCK)))
            await connection.run_sync(metadata.create_all)

    def complaint(self, error: DBAPIError) -> Complaint:
        cause = error.orig and (error.orig.__cause__ or error.orig)
        state = getattr(error.orig, "sqlstate", None) or "XX000"
        meant = state == _RAISED or state.startswith("45")
        message = getattr(cause, "message", None) if meant else None
        return Complaint(state, getattr(cause, "constraint_name", None) or "", message or "")


def _hosts(url: str) -> list[str]:
    """The machines that `url` names; none where it leads to a Unix socket."""
    try:
        parts = urlsplit(url)
        named = parts.netloc.rpartition("@")[2].split(",")
        named += ",".join(parse_qs(parts.query).get("host", [])).split(",")
        machines = [urlsplit(f"//{host}") for host in named if not host.startswith(("/", "%2F"))]
        return [machine.hostname for machine in machines if machine.port != 0 and machine.hostname]
    except ValueError:
        raise wrong_address("máy hoặc cổng sai dạng.", "host or port is not of its form.") from None


def _or_itself(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """PostgreSQL has values that Python lacks, such as `infinity`: those stay as they are written."""

    def decode(value: str) -> Any:
        try:
            return read(value)
        except ValueError:
            return value

    return decode


_TIMES: Mapping[str, Callable[[str], Any]] = {
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamptz": datetime.fromisoformat,
    "time": time.fromisoformat,
    "timetz": time.fromisoformat,
}
