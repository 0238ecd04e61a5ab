"""Quotas of several gateways on one database: what tests of quotas begin with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg

from ngsp.errors import QuotaExhausted
from ngsp.messages import uuid7
from ngsp.quota import MOST_UNSPENT, Quotas
from ngsp.registry.model import Agreement

MIDNIGHT_S = datetime(2026, 3, 1, 17, tzinfo=UTC).timestamp()
"""In Viet Nam; a day and a minute begin."""


class CountingPool:
    """A real pool that counts what is asked of it."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self.asked = 0

    async def fetchval(self, *arguments: Any) -> Any:
        self.asked += 1
        return await self._pool.fetchval(*arguments)

    async def execute(self, *arguments: Any) -> Any:
        self.asked += 1
        return await self._pool.execute(*arguments)


class Gateways:
    """Several gateways on one database, each with a pool of its own; not started, so that tests decide what happens."""

    def __init__(self, pools: list[asyncpg.Pool]) -> None:
        self.pools = [CountingPool(pool) for pool in pools]
        self.quotas = [Quotas(pool, lambda: len(pools)) for pool in self.pools]

    def __getitem__(self, index: int) -> Quotas:
        return self.quotas[index]

    @property
    def asked(self) -> int:
        return sum(pool.asked for pool in self.pools)

    async def leased(self, agreement: Agreement, window: str) -> int:
        """What the table says for the newest window."""
        found: int | None = await self.pools[0].fetchval(
            'SELECT leased FROM quotas WHERE agreement = $1 AND "window" = $2 ORDER BY starts_at DESC LIMIT 1',
            agreement.id,
            window,
        )
        return found or 0


@asynccontextmanager
async def gateways_on(url: str, count: int) -> AsyncIterator[Gateways]:
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(asyncpg.create_pool(url, min_size=1, max_size=4)) for _ in range(count)
        ]
        gateways = Gateways(pools)
        yield gateways
        for quotas in gateways.quotas:
            await quotas.stop()


def agreement(per_minute: int | None = None, per_day: int | None = None) -> Agreement:
    return Agreement(
        id=uuid7(),
        version=1,
        consumer="H41",
        service="G01.01/population-lookup/v1",
        purposes=frozenset(("birth-registration",)),
        legal_basis="NĐ 278/2025/NĐ-CP",
        fields=("",),
        quota_per_minute=per_minute,
        quota_per_day=per_day,
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        valid_to=None,
        state="accepted",
    )


async def passes(quotas: Quotas, agreement: Agreement, now_s: float = MIDNIGHT_S) -> bool:
    """As the exchange charges."""
    if quotas.try_charge(agreement, now_s):
        return True
    try:
        await quotas.charge(agreement, now_s)
    except QuotaExhausted:
        return False
    return True


async def admitted(gateways: Gateways, agreement: Agreement, calls_each: int, now_s: float = MIDNIGHT_S) -> int:
    """How many of `calls_each` calls pass at each gateway, all at once."""
    calls = [passes(quotas, agreement, now_s) for quotas in gateways.quotas for _ in range(calls_each)]
    return sum(await asyncio.gather(*calls))


def least(limit: int) -> float:
    return limit - max(limit / MOST_UNSPENT, 1)
