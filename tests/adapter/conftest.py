"""What the tests of the adapter's side share: both buses, the provider's database, and a maker of offices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ngsp.bus import Bus, EmbeddedBus
from ngsp.bus.kafka import KafkaBus, KafkaConnection
from ngsp.messages import Effect
from tests.adapter.office import Office, make_ledger
from tests.support.providers import KINDS, Provider

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ngsp.local.kafka import LocalKafka

OfficeOf = Callable[[Effect], Office]


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where an inbox is: beside the effect in `provider`'s database, or in a file of the adapter's own."""

    folder: Path
    provider: Provider | None

    @property
    def effect(self) -> Effect:
        return "transactional" if self.provider else "uncertain"

    def office(self) -> Office:
        if self.provider is None:
            return Office("uncertain", self.folder)
        return Office("transactional", self.folder, self.provider.engine, self.provider.url)


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
async def ledger_on_postgresql(on_postgresql: Provider) -> Provider:
    await make_ledger(on_postgresql.engine)
    return on_postgresql


@pytest.fixture(scope="session")
async def ledger_on_mariadb(on_mariadb: Provider) -> Provider:
    await make_ledger(on_mariadb.engine)
    return on_mariadb


@pytest.fixture(scope="session")
async def ledger_on_sqlite(on_sqlite: Provider) -> Provider:
    await make_ledger(on_sqlite.engine)
    return on_sqlite


@pytest.fixture(params=[*KINDS, "uncertain"])
def keeping(request: pytest.FixtureRequest, tmp_path: Path) -> Keeping:
    """Each test that takes it runs with each kind of inbox."""
    if request.param == "uncertain":
        return Keeping(tmp_path, None)
    return Keeping(tmp_path, request.getfixturevalue(f"ledger_on_{request.param}"))


@pytest.fixture
def database_url(ledger_on_postgresql: Provider) -> str:
    return ledger_on_postgresql.url


@pytest.fixture
def database(ledger_on_postgresql: Provider) -> AsyncEngine:
    return ledger_on_postgresql.engine


@pytest.fixture
def office_of(ledger_on_postgresql: Provider, tmp_path: Path) -> OfficeOf:
    """Makes an office of the wanted effect; a transactional one is PostgreSQL's."""

    def make(effect: Effect) -> Office:
        return (
            Keeping(tmp_path, ledger_on_postgresql).office() if effect == "transactional" else Office(effect, tmp_path)
        )

    return make
