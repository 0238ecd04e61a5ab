"""Keeps the snapshot at most a second old: LISTEN for notices, a poll in case one is lost, and no giving up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog

from ngsp import database
from ngsp.errors import RegistryStale
from ngsp.registry.loading import EMPTY, REVISION, Loader
from ngsp.registry.model import Snapshot

logger = structlog.get_logger(__name__)

CHANNEL = "ngsp_registry"
OnChange = Callable[[Snapshot], Awaitable[None]]

_COMMAND_TIMEOUT_S = 3.0
_RETRY_MIN_S = 0.05
_RETRY_MAX_S = 1.0
_LOST = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Watcher:
    """One connection of its own, one task that listens, polls and loads, and one task for each callback.

    `poll_s`: pause between polls; `stale_s`: age of the last confirmation from which the snapshot is refused.
    """

    def __init__(self, url: str, *, poll_s: float, stale_s: float) -> None:
        self._url = url
        self._poll_s = poll_s
        self._stale_s = stale_s
        self._loader = Loader()
        self._snapshot = EMPTY
        self._confirmed_s = float("-inf")
        self._wake = asyncio.Event()
        self._changed = asyncio.Condition()
        self._tasks: list[asyncio.Task[None]] = []
        self._callbacks: list[OnChange] = []

    @property
    def running(self) -> bool:
        return bool(self._tasks)

    @property
    def age_s(self) -> float:
        """Seconds since the database last confirmed the snapshot."""
        return time.monotonic() - self._confirmed_s

    @property
    def snapshot(self) -> Snapshot:
        """The newest; `RegistryStale` (503) where it could not be confirmed for `stale_s`."""
        if time.monotonic() - self._confirmed_s > self._stale_s:
            raise RegistryStale(retry_after_s=1, reason=f"registry not confirmed for {self.age_s:.1f} s")
        return self._snapshot

    @property
    def last_known(self) -> Snapshot:
        """The newest, confirmed or not: to tell what an address is, never to allow anything."""
        return self._snapshot

    def on_change(self, callback: OnChange) -> None:
        """`callback` gets the newest snapshot after a change, again where it failed; some between may be left out."""
        self._callbacks.append(callback)
        if self.running:
            self._follow(callback)

    async def start(self) -> None:
        """Returns once the first snapshot is there. The database's error where it cannot be had: there is no start."""
        connection = await self._connect()
        try:
            await self._confirm(connection)
        except BaseException:
            connection.terminate()
            raise
        self._tasks.append(asyncio.create_task(self._run(connection), name="registry-watch"))
        for callback in self._callbacks:
            self._follow(callback)
        await asyncio.sleep(0)  # the connection is the task's to close only once it has begun

    async def stop(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def reached(self, revision: int, timeout_s: float) -> bool:
        """True as soon as the snapshot is at `revision` or beyond; False when `timeout_s` passed before."""
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: self._snapshot.revision >= revision)
        return self._snapshot.revision >= revision

    async def _connect(self) -> asyncpg.Connection:
        connection = await database.connect(self._url, name="ngsp-registry", command_timeout_s=_COMMAND_TIMEOUT_S)
        try:
            connection.add_termination_listener(lambda *_: self._wake.set())
            await connection.add_listener(CHANNEL, self._noticed)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _noticed(self, *_: Any) -> None:
        self._wake.set()

    async def _run(self, connection: asyncpg.Connection | None) -> None:
        pause_s = _RETRY_MIN_S
        try:
            while True:
                try:
                    if connection is None:
                        connection = await self._connect()
                        await self._confirm(connection)
                        logger.info("registry.reconnected")
                    pause_s = _RETRY_MIN_S
                    await self._watch(connection)
                except _LOST as error:
                    logger.warning("registry.database_lost", error=type(error).__name__)
                except Exception:
                    # A defect of ours must not leave every gateway with a stale registry for good.
                    logger.exception("registry.watch_failed")
                if connection is not None:
                    connection.terminate()
                    connection = None
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _RETRY_MAX_S)
        finally:
            if connection is not None:
                connection.terminate()

    async def _watch(self, connection: asyncpg.Connection) -> None:
        while True:
            # Not `wait_for`: in Python 3.11 it loses a cancellation that comes together with what it waits for.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()
            self._wake.clear()
            await self._confirm(connection)

    async def _confirm(self, connection: asyncpg.Connection) -> None:
        asked_s = time.monotonic()
        revision = await connection.fetchval(REVISION)
        if revision != self._snapshot.revision:
            snapshot = await self._loader.load(
                connection, self._snapshot if revision > self._snapshot.revision else EMPTY
            )
            async with self._changed:
                self._snapshot = snapshot
                self._changed.notify_all()
        self._confirmed_s = asked_s

    def _follow(self, callback: OnChange) -> None:
        self._tasks.append(asyncio.create_task(self._tell(callback), name="registry-callback"))

    async def _tell(self, callback: OnChange) -> None:
        told = EMPTY
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._snapshot is not told)  # noqa: B023 - read at once
            snapshot = self._snapshot
            try:
                await callback(snapshot)
                told = snapshot
            except Exception:
                logger.exception("registry.callback_failed")
                await asyncio.sleep(_RETRY_MAX_S)
