"""The group-committing writer: the one place where the log is written, by COPY on a raw connection.

A batch is whatever queued while the last commit ran (self-clocking: no time window), in one short transaction. A
trigger on the log locks the gateway's epoch in it, so that nothing is ever written by a gateway whose open work was
closed.

What always holds:

- A write's future MUST NOT end well before its batch is committed.
- A batch that fails on its data is bisected, so that one bad row never fails its neighbours.
- A connection lost in COMMIT is *don't know*: the old backend is ended, the batch is read back by its first entry, and
  only what is not there is written again.
- A write that waits too long is given up to its caller (`LogUnavailable`). An acceptance still queued is dropped with
  it; one that turns out committed afterwards is closed by its `undo` entry. An outcome is never dropped.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import structlog

from ngsp.database import connect
from ngsp.errors import LogUnavailable
from ngsp.messages import uuid7
from ngsp.transactions.entry import Row, now
from ngsp.transactions.extras import Extras, apply_extras
from ngsp.transactions.gateways import Registration

MOST_IN_BATCH = 1024
MOST_QUEUED = 20_000
WATCH_EVERY_S = 0.25
PROBE_PAUSE_S = 0.5
PROBE_BYTES = 65_536
RECONNECT_MIN_S, RECONNECT_MAX_S = 0.05, 1.0
FENCED = "NG001"
ROLLED_BACK = "40"
"""Class of deadlocks and serialization failures: done again at once."""
ENTRY_COLUMNS = ("at", "tx", "kind", "body", "wrapped", "seq")

log = structlog.get_logger(__name__)

_END_OTHERS = """
SELECT bool_and(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()"""
_LOST = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError,
         asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.InternalClientError, TimeoutError)  # fmt: skip
_ROW_AT_FAULT = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, ValueError, TypeError, OverflowError)


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False, slots=True)
class Write:
    """One unit that is committed whole or not at all.

    `keep`: an outcome, which is never dropped from the queue. `undo`: what closes an acceptance that was committed
    after its caller had been told 503. `done` ends with None, or with what `Extras` found instead. `in_doubt`: `done`
    ended with LogUnavailable while a commit of this was under way, so that it may yet turn out to be stored.
    """

    rows: tuple[Row, ...]
    extras: Extras | None = None
    keep: bool = False
    undo: Callable[[], Write] | None = None
    in_doubt: bool = False
    queued_at: float = 0.0
    done: asyncio.Future[Any] = field(default_factory=_future)


class LogWriter:
    """Queue, task and connection. `on_fenced` is called once when this gateway has lost its epoch."""

    def __init__(
        self, url: str, registration: Registration, *, timeout_s: float, on_fenced: Callable[[], None]
    ) -> None:
        self._url = url
        self._name = registration.session("ngsp-log")
        self._timeout_s, self._on_fenced = timeout_s, on_fenced
        # The instance is bound by its pattern; SET takes no parameters.
        self._claim = f"SET ngsp.instance = '{registration.instance}'; SET ngsp.epoch = '{int(registration.epoch)}'"
        self._connection: asyncpg.Connection | None = None
        self._queue: deque[Write] = deque()
        self._batch: list[Write] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._attempting = False
        self._broken = ""
        self.committed = 0
        self.batches = 0
        self.last_batch = 0

    async def start(self) -> None:
        await self._connected()
        self._tasks = [
            asyncio.create_task(self._run(), name="log writer"),
            asyncio.create_task(self._watch(), name="log writer watch"),
        ]

    async def stop(self, timeout_s: float) -> None:
        """Commit what is queued, then close."""
        self._closing = True
        self._wake.set()
        if self._tasks:
            await asyncio.wait([self._tasks[0]], timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for write in [*self._batch, *self._queue]:
            _fail(write, LogUnavailable(retry_after_s=1, reason="the log writer has stopped"))
        if self._connection is not None:
            self._connection.terminate()

    def trouble(self) -> str:
        """Why entries cannot be written now; empty while they can."""
        return self._broken

    @property
    def queued(self) -> int:
        return len(self._queue)

    def oldest_age_s(self) -> float:
        """How long the oldest write has waited: the measure that admission goes by."""
        oldest = self._batch[0] if self._batch else self._queue[0] if self._queue else None
        return time.monotonic() - oldest.queued_at if oldest is not None else 0.0

    def submit(self, write: Write) -> asyncio.Future[Any]:
        """Queue `write`; await the future. LogUnavailable at once where the queue is full or the epoch is lost."""
        if self._closing or (len(self._queue) >= MOST_QUEUED and not write.keep):
            raise LogUnavailable(retry_after_s=2, reason="the log writer's queue is full or closed")
        write.queued_at = time.monotonic()
        self._queue.append(write)
        self._wake.set()
        return write.done

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._closing:
                    return
                if self._broken:
                    await self._probe()
                else:
                    self._wake.clear()
                    await self._wake.wait()
                continue
            size = min(len(self._queue), MOST_IN_BATCH)
            self._batch = [self._queue.popleft() for _ in range(size)]
            await self._commit_surely(self._batch)
            self._batch = []
            self.batches += 1
            self.last_batch = size
            self.committed += size

    async def _commit_surely(self, batch: list[Write]) -> None:
        """Ends when every write of `batch` is committed, refused for its data, or given up and not committed."""
        pause_s = RECONNECT_MIN_S
        while batch:
            progress = _Progress()
            self._attempting = True
            try:
                await self._commit(batch, progress)
            except _ROW_AT_FAULT as error:
                await self._rollback()
                if len(batch) == 1:
                    log.error("an entry cannot be stored", error=type(error).__name__)
                    _fail(batch[0], LogUnavailable(retry_after_s=5, reason=f"entry refused: {type(error).__name__}"))
                    return
                half = len(batch) // 2
                await self._commit_surely(batch[:half])
                await self._commit_surely(batch[half:])
                return
            except (asyncpg.PostgresError, *_LOST) as error:
                sqlstate = getattr(error, "sqlstate", None) or ""
                if sqlstate == FENCED:
                    self._lose_epoch(batch)
                    return
                if sqlstate.startswith(ROLLED_BACK):
                    await self._rollback()
                    continue
                # Disk full, read-only, out of memory: refused for now, tried again; callers are told meanwhile.
                self._mark_broken(type(error).__name__)
                if not isinstance(error, _LOST) and self._connection and not self._connection.is_closed():
                    await self._rollback()
                elif await self._read_back(batch, progress):
                    return
            else:
                self._broken = ""
                return
            finally:
                self._attempting = False
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_MAX_S)
            batch = self._still_wanted(batch)

    async def _probe(self) -> None:
        """While the log is broken nothing new is let in, so the writer itself finds out when it can be written again.

        It copies what would fill several pages and takes it back: that needs the room that a batch would need.
        """
        await asyncio.sleep(PROBE_PAUSE_S)
        try:
            connection = await self._connected()
            await connection.execute("BEGIN")
            await self._copy(connection, [(now(), uuid7(), 0, os.urandom(PROBE_BYTES), None)])
            await connection.execute("ROLLBACK")
        except (asyncpg.PostgresError, *_LOST) as error:
            self._mark_broken(type(error).__name__)
            if isinstance(error, asyncpg.PostgresError) and error.sqlstate == FENCED:
                self._lose_epoch([])
            await self._rollback()
        else:
            log.info("the log can be written again")
            self._broken = ""

    def _mark_broken(self, error: str) -> None:
        if not self._broken:
            log.error("the log cannot be written", error=error)
        self._broken = error

    def _still_wanted(self, batch: list[Write]) -> list[Write]:
        """Nothing of the batch is committed: acceptances whose callers were told so may go."""
        return [write for write in batch if write.keep or not write.done.done()]

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._drop_connection()
            connection = await connect(self._url, name=self._name, command_timeout_s=self._timeout_s)
            await connection.execute(self._claim)
            self._connection = connection
        return self._connection

    async def _commit(self, batch: list[Write], progress: _Progress) -> None:
        """One transaction for the batch. Without extras it is one COPY alone: one round trip, committed by itself."""
        connection = await self._connected()
        if any(write.extras is not None for write in batch):
            await connection.execute("BEGIN")
            progress.answers = await apply_extras(connection, [write.extras for write in batch])
            # What lost to an earlier write of the same key or transaction is not stored at all.
            rows = [row for index, write in enumerate(batch) if index not in progress.answers for row in write.rows]
            progress.first = rows[0] if rows else None
            if rows:
                await self._copy(connection, rows)
            progress.committing = True
            await connection.execute("COMMIT")
        else:
            rows = [row for write in batch for row in write.rows]
            progress.first = rows[0]
            progress.committing = True
            await self._copy(connection, rows)
        self._settle(batch, progress.answers)

    async def _copy(self, connection: asyncpg.Connection, rows: list[Row]) -> None:
        records = [(*row, seq) for seq, row in enumerate(rows)]
        await connection.copy_records_to_table("entries", records=records, columns=ENTRY_COLUMNS)

    def _settle(self, batch: list[Write], answers: dict[int, Any]) -> None:
        for index, write in enumerate(batch):
            if not write.done.done():
                write.done.set_result(answers.get(index))
            elif write.undo is not None and index not in answers:
                # The caller was told 503 while this was in doubt: nothing was published, and the log says so.
                undo = write.undo()
                undo.queued_at = time.monotonic()
                self._queue.append(undo)
                self._wake.set()

    async def _rollback(self) -> None:
        connection = self._connection
        try:
            if connection is not None and not connection.is_closed():
                await connection.execute("ROLLBACK")
        except (asyncpg.PostgresError, *_LOST):
            self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
        self._connection = None

    async def _read_back(self, batch: list[Write], progress: _Progress) -> bool:
        """After a lost connection: True where the batch turns out committed. Waits until the database says which."""
        self._drop_connection()
        if not progress.committing or progress.first is None:
            return False
        at, tx, kind, *_ = progress.first
        pause_s = RECONNECT_MIN_S
        while True:
            try:
                connection = await self._connected()
                # The old backend may still be in its COMMIT: nothing is known before it has ended.
                if await connection.fetchval(_END_OTHERS, self._name) is False:
                    raise TimeoutError
                found = await connection.fetchval(
                    "SELECT 1 FROM entries WHERE at = $1 AND tx = $2 AND kind = $3", at, tx, kind
                )
            except (asyncpg.PostgresError, *_LOST) as error:
                self._mark_broken(type(error).__name__)
                self._drop_connection()
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RECONNECT_MAX_S)
                continue
            self._broken = ""
            if found:
                self._settle(batch, progress.answers)
            log.warning("a commit in doubt was read back", committed=bool(found), writes=len(batch))
            return bool(found)

    def _lose_epoch(self, batch: list[Write]) -> None:
        log.critical("this gateway was taken for dead and its open work closed; it must not write any more")
        self._closing = True
        self._broken = "fenced"
        for write in [*batch, *self._queue]:
            _fail(write, LogUnavailable(retry_after_s=1, reason="fenced"))
        self._queue.clear()
        self._on_fenced()

    async def _watch(self) -> None:
        """Tells callers that have waited too long. What may yet be dropped is dropped."""
        while True:
            await asyncio.sleep(WATCH_EVERY_S)
            before = time.monotonic() - self._timeout_s
            for write in self._batch:
                if write.queued_at < before and not write.done.done():
                    write.in_doubt = self._attempting
                    _fail(write, LogUnavailable(retry_after_s=2, reason="not durable in time"))
            for write in self._queue:
                if write.queued_at < before:
                    _fail(write, LogUnavailable(retry_after_s=2, reason="not durable in time"))
            if any(write.done.done() and not write.keep for write in self._queue):
                self._queue = deque(write for write in self._queue if write.keep or not write.done.done())


@dataclass(slots=True)
class _Progress:
    """How far a commit came before it failed."""

    committing: bool = False
    first: tuple[Any, ...] | None = None
    answers: dict[int, Any] = field(default_factory=dict)


def _fail(write: Write, error: LogUnavailable) -> None:
    if not write.done.done():
        write.done.set_exception(error)
        write.done.exception()  # a caller that went away must not make the loop complain
