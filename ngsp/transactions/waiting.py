"""Waiting for outcomes: however many callers wait, one small query every tenth of a second looks for all of them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import datetime
from typing import Final

import asyncpg
import structlog

from ngsp.transactions.gateways import DATABASE_TROUBLE

POLL_S: Final = 0.1
MOST_WAITING: Final = 256

log = structlog.get_logger(__name__)

_ENDED = """
SELECT DISTINCT tx::text AS tx FROM entries WHERE tx = ANY($1::uuid[]) AND at >= $2 AND kind BETWEEN 3 AND 7"""


class Waiting:
    """Those who wait for the end of a transaction."""

    def __init__(self, pool: asyncpg.Pool, poll_s: float = POLL_S, most: int = MOST_WAITING) -> None:
        self._pool, self._poll_s, self._most = pool, poll_s, most
        self._futures: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._earliest: dict[str, datetime] = {}
        self.count = 0
        """How many wait now."""
        self._task: asyncio.Task[None] | None = None
        self._asleep = False

    @property
    def full(self) -> bool:
        """True where no more may wait."""
        return self.count >= self._most

    async def ended(self, tx: str, earliest: datetime) -> None:
        """Returns when `tx` has a terminal entry; to be cancelled by a caller that has waited enough.

        `earliest`: no entry of it is older.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures[tx].add(future)
        self._earliest[tx] = earliest
        self.count += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look(), name="waiting for outcomes")
        try:
            await future
        finally:
            self.count -= 1
            self._futures[tx].discard(future)
            if not self._futures[tx]:
                del self._futures[tx], self._earliest[tx]
            if not self.count and self._asleep and self._task is not None:
                # Never in the middle of a query: that would cost the pool a connection.
                self._task.cancel()
                self._task = None

    async def _look(self) -> None:
        while self.count:
            self._asleep = True
            await asyncio.sleep(self._poll_s)
            self._asleep = False
            try:
                rows = await self._pool.fetch(_ENDED, list(self._futures), min(self._earliest.values()))
            except DATABASE_TROUBLE as error:
                log.warning("outcomes cannot be looked for now", error=type(error).__name__)
                continue
            for row in rows:
                for future in self._futures.get(row["tx"], ()):
                    if not future.done():
                        future.set_result(None)
            await asyncio.sleep(0)  # those who are told leave before it is asked who is left
        self._task = None
