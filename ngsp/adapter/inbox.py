"""The inbox: what makes every effect happen once though messages come at least once.

Each service declares its effect:

- `idempotent`: the provider's system honours our id, or nothing is changed; a repeat is simply done again.
- `transactional`: the inbox row and the effect are one commit in the provider's own database.
- `uncertain`: the effect cannot be tied to the inbox; it is marked begun before and done after, and a message found
  begun but not done ends as *unknown*, never repeated by itself.

The reply is kept sealed until the deadline and a margin, so that a repeat gets the same bytes. Only `retry` is not
kept: it says that nothing was done and that the next delivery tries again.

An inbox is bounded. One that is full begins nothing new and says `retry`: no row is forgotten before its time, since
that would be an effect that may be doubled.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, String, Table, delete, func, select, update
from sqlalchemy.dialects.mysql import MEDIUMBLOB
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.adapter.databases import Allows, database_at, passing
from ngsp.adapter.fill import DEFAULT_BOUNDS, FULL, Bounds, Fill
from ngsp.adapter.turns import Places
from ngsp.messages import Envelope, Reply
from ngsp.vault import Vault

MARGIN_S = 86_400.0
"""How long after the deadline a repeat still gets its reply."""
PURGE_EVERY_S = 60.0
CONNECTIONS = 8
"""To the provider's database; as many effects are in work at once, the other messages wait for their turn."""

_metadata = MetaData()
inbox_table = Table(
    "ngsp_inbox",
    _metadata,
    Column("id", String(36), primary_key=True),
    Column("service", String(180), nullable=False),
    Column("keep_until_ms", BigInteger, nullable=False, index=True),
    Column("status", String(10), nullable=False),
    Column("code", String(64), nullable=False),
    Column("reply", LargeBinary().with_variant(MEDIUMBLOB(), "mysql", "mariadb"), nullable=False),
    mysql_engine="InnoDB",
    mysql_charset="ascii",
    mysql_collate="ascii_bin",
)
_SIZE = select(func.count(), func.coalesce(func.sum(func.length(inbox_table.c.reply)), 0)).select_from(inbox_table)

Execute = Callable[[AsyncConnection | None], Awaitable[Reply]]

log = structlog.get_logger(__name__)


def _keep_until_ms(envelope: Envelope) -> int:
    return envelope.deadline_ms + int(MARGIN_S * 1000)


def _sealed(vault: Vault, reply: Reply) -> bytes:
    record = vault.new_record_key(reply.id)
    return len(record.wrapped).to_bytes(2, "big") + record.wrapped + record.seal(reply.body, b"inbox")


def _opened(vault: Vault, id: str, stored: bytes) -> bytes:
    size = int.from_bytes(stored[:2], "big")
    return vault.unwrap(stored[2 : 2 + size], id).open(stored[2 + size :], b"inbox")


def _kept(vault: Vault, envelope: Envelope, status: str, code: str, stored: bytes) -> Reply:
    """What the inbox knows of `envelope`; *unknown* where it was begun and nobody wrote how it ended."""
    if status == "begun":
        return Reply(envelope.id, envelope.service, "unknown", code="interrupted")
    body = _opened(vault, envelope.id, stored)
    return Reply(envelope.id, envelope.service, status, body, code)  # type: ignore[arg-type]  # as it was stored


def _full(envelope: Envelope) -> Reply:
    return Reply(envelope.id, envelope.service, "retry", code=FULL)


class TransactionalInbox:
    """In the provider's database at `url` (see `ngsp.adapter.databases`), beside the effect.

    `forgets`: whether rows may go whose time is over by `clock`; not while that is known to be wrong. `services`: whose
    effects are in it, each with connections that the others cannot take from it.
    """

    def __init__(
        self,
        url: str,
        vault: Vault,
        clock: Callable[[], float] = time.time,
        allows: Allows | None = None,
        bounds: Bounds = DEFAULT_BOUNDS,
        forgets: Callable[[], bool] = lambda: True,
        services: Sequence[str] = ("",),
    ) -> None:
        self._database = database_at(url, connections=CONNECTIONS, allows=allows)
        self._engine = self._database.engine
        self._vault, self._clock, self._forgets = vault, clock, forgets
        self._services = frozenset(services)
        self._places = Places(self._database.writers, services)
        self.fill = Fill(bounds)
        self._tend_at = 0.0

    async def prepare(self) -> None:
        """Make the table where it is missing; safe from several processes at once."""
        await self._database.create(_metadata)

    async def close(self) -> None:
        await self._database.close()

    async def once(self, envelope: Envelope, execute: Execute) -> Reply:
        """The reply of the one execution of `envelope`. MUST NOT return `ok` unless effect and row are committed.

        A concurrent delivery of the same id waits here for the other's commit and then finds its row, or is told by an
        error to come again. Whatever it raises, nothing was done that the next delivery would not find.
        """
        async with self._places.place(envelope.service if envelope.service in self._services else ""):
            await self._tend()
            if self.fill.is_full and not await self._knows(envelope):
                return _full(envelope)
            reply, stored = await self._try(envelope, execute)
            if stored or reply.status == "retry":
                return reply
            async with self._engine.begin() as connection:
                if not await self._claim(connection, envelope):
                    return await self._found(connection, envelope)
                await self._store(connection, reply)
            return reply

    async def _try(self, envelope: Envelope, execute: Execute) -> tuple[Reply, bool]:
        """The reply, and whether its row is committed; where it is not, the effect is not either."""
        executed = False
        try:
            async with self._engine.connect() as connection:  # rolls back at its end what is not committed
                if not await self._claim(connection, envelope):
                    return await self._found(connection, envelope), True
                reply = await execute(connection)
                executed = True
                if reply.status not in ("ok", "expired"):
                    return reply, False
                if await self._store(connection, reply):
                    await connection.commit()
                    return reply, True
        except (DBAPIError, InvalidRequestError) as error:
            if not executed or passing(error):
                raise
            log.error("an effect could not be committed", transaction=envelope.id, error=type(error).__name__)
        # The service function left the transaction unfit to commit: it ended it itself, kept an error of the database
        # to itself, or broke a constraint that is checked at the commit. Another delivery would fare the same.
        return Reply(envelope.id, envelope.service, "failed", code="adapter-error"), False

    async def _claim(self, connection: AsyncConnection, envelope: Envelope) -> bool:
        row = {
            "id": envelope.id,
            "service": envelope.service,
            "keep_until_ms": _keep_until_ms(envelope),
            "status": "begun",
            "code": "",
            "reply": b"",
        }
        return await self._database.add(connection, inbox_table, row)

    async def _store(self, connection: AsyncConnection, reply: Reply) -> bool:
        """False where the row that was claimed is gone."""
        values = {"status": reply.status, "code": reply.code, "reply": _sealed(self._vault, reply)}
        self.fill.added(len(values["reply"]))
        mine = (inbox_table.c.id == reply.id) & (inbox_table.c.status == "begun")
        return (await connection.execute(update(inbox_table).where(mine).values(values))).rowcount == 1

    async def _found(self, connection: AsyncConnection, envelope: Envelope) -> Reply:
        columns = (inbox_table.c.status, inbox_table.c.code, inbox_table.c.reply)
        row = (await connection.execute(select(*columns).where(inbox_table.c.id == envelope.id))).one()
        return _kept(self._vault, envelope, row.status, row.code, row.reply)

    async def _knows(self, envelope: Envelope) -> bool:
        async with self._engine.connect() as connection:
            known = select(inbox_table.c.id).where(inbox_table.c.id == envelope.id)
            return (await connection.execute(known)).first() is not None

    async def _tend(self) -> None:
        """At most once a minute: rows past deadline and margin go, and what is left is counted."""
        now = self._clock()
        if now < self._tend_at:
            return
        self._tend_at = now + PURGE_EVERY_S
        async with self._engine.begin() as connection:
            if self._forgets():
                await connection.execute(delete(inbox_table).where(inbox_table.c.keep_until_ms < int(now * 1000)))
            if self.fill.is_to_be_counted(now):
                size = func.coalesce(func.sum(func.length(inbox_table.c.reply)), 0)
                rows, reply_bytes = (
                    await connection.execute(select(func.count(), size).select_from(inbox_table))
                ).one()
                self.fill.counted(int(rows), int(reply_bytes), now)


class UncertainInbox:
    """A SQLite file beside a single adapter process, written through to disk before and after each effect.

    `forgets`: as for `TransactionalInbox`.
    """

    def __init__(
        self,
        path: Path,
        vault: Vault,
        clock: Callable[[], float] = time.time,
        bounds: Bounds = DEFAULT_BOUNDS,
        forgets: Callable[[], bool] = lambda: True,
    ) -> None:
        self._path, self._vault, self._clock, self._forgets = path, vault, clock, forgets
        # One thread of its own: statements keep their order, also those whose caller was cancelled.
        self._thread = ThreadPoolExecutor(1, "ngsp-inbox")
        self._running: dict[str, asyncio.Future[Reply]] = {}
        self._file: sqlite3.Connection | None = None
        self.fill = Fill(bounds)
        self._tend_at = 0.0

    async def prepare(self) -> None:
        def open_file() -> sqlite3.Connection:
            self._path.touch(mode=0o600)  # SQLite gives its other files the same rights
            self._path.chmod(0o600)
            file = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            file.execute("PRAGMA journal_mode=WAL")
            file.execute("PRAGMA synchronous=FULL")
            file.execute(
                "CREATE TABLE IF NOT EXISTS ngsp_inbox (id TEXT PRIMARY KEY, keep_until_ms INTEGER NOT NULL,"
                " status TEXT NOT NULL, code TEXT NOT NULL, reply BLOB NOT NULL) WITHOUT ROWID"
            )
            return file

        self._file = await asyncio.get_running_loop().run_in_executor(self._thread, open_file)
        await self._tend()

    async def _run(self, statement: str, parameters: tuple[object, ...] = ()) -> list[Any]:
        file = self._file
        if file is None:
            raise RuntimeError("the inbox is not prepared")
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: file.execute(statement, parameters).fetchall()
        )

    async def once(self, envelope: Envelope, execute: Execute) -> Reply:
        """As `TransactionalInbox.once`, but an execution that was cut off ends as *unknown*.

        A concurrent delivery of the same id gets the reply of the one that is running. Where it raises, nothing was
        done.
        """
        running = self._running.get(envelope.id)
        if running is not None:
            return await asyncio.shield(running)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._running[envelope.id] = future
        try:
            reply = await self._once(envelope, execute)
        except BaseException as error:
            cause = error if isinstance(error, Exception) else RuntimeError("the execution was cut off")
            future.set_exception(cause)
            future.exception()  # seen: there may be nobody else who waits for it
            raise
        finally:
            del self._running[envelope.id]
        future.set_result(reply)
        return reply

    async def _once(self, envelope: Envelope, execute: Execute) -> Reply:
        await self._tend()
        found = await self._run("SELECT status, code, reply FROM ngsp_inbox WHERE id = ?", (envelope.id,))
        if found:
            return _kept(self._vault, envelope, *found[0])
        if self.fill.is_full:
            return _full(envelope)
        row = (envelope.id, _keep_until_ms(envelope), "begun", "", b"")
        await self._run("INSERT INTO ngsp_inbox VALUES (?, ?, ?, ?, ?)", row)
        reply = await execute(None)
        try:
            await self._store(reply)
        except sqlite3.Error as error:
            # It is done, and this is how it went; only a repeat will not know more than that it was begun.
            log.error("a reply could not be kept", transaction=envelope.id, error=type(error).__name__)
        return reply

    async def _store(self, reply: Reply) -> None:
        if reply.status == "retry":
            await self._run("DELETE FROM ngsp_inbox WHERE id = ?", (reply.id,))
            return
        sealed = _sealed(self._vault, reply)
        values = (reply.status, reply.code, sealed, reply.id)
        self.fill.added(len(sealed))
        await self._run("UPDATE ngsp_inbox SET status = ?, code = ?, reply = ? WHERE id = ?", values)

    async def _tend(self) -> None:
        now = self._clock()
        if now < self._tend_at:
            return
        self._tend_at = now + PURGE_EVERY_S
        if self._forgets():
            await self._run("DELETE FROM ngsp_inbox WHERE keep_until_ms < ?", (int(now * 1000),))
        if self.fill.is_to_be_counted(now):
            ((rows, reply_bytes),) = await self._run("SELECT count(*), coalesce(sum(length(reply)), 0) FROM ngsp_inbox")
            self.fill.counted(rows, reply_bytes, now)

    async def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, file.close)
        self._thread.shutdown()
