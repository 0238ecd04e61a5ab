"""A process whose one service hangs and is paused, killed in the middle of it: the other service had gone on, and every
effect is there once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from ngsp.transactions import entry
from tests.faults.provider.ledger import adapter as ledger
from tests.faults.world import World
from tests.support.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.long]

IN_ORDER = "H41/post-in-order/v1"
SERVICES = len(ledger.manifest.services)
PLACES = SERVICES + 3
"""Of these one is kept for each of the ledger's services: the one that hangs has its own and the other three."""
HANGING = PLACES - SERVICES + 1


@pytest.fixture
async def world(
    own_postgres: LocalPostgres, own_kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    made = await World.make(tmp_path_factory.mktemp("paused"), own_postgres, own_kafka)
    made.installation.environment["NGSP_ADAPTER_MAX_IN_WORK"] = str(PLACES)
    async with made.installation:
        yield made


async def test_a_paused_service_is_killed_and_every_effect_is_there_once(world: World) -> None:
    installation = world.installation
    owner = await asyncpg.connect(world.ledger_url)
    waiting = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
        AND query LIKE 'INSERT INTO ledger%'"""

    async def as_many_hang_as_may() -> bool:
        # Not by the owner: a transaction sees the sessions as they were at its first look.
        return int(await installation.value(waiting, url=world.ledger_url)) == HANGING

    try:
        async with owner.transaction():
            await owner.execute("LOCK TABLE ledger IN EXCLUSIVE MODE")  # the provider's system hangs, in part
            hanging = [await world.submit() for _ in range(3 * HANGING)]
            await until(as_many_hang_as_may, "all that may hang", 60)
            others = []
            for number in range(3):
                body = world.body()
                dossier = f"000.00.00.H41-261121-{number:04d}"
                answer = await installation.call(IN_ORDER, body, key=f"key-{body['item']}", Ngsp_Dossier=dossier)
                others.append(str(answer.headers["Ngsp-Transaction"]))
            for tx in others:
                await world.ended(tx, entry.SUCCEEDED)
            assert await as_many_hang_as_may()
            for tx in hanging:
                assert await world.endings(tx) == []
            await installation.kill("ledger")
    finally:
        await owner.close()
    await installation.start("ledger")
    for tx in hanging:
        await world.ended(tx, entry.SUCCEEDED)
        assert await world.in_ledger(tx) == 1
    for tx in others:
        found = await installation.value("SELECT count(*) FROM lines WHERE tx = $1", tx, url=world.ledger_url)
        assert found == 1
