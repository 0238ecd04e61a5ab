"""Who is alive: each gateway's epoch, heartbeat and reply slot; and leases, under which one gateway does a job for all.

The epoch is the fence. Every batch of the log writer locks it (FOR KEY SHARE); whoever takes a gateway for dead raises
it first (FOR UPDATE waits for running batches), so that nothing is written under it afterwards. Before that it ends the
sessions of that gateway: a process that hangs in the middle of a transaction would hold its epoch, and with it keys,
lines and the projection, for as long as it hangs. Clocks are the database's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
import structlog

REGISTRATION_LOCK = 0x6E677371
SESSIONS = ("ngsp", "ngsp-log")
"""Parts of a gateway that have sessions in the database: everything, and the log writer."""

log = structlog.get_logger(__name__)

DATABASE_TROUBLE = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver's, where a connection died between two of its steps
    TimeoutError,
)

_END_SESSIONS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = ANY($1::text[])"""
# The transaction gets its number when it has the lock: every batch of the old epoch has a lower one.
_LOCK_EPOCH = "SELECT epoch FROM gateways WHERE instance = $1 FOR UPDATE"
_TAKE_EPOCH = """
INSERT INTO gateways (instance, epoch, slot, seen_at, fenced_xid) VALUES ($1, 1, NULL, now(), pg_current_xact_id())
ON CONFLICT (instance) DO UPDATE SET epoch = gateways.epoch + 1, seen_at = now(), fenced_xid = pg_current_xact_id()
RETURNING epoch, slot"""
_TAKE_SLOT = """
UPDATE gateways SET slot = (
    SELECT min(n) FROM generate_series(1, 1000) n WHERE n NOT IN (SELECT slot FROM gateways WHERE slot IS NOT NULL))
WHERE instance = $1 RETURNING slot"""
_SILENT = """
SELECT instance, epoch FROM gateways
WHERE slot IS NOT NULL AND instance <> $1 AND seen_at < now() - make_interval(secs => $2)"""
_FENCE = """
UPDATE gateways SET epoch = epoch + 1, slot = NULL, fenced_xid = pg_current_xact_id()
WHERE instance = $1 AND epoch = $2 AND seen_at < now() - make_interval(secs => $3) RETURNING 1"""
_SIGN_OFF = """
WITH me AS (SELECT instance FROM gateways WHERE instance = $1 AND epoch = $2 FOR UPDATE)
UPDATE gateways g SET epoch = g.epoch + 1, slot = NULL, fenced_xid = pg_current_xact_id()
FROM me WHERE g.instance = me.instance"""
_LEASE = """
INSERT INTO leases (name, holder, until) VALUES ($1, $2, now() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE leases.holder = excluded.holder OR leases.until < now() RETURNING 1"""


@dataclass(frozen=True, slots=True)
class Registration:
    """This gateway's place among the others. `slot`: number of its reply topic."""

    instance: str
    epoch: int
    slot: int

    def session(self, part: str = "ngsp") -> str:
        """Name of the sessions of this process in the database, by which they are found and ended."""
        return _session(part, self.instance, self.epoch)


def _session(part: str, instance: str, epoch: int) -> str:
    return f"{part}:{instance}/{epoch}"


async def _end_sessions(connection: asyncpg.Connection, instance: str, epoch: int) -> None:
    """Of the process that has, or had, this epoch. What it had not committed is undone."""
    await connection.execute(_END_SESSIONS, [_session(part, instance, epoch) for part in SESSIONS])


async def register(connection: asyncpg.Connection, instance: str) -> Registration:
    """Take the next epoch of `instance`: whatever an earlier process of that name left open is no longer its own."""
    before = await connection.fetchval("SELECT epoch FROM gateways WHERE instance = $1", instance)
    if before is not None:
        await _end_sessions(connection, instance, before)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", REGISTRATION_LOCK)
        await connection.execute(_LOCK_EPOCH, instance)
        row = await connection.fetchrow(_TAKE_EPOCH, instance)
        slot = row["slot"] or await connection.fetchval(_TAKE_SLOT, instance)
        return Registration(instance, row["epoch"], slot)


class Presence:
    """Keeps this gateway seen, fences the silent ones, and gives leases."""

    def __init__(
        self, pool: asyncpg.Pool, registration: Registration, lease_s: float, on_fenced: Callable[[], None]
    ) -> None:
        self._pool, self._me, self._lease_s, self._on_fenced = pool, registration, lease_s, on_fenced
        self._holder = f"{registration.instance}/{registration.epoch}"
        self._task: asyncio.Task[None] | None = None
        self._seen_since = time.monotonic()
        self.alive = 1
        """Gateways seen lately, this one included."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="presence")

    async def stop(self) -> None:
        """Leave: others need not wait for the lease to run out, and the sweep may close what was left open.

        To be called when nothing more is written.
        """
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._pool.execute("DELETE FROM leases WHERE holder = $1", self._holder)
            await self._pool.execute(_SIGN_OFF, self._me.instance, self._me.epoch)
        except DATABASE_TROUBLE as error:
            log.warning("could not sign off", error=type(error).__name__)

    async def _run(self) -> None:
        while True:
            try:
                await self._beat()
            except DATABASE_TROUBLE as error:
                # While the database is away nobody can be seen: the count of silence begins anew when it is back.
                self._seen_since = time.monotonic()
                log.warning("heartbeat failed", error=type(error).__name__)
            await asyncio.sleep(self._lease_s / 10)

    async def _beat(self) -> None:
        epoch = await self._pool.fetchval(
            "UPDATE gateways SET seen_at = now() WHERE instance = $1 RETURNING epoch", self._me.instance
        )
        if epoch != self._me.epoch:
            self._on_fenced()
            return
        self.alive = await self._pool.fetchval(
            "SELECT count(*) FROM gateways WHERE slot IS NOT NULL AND seen_at > now() - make_interval(secs => $1)",
            self._lease_s,
        )
        if time.monotonic() - self._seen_since > self._lease_s * 1.5:
            for row in await self._pool.fetch(_SILENT, self._me.instance, self._lease_s):
                await self._fence(row["instance"], row["epoch"])

    async def _fence(self, instance: str, epoch: int) -> None:
        """MUST NOT wait for long: this gateway would fall silent itself. What does not end is tried again."""
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                await _end_sessions(connection, instance, epoch)
                await connection.execute(f"SET LOCAL lock_timeout = '{self._lease_s / 4:.3f}s'")
                await connection.execute(_LOCK_EPOCH, instance)
                if await connection.fetchval(_FENCE, instance, epoch, self._lease_s):
                    log.warning("a silent gateway was fenced", gateway=instance)
        except asyncpg.LockNotAvailableError:
            log.warning("a silent gateway still holds its epoch", gateway=instance)

    async def lease(self, name: str) -> bool:
        """True where this gateway may do the job `name` for the next `lease_s`."""
        try:
            return await self._pool.fetchval(_LEASE, name, self._holder, self._lease_s) is not None
        except DATABASE_TROUBLE:
            return False
