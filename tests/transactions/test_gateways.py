"""Epochs: raised while batches run, and over gateways that hang. Nothing is ended twice, and nobody waits for long."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ngsp.database import connect
from ngsp.messages import uuid7
from ngsp.sweep import Sweep
from ngsp.transactions import entry
from ngsp.transactions.gateways import Presence, Registration, register
from ngsp.transactions.projection import Projector
from tests.support.waiting import until
from tests.transactions.logs import Writing, copy_rows, writing

if TYPE_CHECKING:
    import asyncpg

LEASE_S = 0.6


async def in_wait_of_a_lock(rows: asyncpg.Pool) -> bool:
    found = await rows.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(found)


async def test_an_outcome_that_gets_in_beside_those_the_fence_waits_for_is_not_closed_again(
    rows: asyncpg.Pool, gateway: Writing, log_url: str
) -> None:
    """The epoch is raised in a transaction with a higher number than its own: until the projection has passed that one
    nothing is closed."""
    tx = uuid7()
    await gateway.rows(gateway.accepted(tx))
    before, running, beside, successor = [await connect(log_url) for _ in range(4)]
    async with writing(log_url, "gateway-2") as other:
        batch, long = before.transaction(), running.transaction()
        await batch.start()
        await copy_rows(before, gateway, [gateway.accepted(uuid7())])
        raised = asyncio.create_task(register(successor, gateway.instance))
        await until(lambda: in_wait_of_a_lock(rows), "the epoch to be waited for")
        await long.start()
        await running.fetchval("SELECT pg_current_xact_id()")  # the projection cannot pass it
        await copy_rows(beside, gateway, [gateway.ended(tx, entry.SUCCEEDED)])
        await batch.rollback()
        assert (await raised).epoch == gateway.epoch + 1
        projector, sweep = Projector(rows), Sweep(rows, other.log)
        await projector.run_once()
        assert await rows.fetchval("SELECT state FROM transactions WHERE tx = $1", tx) == "accepted"
        assert await sweep.step() == 0
        await long.rollback()
        await projector.run_once()
        assert await sweep.step() == 0
    found = await rows.fetch("SELECT kind FROM entries WHERE tx = $1 ORDER BY xid, seq", tx)
    assert [row["kind"] for row in found] == [entry.ACCEPTED, entry.SUCCEEDED]
    for connection in (before, running, beside, successor):
        await connection.close()


async def test_who_fences_stays_seen_though_the_epoch_is_not_to_be_had(
    rows: asyncpg.Pool, gateway: Writing, log_url: str
) -> None:
    """It is held here by a session that no gateway's name is on."""
    holding, ours = await connect(log_url), await connect(log_url)
    me = await register(ours, "gateway-2")
    lost: list[Registration] = []
    presence = Presence(rows, me, LEASE_S, lambda: lost.append(me))
    batch = holding.transaction()
    await batch.start()
    await copy_rows(holding, gateway, [gateway.accepted(uuid7())])

    async def epoch() -> int:
        return int(await rows.fetchval("SELECT epoch FROM gateways WHERE instance = $1", gateway.instance))

    async def fenced() -> bool:
        return await epoch() == gateway.epoch + 1

    presence.start()
    try:
        await until(lambda: in_wait_of_a_lock(rows), "the epoch to be waited for")
        begun = await rows.fetchval("SELECT now()")

        async def seen_since() -> bool:
            seen = await rows.fetchval("SELECT seen_at FROM gateways WHERE instance = $1", me.instance)
            return bool(seen > begun)

        await until(seen_since, "a heartbeat after the wait")
        assert await epoch() == gateway.epoch
        await batch.rollback()
        await until(fenced, "the silent one to be fenced")
    finally:
        await presence.stop()
    assert lost == []
    for connection in (holding, ours):
        await connection.close()


async def test_the_sessions_of_a_silent_gateway_are_ended_and_no_others(
    rows: asyncpg.Pool, gateway: Writing, log_url: str
) -> None:
    hanging = Registration(gateway.instance, gateway.epoch, 1)
    next_of_it = Registration(gateway.instance, gateway.epoch + 1, 1)
    names = [hanging.session(), hanging.session("ngsp-log"), next_of_it.session(), "ngsp-registry"]
    sessions = [await connect(log_url, name=name) for name in names]
    batch = sessions[1].transaction()
    await batch.start()
    await copy_rows(sessions[1], gateway, [gateway.accepted(uuid7())])
    successor = await connect(log_url)
    assert (await register(successor, gateway.instance)).epoch == next_of_it.epoch
    await until(lambda: sessions[0].is_closed() and sessions[1].is_closed(), "the sessions to be ended")
    assert [await session.fetchval("SELECT 1") for session in sessions[2:]] == [1, 1]
    assert await rows.fetchval("SELECT count(*) FROM entries") == 0
    for connection in (*sessions[2:], successor):
        await connection.close()
