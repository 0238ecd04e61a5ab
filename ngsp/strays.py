"""Replies that nobody waits for: late ones resolve an *unknown*, doubles are recorded; neither is delivered twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import asyncpg
import structlog

from ngsp.access import own
from ngsp.conclusion import conclude
from ngsp.errors import NgspError
from ngsp.messages import TRANSACTION_ID, Reply
from ngsp.registry.model import Grant, Snapshot
from ngsp.registry.store import Registry
from ngsp.transactions import entry
from ngsp.transactions.gateways import DATABASE_TROUBLE
from ngsp.transactions.log import TransactionLog
from ngsp.vault import Vault, VaultError

MOST_WAITING = 5_000
LOOK_AGAIN_S, MOST_LOOKS = 1.0, 30

log = structlog.get_logger(__name__)

_ENTRIES = "SELECT kind, body FROM entries WHERE tx = $1"
_KEY = """SELECT (SELECT wrapped FROM entries WHERE tx = $1 AND kind = 1) AS wrapped,
       EXISTS (SELECT 1 FROM replies WHERE tx = $1) AS kept"""


class Strays:
    """Handles strays one after the other, off the request path; `later` never waits."""

    def __init__(self, pool: asyncpg.Pool, registry: Registry, transactions: TransactionLog, vault: Vault) -> None:
        self._pool, self._registry, self._log, self._vault = pool, registry, transactions, vault
        self._queue: asyncio.Queue[tuple[Reply, int]] = asyncio.Queue(MOST_WAITING)
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        """Strays that found the queue full: their transactions stay *unknown*."""

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="strays")

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def later(self, reply: Reply, looks: int = 0) -> None:
        if self._queue.full():
            self.dropped += 1
        else:
            self._queue.put_nowait((reply, looks))

    async def _run(self) -> None:
        while True:
            reply, looks = await self._queue.get()
            try:
                if await self._settled(reply):
                    continue
            except Exception as error:
                log.error("a stray reply was dropped", transaction=reply.id, error=type(error).__name__, exc_info=True)
                continue
            # Its transaction is open: the entry that ends it is on its way, or the sweep that follows a crash is.
            if looks < MOST_LOOKS:
                asyncio.get_running_loop().call_later(LOOK_AGAIN_S, self.later, reply, looks + 1)
            else:
                log.warning("a reply came to a gateway that does not wait for it", transaction=reply.id)

    async def _settled(self, reply: Reply) -> bool:
        while True:
            try:
                return await self.handle(reply)
            except (NgspError, *DATABASE_TROUBLE) as error:
                log.warning("a stray reply waits for the log", transaction=reply.id, error=type(error).__name__)
                await asyncio.sleep(0.5)

    async def handle(self, reply: Reply) -> bool:
        """Record `reply`: as *resolved* where its transaction is *unknown*, as *repeated* where it has its outcome.

        False where its transaction is open yet.
        """
        if not TRANSACTION_ID.fullmatch(reply.id):
            log.error("a reply with a malformed id was dropped", adapter=reply.adapter)
            return True
        found = {row["kind"]: row["body"] for row in await self._pool.fetch(_ENTRIES, reply.id)}
        if entry.ACCEPTED not in found:
            log.error("a reply to no known transaction was dropped", transaction=reply.id, adapter=reply.adapter)
        elif entry.UNKNOWN in found and entry.RESOLVED not in found:
            await self._resolve(reply, found[entry.ACCEPTED])
        elif entry.TERMINAL & found.keys():
            await self._log.repeated(reply.id, reply.adapter)
        else:
            return False
        return True

    async def _resolve(self, reply: Reply, accepted: bytes) -> None:
        grant = grant_of(self._registry.snapshot, entry.read(accepted), reply)
        row = await self._pool.fetchrow(_KEY, reply.id)
        if grant is None or row["wrapped"] is None or reply.status in ("unknown", "retry"):
            await self._log.repeated(reply.id, reply.adapter)
            return
        try:
            key = self._vault.unwrap(row["wrapped"], reply.id)
        except VaultError as error:
            log.error("a record's key does not open", transaction=reply.id, reason=str(error))
            return
        if await self._log.resolve(reply.id, key, conclude(grant, reply), store=row["kept"]):
            log.info("an unknown outcome was resolved", transaction=reply.id)


def grant_of(snapshot: Snapshot, acceptance: dict[str, Any], reply: Reply) -> Grant | None:
    """The grant a transaction was accepted under, with that version's fields, whatever the agreement is now.

    Of the delivery of an event it is that of the subscriber's own service which took it and says so in `reply`.
    """
    accepted = acceptance["grant"]
    if accepted["mode"] == "delivery":
        receiver = snapshot.services.get(reply.service)
        if receiver is None or receiver.key.provider != accepted["consumer"]:
            return None
        return Grant(receiver, own(accepted["consumer"], receiver.path, entry.now()), accepted["purpose"])
    path = f"{accepted['provider']}/{accepted['service']}/{accepted['version']}"
    service, agreement = snapshot.services.get(path), snapshot.agreements.get(accepted["agreement"])
    if service is None or agreement is None:
        return None
    as_accepted = replace(agreement, version=accepted["agreement_version"], fields=tuple(accepted["fields"]))
    return Grant(service, as_accepted, accepted["purpose"])
