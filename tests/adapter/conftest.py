"""What the tests of the adapter's side share: both buses, the provider's database, and a maker of offices."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ngsp.bus import Bus, EmbeddedBus
from ngsp.bus.kafka import KafkaBus, KafkaConnection
from ngsp.messages import Effect
from tests.adapter.office import Office, ledger

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ngsp.local.kafka import LocalKafka
    from ngsp.local.postgres import LocalPostgres

OfficeOf = Callable[[Effect], Office]


@pytest.fixture
async def embedded() -> AsyncIterator[EmbeddedBus]:
    bus = EmbeddedBus()
    await bus.start()
    yield bus
    await bus.stop()


@pytest.fixture
async def kafka_bus(kafka: LocalKafka) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus(KafkaConnection(kafka.bootstrap), "adapter-tests")
    await bus.start()
    yield bus
    await bus.stop()


@pytest.fixture(params=["embedded", pytest.param("kafka_bus", marks=pytest.mark.kafka, id="kafka")])
def bus(request: pytest.FixtureRequest) -> Bus:
    """Each test that takes it runs over both buses."""
    found: Bus = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
async def database_url(postgres: LocalPostgres) -> AsyncIterator[str]:
    name = f"office_{uuid.uuid4().hex[:12]}"
    await postgres.create_database(name)
    yield postgres.url(name)
    await postgres.drop_database(name)


@pytest.fixture(scope="session")
async def database(database_url: str) -> AsyncIterator[AsyncEngine]:
    async with ledger(database_url) as owner:
        yield owner


@pytest.fixture
def office_of(database: AsyncEngine, database_url: str, tmp_path: Path) -> OfficeOf:
    """Makes an office of the wanted effect."""

    def make(effect: Effect) -> Office:
        if effect == "transactional":
            return Office(effect, tmp_path, database, database_url)
        return Office(effect, tmp_path)

    return make
