"""Servers that the fault tests may kill: apart from those that other tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from tests.support.servers import thrown_away


@pytest.fixture(scope="session")
async def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalPostgres]:
    server = LocalPostgres(tmp_path_factory.mktemp("own-postgres"), print)
    await server.start()
    yield server
    await thrown_away(server)


@pytest.fixture(scope="session")
async def own_kafka(
    kafka_programs_present: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[LocalKafka]:
    server = LocalKafka(tmp_path_factory.mktemp("own-kafka"), print, short_lived=True)
    await server.start()
    yield server
    await thrown_away(server)
