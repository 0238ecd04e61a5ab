"""Where the sources of an adapter go on from: a row for each, in the provider's database or in a file beside the inbox.

The row also says whose turn it is, so that of several processes one looks. That saves work and no more: a turn is given
again where its time is over, and what two have published is there once all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import BigInteger, Column, MetaData, String, Table, Text, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.adapter.databases import Allows, Database, database_at

CONNECTIONS = 1

_metadata = MetaData()
sources_table = Table(
    "ngsp_sources",
    _metadata,
    Column("service", String(180), primary_key=True),
    Column("place", Text, nullable=True),
    Column("holder", String(64), nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    mysql_engine="InnoDB",
    mysql_charset="utf8mb4",
    mysql_collate="utf8mb4_bin",
)
_ROW = sources_table.c


@dataclass(frozen=True, slots=True)
class Turn:
    """It is our turn. `cursor`: as it was kept last, None where nothing was."""

    cursor: str | None


class Cursors:
    """The rows in one database, each asked for by the path of its service. `holder`: who a turn is given to."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    @classmethod
    def at(cls, url: str, clock: Callable[[], float], allows: Allows | None) -> Self:
        """In the provider's database at `url`. ManifestError where that is none."""
        return cls(database_at(url, connections=CONNECTIONS, allows=allows), clock)

    @classmethod
    def beside(cls, file: Path, clock: Callable[[], float] = time.time) -> Self:
        """In a SQLite file, which is made where there is none; for processes of one machine."""
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.chmod(0o600)
        return cls(database_at(f"sqlite:///{file.resolve()}", connections=CONNECTIONS), clock)

    async def prepare(self) -> None:
        await self._database.create(_metadata)

    async def close(self) -> None:
        await self._database.close()

    async def take(self, service: str, holder: str, for_s: float) -> Turn | None:
        """The turn, for `for_s` from now; None while it is another's, or not due yet."""
        async with self._database.engine.begin() as connection:
            row = await self._taken(connection, service, holder, for_s)
            if row is None:
                new = {"service": service, "place": None, "holder": "", "until_ms": 0}
                await self._database.add(connection, sources_table, new)
                row = await self._taken(connection, service, holder, for_s)
        return Turn(row.place) if row is not None and row.holder == holder else None

    async def _taken(self, connection: AsyncConnection, service: str, holder: str, for_s: float) -> Any:
        """The row after an attempt to take it; None where there is none."""
        now_ms = self._now_ms()
        free = or_(_ROW.until_ms <= now_ms, _ROW.holder == holder)
        values = {"holder": holder, "until_ms": now_ms + int(for_s * 1000)}
        await connection.execute(update(sources_table).where(_ROW.service == service, free).values(values))
        found = select(_ROW.place, _ROW.holder).where(_ROW.service == service)
        return (await connection.execute(found)).one_or_none()

    async def keep(self, service: str, holder: str, cursor: str | None, for_s: float) -> None:
        """Keeps the cursor, durably, and the turn for `for_s` from now, unless the turn has become another's."""
        values = {"place": cursor, "until_ms": self._now_ms() + int(for_s * 1000)}
        await self._change(service, holder, values)

    async def let_go(self, service: str, holder: str) -> None:
        """Anybody's turn from now on."""
        await self._change(service, holder, {"holder": "", "until_ms": 0})

    async def _change(self, service: str, holder: str, values: dict[str, Any]) -> None:
        mine = (_ROW.service == service) & (_ROW.holder == holder)
        async with self._database.engine.begin() as connection:
            await connection.execute(update(sources_table).where(mine).values(values))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
