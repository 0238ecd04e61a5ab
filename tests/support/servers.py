"""The servers the tests share: one PostgreSQL, MariaDB and Kafka for a run, each started when first asked for."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

from ngsp.local.home import remove_abandoned
from ngsp.local.kafka import LocalKafka, kafka_available
from ngsp.local.postgres import LocalPostgres
from tests.support.mariadb import LocalMariaDB, missing_programs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def thrown_away(server: LocalPostgres | LocalKafka | LocalMariaDB) -> None:
    """The end of a server whose data nobody wants: one that stops in order writes them all to the disk first."""
    server.kill()
    await server.remove()


@pytest.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalPostgres]:
    remove_abandoned(below=Path(tempfile.gettempdir()))
    server = LocalPostgres(tmp_path_factory.mktemp("postgres"), print)
    await server.start()
    yield server
    await thrown_away(server)


@pytest.fixture(scope="session")
async def kafka(kafka_programs_present: None, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalKafka]:
    server = LocalKafka(tmp_path_factory.mktemp("kafka"), print, short_lived=True)
    await server.start()
    yield server
    await thrown_away(server)


@pytest.fixture(scope="session")
def kafka_programs_present() -> None:
    """Skips where no Kafka can be had, and fails instead where CI says that it must be."""
    available, reason = kafka_available()
    if not available:
        _do_without(reason.en)


@pytest.fixture(scope="session")
async def mariadb() -> AsyncIterator[LocalMariaDB]:
    need_mariadb()
    async with LocalMariaDB() as server:
        yield server


def need_mariadb() -> None:
    """Skips where there is none, and fails instead where CI says that it must be."""
    if missing := missing_programs():
        _do_without(f"there is no MariaDB ({', '.join(missing)}): run scripts/ensure-mariadb")


def _do_without(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(f"CI=true, but {reason}", pytrace=False)
    pytest.skip(reason)
