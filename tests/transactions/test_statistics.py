"""The rollup says exactly what the entries add up to, whoever projects them, however often and in whatever batches."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

from ngsp import database
from ngsp.database import connect, pool
from ngsp.messages import uuid7
from ngsp.transactions import entry, partitions, statistics
from ngsp.transactions.projection import Projector
from ngsp.transactions.statistics import Figures, begin_of, different, percentile_us
from tests.transactions.counting import (
    ENDS,
    RESOLVED_WELL,
    Seen,
    check,
    everything,
    grouped,
    histories,
    mixed,
    project,
    register,
    understood,
    wanted,
)
from tests.transactions.logs import Writing, writing

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ngsp.local.postgres import LocalPostgres
    from ngsp.transactions.entry import Row

BY = [
    (), ("service",), ("consumer", "service", "day"), ("member",), ("provider", "mode"), ("outcome",), ("adapter",),
    ("failure", "code"), ("day",), ("hour", "consumer"),
]  # fmt: skip


@pytest.mark.parametrize("most_at_once", [3, 4_000])
async def test_figures_are_those_of_the_entries(rows: asyncpg.Pool, gateway: Writing, most_at_once: int) -> None:
    await register(rows)
    entries = mixed(histories(gateway, 11, 300), 12)
    for begin in range(0, len(entries), 60):
        await gateway.rows(*entries[begin : begin + 60])
        await project(rows, most_at_once)
    seen = await understood(rows)
    assert len(seen) == 300 and any(t.state == "resolved" and not t.failure for t in seen)
    for by in BY:
        found = await everything(rows, wanted(*by))
        expected = grouped(seen, by)
        assert list(found) == list(expected), by
        with_dossiers = {"consumer", "provider", "member", "service", "day"}.issuperset(by)
        for key, figures in found.items():
            check(figures, expected[key], with_dossiers)


async def test_pages_and_filters_and_what_a_member_sees(rows: asyncpg.Pool, gateway: Writing) -> None:
    await register(rows)
    await gateway.rows(*mixed(histories(gateway, 5, 200), 6))
    await project(rows)
    seen = await understood(rows)
    by = ("consumer", "day")
    whole = await everything(rows, wanted(*by))
    assert {key: figures.total for key, figures in (await everything(rows, wanted(*by), 7)).items()} == {
        key: figures.total for key, figures in whole.items()
    }
    for member in ("H41", "H14", "G01.01", "G22", "H99"):
        own = [t for t in seen if member == t.consumer or (member == t.provider and t.reached)]
        for dimension in ("service", "member"):
            found = await everything(rows, wanted(dimension, member=member))
            expected = grouped(own, (dimension,))
            assert list(found) == list(expected)
            for key, figures in found.items():
                check(figures, expected[key], dossiers=True)
    begun = wanted().since
    narrow: list[tuple[dict[str, Any], Callable[[Seen], bool], bool]] = [
        ({"consumer": "H14"}, lambda t: t.consumer == "H14", True),
        ({"provider": "H41"}, lambda t: t.provider == "H41", True),
        ({"service": "population-lookup", "version": "v2"}, lambda t: t.service.endswith("lookup/v2"), True),
        ({"mode": "submission"}, lambda t: t.mode == "submission", False),
        ({"state": "unknown"}, lambda t: t.state == "unknown", False),
        ({"adapter": "g01-population"}, lambda t: t.adapter == "g01-population", False),
        ({"since": begun + timedelta(days=3)}, lambda t: t.at >= begun + timedelta(days=3), True),
        ({"until": begun + timedelta(days=3)}, lambda t: t.at < begun + timedelta(days=3), True),
        (
            {"span": "hour", "since": begun + timedelta(hours=30), "until": begun + timedelta(hours=90)},
            lambda t: timedelta(hours=30) <= t.at - begun < timedelta(hours=90),
            False,
        ),
    ]
    for filters, fits, dossiers in narrow:
        found = await everything(rows, replace(wanted(), **filters))
        check(found[()], [t for t in seen if fits(t)], dossiers)


async def test_a_late_resolution_moves_what_was_unknown(rows: asyncpg.Pool, gateway: Writing) -> None:
    tx, at = uuid7(), entry.now()

    async def after(*entries: Row) -> Figures:
        await gateway.rows(*entries)
        await project(rows)
        return (await everything(rows, wanted()))[()]

    accepted = await after(gateway.accepted(tx, at=at))
    assert (accepted.outcomes, accepted.open, accepted.percentile_ms(0.5)) == ({"accepted": 1}, 1, None)
    unknown = await after(gateway.ended(tx, entry.UNKNOWN, at + timedelta(seconds=5), **ENDS[entry.UNKNOWN]))
    assert (unknown.outcomes, unknown.failures, unknown.succeeded) == ({"unknown": 1}, {"deadline": 1}, 0)
    late = at + timedelta(seconds=60)
    resolved = await after(gateway.ended(tx, entry.RESOLVED, late, 10, **RESOLVED_WELL))
    assert (resolved.outcomes, resolved.failures, resolved.succeeded) == ({"resolved": 1}, {}, 1)
    assert resolved.last_success_at == late and resolved.percentile_ms(0.5) == pytest.approx(60_000, rel=0.045)


async def _table(rows: asyncpg.Pool) -> list[Any]:
    order = "begins_at, consumer, provider, service, version"
    counted = await rows.fetch(f"SELECT * FROM statistics ORDER BY span, {order}, adapter, mode, state, code, bucket")
    return [*map(tuple, counted), *map(tuple, await rows.fetch(f"SELECT * FROM statistics_dossiers ORDER BY {order}"))]


async def test_projecting_again_or_side_by_side_counts_nothing_twice(rows: asyncpg.Pool, gateway: Writing) -> None:
    await register(rows)
    entries = mixed(histories(gateway, 21, 200), 22)
    written = asyncio.Event()

    async def keep_projecting() -> None:
        projector = Projector(rows, 7)
        while await projector.run_once() or not written.is_set():
            await asyncio.sleep(0)

    projecting = [asyncio.create_task(keep_projecting()) for _ in range(3)]
    for begin in range(0, len(entries), 20):
        await gateway.rows(*entries[begin : begin + 20])
    written.set()
    await asyncio.wait_for(asyncio.gather(*projecting), 60)
    await project(rows)
    check((await everything(rows, wanted()))[()], await understood(rows), dossiers=True)
    before = await _table(rows)
    await project(rows)
    assert await _table(rows) == before


async def test_a_projection_that_is_broken_off_counts_nothing(
    rows: asyncpg.Pool, gateway: Writing, log_url: str
) -> None:
    await gateway.rows(gateway.accepted(uuid7()))
    holder = await connect(log_url)
    stop = holder.transaction()
    await stop.start()
    await holder.execute("LOCK TABLE statistics IN ACCESS EXCLUSIVE MODE")
    projecting = asyncio.create_task(Projector(rows).run_once())
    waiting = "SELECT pid FROM pg_locks WHERE relation = 'statistics'::regclass AND NOT granted"
    while (pid := await rows.fetchval(waiting)) is None:
        await asyncio.sleep(0.01)
    await holder.execute("SELECT pg_terminate_backend($1)", pid)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await projecting
    await stop.rollback()
    await holder.close()
    assert (await everything(rows, wanted()))[()].total == 0
    await project(rows)
    assert (await everything(rows, wanted()))[()].outcomes == {"accepted": 1}


async def test_calls_of_services_that_are_not_there_make_no_rows_of_their_own(
    rows: asyncpg.Pool, gateway: Writing
) -> None:
    call = {"client": "c", "member": "H14"}
    await gateway.rows(
        *(
            gateway.scribe.refused_call(
                uuid7(), entry.now(), call, {"service": f"H41/guess-{n}/v1"}, "access-denied", 403, "unknown service"
            )
            for n in range(200)
        )
    )
    await project(rows)
    found = await everything(rows, wanted("service"))
    assert {key: figures.total for key, figures in found.items()} == {("",): 200}
    assert await rows.fetchval("SELECT count(*) FROM statistics") <= 4


async def test_what_was_projected_before_is_counted_when_the_tables_come(postgres: LocalPostgres) -> None:
    await postgres.create_database("statistics_come")
    url = postgres.url("statistics_come")
    await _upgrade_to(url, "0003_transactions")
    connection = await connect(url)
    # What projects here is of this release and knows one column more.
    await connection.execute("ALTER TABLE transactions ADD COLUMN sandbox boolean NOT NULL DEFAULT false")
    await partitions.ensure(connection, entry.now())
    await connection.close()
    rows = await pool(url, size=4)
    async with writing(url) as gateway:
        await register(rows)
        courses = histories(gateway, 31, 120)
        whole = mixed(courses, 32)
        await gateway.rows(*whole[: len(whole) // 2])
        await project(rows)
        await database.migrate(url)
        await gateway.rows(*whole[len(whole) // 2 :])
        await project(rows)
    seen = await understood(rows)
    for by in ((), ("service", "day"), ("hour",)):
        found, expected = await everything(rows, wanted(*by)), grouped(seen, by)
        assert list(found) == list(expected)
        for key, figures in found.items():
            check(figures, expected[key], dossiers="hour" not in by)
    await rows.close()


async def _upgrade_to(url: str, revision: str) -> None:
    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(database.MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    engine = database.engine(url, pool_size=1)
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


async def test_old_hours_and_days_go(rows: asyncpg.Pool, gateway: Writing) -> None:
    await gateway.rows(gateway.accepted(uuid7(), call={"dossier": "H41-1"}))
    await project(rows)
    now = entry.now()
    for days, left in ((1, ["day", "hour"]), (36, ["day"]), (3_700, [])):
        async with rows.acquire() as connection:
            await statistics.retire(connection, now + timedelta(days=days))
        assert [row["span"] for row in await rows.fetch("SELECT span FROM statistics ORDER BY span")] == left
        assert await rows.fetchval("SELECT count(*) FROM statistics_dossiers") == (1 if left else 0)


@pytest.mark.parametrize("count", [0, 1, 2, 17, 250, 3_000, 60_000, 400_000])
async def test_different_dossiers_are_counted_within_what_is_promised(rows: asyncpg.Pool, count: int) -> None:
    sketch = """SELECT ngsp_seen(coalesce(array_agg(hashtextextended('H41-' || i, 0)), '{}'))
        FROM generate_series($1::integer, $2::integer) i"""
    half = count // 2
    parts = [(await rows.fetchval(sketch, *bounds)).bytes for bounds in ((1, half), (half + 1, count), (1, count))]
    assert bytes(one | other for one, other in zip(parts[0], parts[1], strict=True)) == parts[2]
    error = abs(different(parts[2]) - count)
    assert error <= max(1 if count <= 250 else 0, 0.05 * count), "two and a half standard errors"


def test_percentiles_of_buckets() -> None:
    assert percentile_us({}, 0.5) is None
    for us in (1, 2, 3, 999, 12_345, 7_776_000_000_000):
        bucket = math.floor(math.log2(us) * 8)
        assert percentile_us({bucket: 5}, 0.95) == pytest.approx(us, rel=0.045)
    assert percentile_us({8: 95, 80: 5}, 0.95) == percentile_us({8: 1}, 1.0)
    assert percentile_us({8: 94, 80: 6}, 0.95) == percentile_us({80: 1}, 1.0)


def test_days_begin_in_viet_nam() -> None:
    at = datetime(2026, 3, 1, 16, 59, 59, tzinfo=UTC)
    assert begin_of(at, "day") == datetime(2026, 2, 28, 17, tzinfo=UTC)
    assert begin_of(at + timedelta(seconds=1), "day") == datetime(2026, 3, 1, 17, tzinfo=UTC)
    assert begin_of(at, "hour") == datetime(2026, 3, 1, 16, tzinfo=UTC)
