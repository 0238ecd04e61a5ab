"""A log of its own for each test that asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ngsp.database import connect, pool
from ngsp.transactions import partitions
from ngsp.transactions.entry import now
from ngsp.transactions.find import Finder
from ngsp.vault import Vault
from tests.support.gateway import Provider, Rig, running_gateway
from tests.support.registry import temporary_database
from tests.transactions.logs import KEK, Writing, writing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from ngsp.local.postgres import LocalPostgres


@pytest.fixture(scope="module")
async def log_url(postgres: LocalPostgres) -> AsyncIterator[str]:
    """A migrated database with the partitions of this time, for the tests of one file."""
    async with temporary_database(postgres) as url:
        connection = await connect(url)
        await partitions.ensure(connection, now())
        await connection.close()
        yield url


_EMPTY = """
SET session_replication_role = replica;  -- the log refuses to be emptied
TRUNCATE entries, transactions, statistics, statistics_dossiers,
    outbox, replies, idempotency_keys, resolutions, subjects, quarantine, gateways;
UPDATE projection SET xid = '0', seq = 0, horizon = '0', place = 0"""


@pytest.fixture
async def rows(log_url: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on the database, emptied."""
    connection = await connect(log_url)
    await connection.execute(_EMPTY)
    await connection.close()
    found = await pool(log_url, size=6)
    yield found
    await found.close()


@pytest.fixture
async def gateway(rows: asyncpg.Pool, log_url: str) -> AsyncIterator[Writing]:
    async with writing(log_url) as opened:
        yield opened


@pytest.fixture
def finder(rows: asyncpg.Pool) -> Finder:
    return Finder(rows, Vault(KEK))


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    """A whole gateway for the tests of one file."""
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), project_s=0.1) as found:
        yield found


@pytest.fixture
async def rig(module_rig: Rig) -> AsyncIterator[Rig]:
    yield module_rig
    module_rig.provider.act = Provider.act.__get__(module_rig.provider)  # type: ignore[method-assign]
