"""The inbox: what makes every effect happen once though messages come at least once.

Each service declares its effect:

- `idempotent`: the provider's system honours our id, or nothing is changed; a repeat is simply done again.
- `transactional`: the inbox row and the effect are one commit in the provider's own database.
- `uncertain`: the effect cannot be tied to the inbox; it is marked begun before and done after, and a message found
  begun but not done ends as *unknown*, never repeated by itself.

The reply is kept sealed until the deadline and a margin, so that a repeat gets the same bytes.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, String, Table, delete, select, update
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngsp.messages import Envelope, Reply
from ngsp.vault import Vault

MARGIN_S = 86_400.0
"""How long after the deadline a repeat still gets its reply."""

_metadata = MetaData()
inbox_table = Table(
    "ngsp_inbox",
    _metadata,
    Column("id", String(36), primary_key=True),
    Column("service", String(180), nullable=False),
    Column("keep_until_ms", BigInteger, nullable=False, index=True),
    Column("status", String(10), nullable=False),
    Column("code", String(64), nullable=False),
    Column("reply", LargeBinary, nullable=False),
)

Execute = Callable[[AsyncConnection | None], Awaitable[Reply]]


class _Rollback(Exception):  # carries a reply out of a transaction that must not commit
    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self.reply = reply


def _keep_until_ms(envelope: Envelope) -> int:
    return envelope.deadline_ms + int(MARGIN_S * 1000)


def _sealed(vault: Vault, reply: Reply) -> bytes:
    record = vault.new_record_key(reply.id)
    return len(record.wrapped).to_bytes(2, "big") + record.wrapped + record.seal(reply.body, b"inbox")


def _opened(vault: Vault, id: str, stored: bytes) -> bytes:
    size = int.from_bytes(stored[:2], "big")
    return vault.unwrap(stored[2 : 2 + size], id).open(stored[2 + size :], b"inbox")


class TransactionalInbox:
    """In the provider's PostgreSQL database, beside the effect."""

    def __init__(self, engine: AsyncEngine, vault: Vault) -> None:
        self._engine, self._vault = engine, vault
        self._purge_at = 0.0

    async def prepare(self) -> None:
        """Make the table where it is missing."""
        async with self._engine.begin() as connection:
            await connection.run_sync(_metadata.create_all)

    async def once(self, envelope: Envelope, expired: Reply | None, execute: Execute) -> Reply:
        """The reply of the one execution of `envelope`. MUST NOT return `ok` unless effect and row are committed.

        `expired`: the reply to store instead of executing, where the deadline has passed. A concurrent delivery of
        the same id waits here for the other's commit and then finds its row.
        """
        await self._purge()
        try:
            async with self._engine.begin() as connection:
                if not await self._claim(connection, envelope):
                    return await self._stored(connection, envelope)
                if expired is not None:
                    await self._store(connection, expired)
                    return expired
                reply = await execute(connection)
                if reply.status != "ok":
                    raise _Rollback(reply)
                await self._store(connection, reply)
                return reply
        except _Rollback as rollback:
            reply = rollback.reply
        if reply.status in ("retry", "unknown"):
            return reply  # nothing was committed: the next delivery tries again
        async with self._engine.begin() as connection:
            if not await self._claim(connection, envelope):
                return await self._stored(connection, envelope)
            await self._store(connection, reply)
        return reply

    async def _claim(self, connection: AsyncConnection, envelope: Envelope) -> bool:
        row = {
            "id": envelope.id,
            "service": envelope.service,
            "keep_until_ms": _keep_until_ms(envelope),
            "status": "begun",
            "code": "",
            "reply": b"",
        }
        statement = pg_insert(inbox_table).values(row).on_conflict_do_nothing().returning(inbox_table.c.id)
        return (await connection.execute(statement)).first() is not None

    async def _store(self, connection: AsyncConnection, reply: Reply) -> None:
        values = {"status": reply.status, "code": reply.code, "reply": _sealed(self._vault, reply)}
        await connection.execute(update(inbox_table).where(inbox_table.c.id == reply.id).values(values))

    async def _stored(self, connection: AsyncConnection, envelope: Envelope) -> Reply:
        columns = (inbox_table.c.status, inbox_table.c.code, inbox_table.c.reply)
        row = (await connection.execute(select(*columns).where(inbox_table.c.id == envelope.id))).one()
        body = _opened(self._vault, envelope.id, row.reply)
        return Reply(envelope.id, envelope.service, row.status, body, row.code, attempt=envelope.attempt)

    async def _purge(self) -> None:
        """Bounded: rows past deadline and margin go, at most once a minute."""
        now = time.time()
        if now < self._purge_at:
            return
        self._purge_at = now + 60
        async with self._engine.begin() as connection:
            await connection.execute(delete(inbox_table).where(inbox_table.c.keep_until_ms < int(now * 1000)))


class UncertainInbox:
    """A SQLite file beside a single adapter process, written through to disk before and after each effect."""

    def __init__(self, path: Path, vault: Vault) -> None:
        self._path, self._vault = path, vault
        self._lock = asyncio.Lock()
        self._running: dict[str, asyncio.Future[Reply]] = {}
        self._file: sqlite3.Connection | None = None

    async def prepare(self) -> None:
        def open_file() -> sqlite3.Connection:
            file = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
            file.execute("PRAGMA journal_mode=WAL")
            file.execute("PRAGMA synchronous=FULL")
            file.execute(
                "CREATE TABLE IF NOT EXISTS ngsp_inbox (id TEXT PRIMARY KEY, keep_until_ms INTEGER NOT NULL,"
                " status TEXT NOT NULL, code TEXT NOT NULL, reply BLOB NOT NULL) WITHOUT ROWID"
            )
            file.execute("DELETE FROM ngsp_inbox WHERE keep_until_ms < ?", (int(time.time() * 1000),))
            return file

        self._file = await asyncio.to_thread(open_file)
        self._path.chmod(0o600)

    async def _run(self, statement: str, parameters: tuple[object, ...]) -> list[tuple[str, str, bytes]]:
        if self._file is None:
            raise RuntimeError("the inbox is not prepared")
        async with self._lock:
            return await asyncio.to_thread(lambda: self._file.execute(statement, parameters).fetchall())  # type: ignore[union-attr]

    async def once(self, envelope: Envelope, expired: Reply | None, execute: Execute) -> Reply:
        """As `TransactionalInbox.once`, but an execution that was cut off ends as *unknown*."""
        running = self._running.get(envelope.id)
        if running is not None:
            return await asyncio.shield(running)
        found = await self._run("SELECT status, code, reply FROM ngsp_inbox WHERE id = ?", (envelope.id,))
        if found:
            status, code, stored = found[0]
            if status == "begun":
                return Reply(envelope.id, envelope.service, "unknown", code="interrupted", attempt=envelope.attempt)
            body = _opened(self._vault, envelope.id, stored)
            return Reply(envelope.id, envelope.service, status, body, code, attempt=envelope.attempt)  # type: ignore[arg-type]
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._running[envelope.id] = future
        try:
            reply = await self._execute(envelope, expired, execute)
            future.set_result(reply)
            return reply
        finally:
            del self._running[envelope.id]
            future.cancel()

    async def _execute(self, envelope: Envelope, expired: Reply | None, execute: Execute) -> Reply:
        row = (envelope.id, _keep_until_ms(envelope), "begun", "", b"")
        await self._run("INSERT INTO ngsp_inbox VALUES (?, ?, ?, ?, ?)", row)
        reply = expired if expired is not None else await execute(None)
        if reply.status == "retry":
            await self._run("DELETE FROM ngsp_inbox WHERE id = ?", (envelope.id,))
        elif reply.status != "unknown":
            stored = (reply.status, reply.code, _sealed(self._vault, reply), envelope.id)
            await self._run("UPDATE ngsp_inbox SET status = ?, code = ?, reply = ? WHERE id = ?", stored)
        return reply

    async def close(self) -> None:
        if self._file is not None:
            await asyncio.to_thread(self._file.close)
