"""Refusals are counted right, in bounded room, and outlive an absence of the database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ngsp.database import migrate
from ngsp.local.postgres import LocalPostgres
from ngsp.refusals import LARGEST_COUNT, MOST_A_MINUTE, MOST_PENDING, OTHER, Refusals, network_of
from tests.support.registry import temporary_database

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now_s = START.timestamp()

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def pool(postgres: LocalPostgres) -> AsyncIterator[asyncpg.Pool]:
    async with temporary_database(postgres) as url, asyncpg.create_pool(url, min_size=1, max_size=2) as found:
        yield found


async def rows(pool: asyncpg.Pool) -> dict[tuple[int, str, str, str], int]:
    """(minutes since START, address, code, gateway) → count."""
    found = await pool.fetch("SELECT * FROM refusals")
    return {
        (int((row["minute"] - START).total_seconds()) // 60, row["address"], row["code"], row["gateway"]): row["count"]
        for row in found
    }


async def test_counts_are_added_by_minute_address_code_and_gateway(pool: asyncpg.Pool, clock: Clock) -> None:
    first, second = Refusals(pool, "gateway-1", clock), Refusals(pool, "gateway-2", clock)
    for _ in range(3):
        first.count("unauthenticated", "203.0.113.7")
    first.count("overloaded", "203.0.113.7")
    second.count("unauthenticated", "203.0.113.7")
    await asyncio.gather(first.flush(), second.flush())
    clock.now_s += 59
    first.count("unauthenticated", "203.0.113.7")
    clock.now_s += 1
    first.count("unauthenticated", "203.0.113.7")
    assert await first.flush() == 0
    assert await first.flush() == 0
    assert first.pending == 0
    assert await rows(pool) == {
        (0, "203.0.113.7", "unauthenticated", "gateway-1"): 4,
        (0, "203.0.113.7", "overloaded", "gateway-1"): 1,
        (0, "203.0.113.7", "unauthenticated", "gateway-2"): 1,
        (1, "203.0.113.7", "unauthenticated", "gateway-1"): 1,
    }


async def test_a_flood_from_many_addresses_fills_neither_memory_nor_table(pool: asyncpg.Pool, clock: Clock) -> None:
    refusals = Refusals(pool, "gateway-1", clock)
    for n in range(MOST_A_MINUTE * 5):
        refusals.count("malformed-http", f"198.51.{n >> 8}.{n & 255}")
        if n == MOST_A_MINUTE * 2:
            await refusals.flush()  # what is written still counts for the minute's bound
    refusals.count("malformed-http", "198.51.0.0")
    assert refusals.pending <= MOST_A_MINUTE + 1
    await refusals.flush()
    found = await rows(pool)
    assert len(found) == MOST_A_MINUTE + 1
    assert found[0, OTHER, "malformed-http", "gateway-1"] == MOST_A_MINUTE * 4
    assert found[0, "198.51.0.0", "malformed-http", "gateway-1"] == 2
    clock.now_s += 60
    refusals.count("malformed-http", "198.51.255.255")
    await refusals.flush()
    assert (await rows(pool))[1, "198.51.255.255", "malformed-http", "gateway-1"] == 1


async def test_a_count_that_is_full_stays_full(pool: asyncpg.Pool, clock: Clock) -> None:
    await pool.execute(
        "INSERT INTO refusals VALUES ($1, '203.0.113.7', 'overloaded', 'gateway-1', $2)", START, LARGEST_COUNT - 1
    )
    refusals = Refusals(pool, "gateway-1", clock)
    for _ in range(5):
        refusals.count("overloaded", "203.0.113.7")
    await refusals.flush()
    assert await rows(pool) == {(0, "203.0.113.7", "overloaded", "gateway-1"): LARGEST_COUNT}


async def test_what_is_no_address_and_no_code_gets_into_no_column(pool: asyncpg.Pool, clock: Clock) -> None:
    refusals = Refusals(pool, "gateway-1", clock)
    for address in ("Nguyễn Văn An", "900123456789", "'; DROP TABLE refusals; --", "1.2.3.4.5", "\0", "x" * 10_000):
        refusals.count("overloaded", address)
    refusals.count("code of a client", "203.0.113.7")
    await refusals.flush()
    assert await rows(pool) == {
        (0, "unknown", "overloaded", "gateway-1"): 6,
        (0, "203.0.113.7", OTHER, "gateway-1"): 1,
    }


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::9", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", "local"),
        ("unix", "local"),
        ("testclient", "unknown"),
    ],
)
def test_networks(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_an_absence_of_the_database_loses_no_count_and_takes_bounded_room(tmp_path: Path, clock: Clock) -> None:
    async with LocalPostgres(tmp_path) as server:
        await server.create_database("refusals")
        await migrate(server.url("refusals"))
        async with asyncpg.create_pool(server.url("refusals"), min_size=1, max_size=2) as pool:
            refusals = Refusals(pool, "gateway-1", clock)
            refusals.count("overloaded", "203.0.113.7")
            await refusals.flush()
            clock.now_s += 60
            server.kill()
            counted = 1
            for _ in range(25):
                for n in range(MOST_A_MINUTE):
                    refusals.count("overloaded", f"198.51.{n >> 8}.{n & 255}")
                counted += MOST_A_MINUTE
                assert await refusals.flush() == 0
                clock.now_s += 60
            assert refusals.pending <= MOST_PENDING + 2
            await server.start()
            async with asyncio.timeout(10):
                while refusals.pending:
                    await refusals.flush()
            found = await rows(pool)
            assert sum(found.values()) == counted
            by_address: Counter[str] = Counter()
            for (_, address, _, _), count in found.items():
                by_address[address] += count
            assert by_address["198.51.0.0"] == 20
            assert by_address[OTHER] == counted - 1 - MOST_PENDING


async def test_a_flush_that_is_cancelled_keeps_its_counts(pool: asyncpg.Pool, clock: Clock) -> None:
    refusals = Refusals(pool, "gateway-1", clock)
    refusals.count("overloaded", "203.0.113.7")
    async with pool.acquire() as holder, holder.transaction():
        await holder.execute("LOCK TABLE refusals")
        flush = asyncio.create_task(refusals.flush())
        await asyncio.sleep(0)
        assert refusals.pending == 0
        flush.cancel()
        await asyncio.wait([flush])
        assert flush.cancelled()
    assert refusals.pending == 1
    await refusals.flush()
    assert await rows(pool) == {(0, "203.0.113.7", "overloaded", "gateway-1"): 1}
