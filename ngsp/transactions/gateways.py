"""Who is alive: each gateway's epoch, heartbeat and reply slot; and leases, under which one gateway does a job for all.

The epoch is the fence. Every batch of the log writer locks it (FOR KEY SHARE); whoever takes a gateway for dead raises
it first (FOR UPDATE waits for running batches), so that nothing is written under it afterwards. Clocks are the
database's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import asyncpg
import structlog

REGISTRATION_LOCK = 0x6E677371

log = structlog.get_logger(__name__)

DATABASE_TROUBLE = (
    OSError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the driver's, where a connection died between two of its steps
    TimeoutError,
)

_TAKE_EPOCH = """
INSERT INTO gateways (instance, epoch, slot, seen_at, fenced_xid) VALUES ($1, 1, NULL, now(), pg_current_xact_id())
ON CONFLICT (instance) DO UPDATE SET epoch = gateways.epoch + 1, seen_at = now(), fenced_xid = pg_current_xact_id()
RETURNING epoch, slot"""
_TAKE_SLOT = """
UPDATE gateways SET slot = (
    SELECT min(n) FROM generate_series(1, 1000) n WHERE n NOT IN (SELECT slot FROM gateways WHERE slot IS NOT NULL))
WHERE instance = $1 RETURNING slot"""
_FENCE_SILENT = """
WITH silent AS (
    SELECT instance FROM gateways
    WHERE slot IS NOT NULL AND instance <> $1 AND seen_at < now() - make_interval(secs => $2) LIMIT 1 FOR UPDATE)
UPDATE gateways g SET epoch = g.epoch + 1, slot = NULL, fenced_xid = pg_current_xact_id()
FROM silent WHERE g.instance = silent.instance RETURNING g.instance"""
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


async def register(connection: asyncpg.Connection, instance: str) -> Registration:
    """Take the next epoch of `instance`: whatever an earlier process of that name left open is no longer its own."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", REGISTRATION_LOCK)
        await connection.execute("SELECT 1 FROM gateways WHERE instance = $1 FOR UPDATE", instance)
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
            for row in await self._pool.fetch(_FENCE_SILENT, self._me.instance, self._lease_s):
                log.warning("a silent gateway was fenced", gateway=row["instance"])

    async def lease(self, name: str) -> bool:
        """True where this gateway may do the job `name` for the next `lease_s`."""
        try:
            return await self._pool.fetchval(_LEASE, name, self._holder, self._lease_s) is not None
        except DATABASE_TROUBLE:
            return False
