"""Partitions of the log: made ahead, dropped whole, and nobody who writes has to wait."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ngsp.database import connect
from ngsp.errors import LogUnavailable
from ngsp.messages import uuid7
from ngsp.transactions import entry, partitions
from ngsp.transactions.writer import Write
from tests.support.registry import temporary_database
from tests.support.waiting import until
from tests.transactions.logs import writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ngsp.local.postgres import LocalPostgres

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
OLD = datetime(2024, 8, 15, tzinfo=UTC)


@pytest.fixture
async def bare_url(postgres: LocalPostgres) -> AsyncIterator[str]:
    """A migrated database without a partition."""
    async with temporary_database(postgres) as url:
        yield url


@pytest.fixture
async def connection(bare_url: str) -> AsyncIterator[asyncpg.Connection]:
    found = await connect(bare_url)
    yield found
    await found.close()


async def attached(connection: asyncpg.Connection) -> list[str]:
    found = await connection.fetch(
        "SELECT relid::text AS name FROM pg_partition_tree('entries') WHERE isleaf AND level = 1 ORDER BY 1"
    )
    return [record["name"] for record in found]


@pytest.mark.parametrize(
    ("at", "months"),
    [
        (NOW, ["202611", "202612", "202701"]),
        (datetime(2026, 12, 1, 0, 5, tzinfo=UTC), ["202611", "202612", "202701", "202702"]),
        (datetime(2026, 11, 30, 23, 0, tzinfo=UTC), ["202611", "202612", "202701"]),
    ],
)
async def test_this_month_and_the_next_two_and_that_of_yesterday(
    connection: asyncpg.Connection, at: datetime, months: list[str]
) -> None:
    wanted = [f"entries_p{month}" for month in months]
    assert await partitions.ensure(connection, at) == wanted
    assert await attached(connection) == wanted
    assert await partitions.ensure(connection, at) == []


async def test_many_gateways_make_them_once(bare_url: str) -> None:
    connections = await asyncio.gather(*(connect(bare_url) for _ in range(6)))
    made = await asyncio.wait_for(asyncio.gather(*(partitions.ensure(each, NOW) for each in connections)), 60)
    assert sorted(name for names in made for name in names) == [
        "entries_p202611", "entries_p202612", "entries_p202701",
    ]  # fmt: skip
    await asyncio.gather(*(each.close() for each in connections))


async def test_an_entry_without_its_partition_is_refused_and_its_neighbours_are_not(
    bare_url: str, connection: asyncpg.Connection
) -> None:
    await partitions.ensure(connection, entry.now())
    async with writing(bare_url) as gateway:
        kept, lost = uuid7(), uuid7()
        future = entry.now() + timedelta(days=365)
        writes = [Write((gateway.accepted(kept),)), Write((gateway.accepted(lost, at=future),))]
        done = await asyncio.gather(*(gateway.writer.submit(write) for write in writes), return_exceptions=True)
        assert done[0] is None and isinstance(done[1], LogUnavailable)
    found = await connection.fetch("SELECT tx::text AS tx FROM entries")
    assert [record["tx"] for record in found] == [kept]


async def test_partitions_refuse_what_the_log_refuses(bare_url: str, connection: asyncpg.Connection) -> None:
    (name, *_) = await partitions.ensure(connection, entry.now())
    async with writing(bare_url) as gateway:
        await gateway.rows(gateway.accepted(uuid7()))
    for table in ("entries", name):
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET kind = 3", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    await connection.execute("UPDATE entries SET wrapped = NULL")  # erasure
    indexes = await connection.fetch("SELECT indexdef FROM pg_indexes WHERE tablename = $1", name)
    assert len(indexes) == 2


async def test_making_one_waits_for_no_reader_and_stops_no_writer(
    bare_url: str, connection: asyncpg.Connection
) -> None:
    await partitions.ensure(connection, entry.now(), ahead_months=0)
    reader = await connect(bare_url)
    reading = reader.transaction()
    await reading.start()
    await reader.fetch("SELECT * FROM entries")
    async with writing(bare_url) as gateway:
        await asyncio.wait_for(partitions.ensure(connection, entry.now()), 10)
        await asyncio.wait_for(gateway.rows(gateway.accepted(uuid7())), 10)
    await reading.rollback()
    await reader.close()


async def fill(url: str, connection: asyncpg.Connection, at: datetime) -> str:
    """A transaction of the time `at` with something in every table that keeps something of it."""
    await partitions.ensure(connection, at, ahead_months=0)
    tx = uuid7()
    async with writing(url) as gateway:
        await gateway.rows(gateway.accepted(tx, at=at), gateway.ended(tx, entry.SUCCEEDED, at))
    place = await connection.fetchval("SELECT coalesce(max(place), 0) + 1 FROM transactions")
    await connection.execute(
        """INSERT INTO transactions SELECT $1::uuid, $2, $3, $3, 'succeeded', 'query', 'c', 'H01', 'G12', 's', 'v1',
           'a', '', 1, 'p', NULL, NULL, NULL, NULL, 'g', 1""",
        tx, place, at,
    )  # fmt: skip
    for statement in (
        "INSERT INTO replies VALUES ($1::uuid, $2, $2, '', '', NULL)",
        "INSERT INTO subjects VALUES (uuid_send($1::uuid), $1::uuid, $2)",
        "INSERT INTO idempotency_keys VALUES ('c', uuid_send($1::uuid), '', $1::uuid, 'query', $2, $2)",
        "INSERT INTO resolutions VALUES ($1::uuid, 'resolved', $2)",
        "INSERT INTO refusals VALUES ($2, $1::uuid::text, 'c', 'g', 1)",
        """INSERT INTO outbox VALUES ($1::uuid, 's', 'a', 1, 'p', 'c', '', '', '', $2, $2, 'closed', 1, $2, '')""",
        "INSERT INTO quarantine (tx, service, what, reason, at, state) VALUES ($1::uuid, '', '', '', $2, 'discarded')",
        "INSERT INTO quarantine (tx, service, what, reason, at, state) VALUES ($1::uuid, '', '', '', $2, 'held')",
    ):
        await connection.execute(statement, tx, at)
    return tx


KEPT_TABLES = ("transactions", "subjects", "idempotency_keys", "resolutions", "refusals", "outbox", "entries")


async def test_what_is_older_than_the_retention_goes_whole(bare_url: str, connection: asyncpg.Connection) -> None:
    await fill(bare_url, connection, OLD)
    kept = await fill(bare_url, connection, datetime(2024, 11, 2, 1, tzinfo=UTC))
    await partitions.ensure(connection, NOW)
    before = datetime(2026, 8, 31, tzinfo=UTC)
    assert await partitions.retire(connection, before, months=24) == []
    assert await partitions.retire(connection, NOW, months=24) == ["entries_p202408"]
    assert await attached(connection) == ["entries_p202411", "entries_p202611", "entries_p202612", "entries_p202701"]
    for table in KEPT_TABLES:
        left = await connection.fetchval(f"SELECT count(*) FROM {table}")
        assert left == (2 if table == "entries" else 1), table
    assert await connection.fetchval("SELECT count(*) FROM transactions WHERE tx = $1::uuid", kept) == 1
    assert await connection.fetchval("SELECT count(*) FROM quarantine WHERE at < '2024-09-01'") == 1  # held
    assert await connection.fetchval("SELECT count(*) FROM replies") == 0  # by their own date
    assert await partitions.retire(connection, NOW, months=24) == []


async def test_many_rows_go_in_bounded_batches(bare_url: str, connection: asyncpg.Connection) -> None:
    await connection.execute(
        """INSERT INTO transactions SELECT gen_random_uuid(), i, '2020-01-01', NULL, 'succeeded', 'query', 'c', 'H01',
           'G12', 's', 'v1', 'a', '', 1, 'p', NULL, NULL, NULL, NULL, 'g', 1 FROM generate_series(1, 4500) i"""
    )
    await connection.execute("UPDATE transactions SET accepted_at = '2026-11-01' WHERE place > 4400")
    await partitions.retire(connection, NOW, months=24)
    assert await connection.fetchval("SELECT count(*) FROM transactions") == 100


async def test_a_reader_of_the_old_puts_it_off_and_stops_no_writer(
    bare_url: str, connection: asyncpg.Connection
) -> None:
    await fill(bare_url, connection, OLD)
    await partitions.ensure(connection, entry.now())
    reader = await connect(bare_url)
    reading = reader.transaction()
    await reading.start()
    await reader.fetch("SELECT * FROM entries")
    leaving = asyncio.create_task(partitions.retire(connection, NOW, months=24, detach_timeout_s=1.5))
    waits = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'ALTER TABLE entries DETACH%' AND wait_event_type = 'Lock'"

    watcher = await connect(bare_url)  # inside its transaction the reader would see the same activity again and again

    async def waiting() -> bool:
        return await watcher.fetchval(waits) is not None

    await until(waiting, "the partition's detaching waits for the reader")
    async with writing(bare_url) as gateway:
        await asyncio.wait_for(gateway.rows(gateway.accepted(uuid7())), 2)
    assert await leaving == []
    await reading.rollback()
    await asyncio.gather(reader.close(), watcher.close())
    assert await partitions.retire(connection, NOW, months=24) == ["entries_p202408"]


async def test_one_gateway_at_a_time_drops(bare_url: str, connection: asyncpg.Connection) -> None:
    await fill(bare_url, connection, OLD)
    other = await connect(bare_url)
    await other.execute("SELECT pg_advisory_lock($1)", partitions.DROPPING_LOCK)
    assert await partitions.retire(connection, NOW, months=24) == []
    await other.close()

    async def dropped() -> bool:
        return await partitions.retire(connection, NOW, months=24) == ["entries_p202408"]

    await until(dropped, "the lock goes with its connection")
