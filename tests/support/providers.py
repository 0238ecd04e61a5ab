"""A provider's database of each kind, empty, and its owner's way into it past the adapter."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest
from sqlalchemy import Row, text

from ngsp.adapter.databases import Database, database_at

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ngsp.local.postgres import LocalPostgres
    from tests.support.mariadb import LocalMariaDB

Kind = Literal["postgresql", "mariadb", "sqlite"]
KINDS = [
    pytest.param("postgresql", marks=pytest.mark.postgres),
    pytest.param("mariadb", marks=pytest.mark.mariadb),
    "sqlite",
]
"""To parametrise with, indirectly: the fixture takes the server that it needs."""
SERVERS, FILES = KINDS[:2], KINDS[2:]


@dataclass(frozen=True, slots=True)
class Provider:
    """`url` as an adapter gets it; `owner`: the owner's."""

    kind: Kind
    url: str
    owner: Database

    @property
    def engine(self) -> AsyncEngine:
        return self.owner.engine

    async def run(self, *statements: str) -> None:
        """Each in a transaction of its own, without parameters."""
        for statement in statements:
            async with self.engine.begin() as connection:
                await connection.exec_driver_sql(statement)

    async def execute(self, statement: str, **parameters: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), parameters)

    async def rows(self, statement: str, **parameters: Any) -> list[Row[Any]]:
        async with self.engine.connect() as connection:
            return list(await connection.execute(text(statement), parameters))

    async def value(self, statement: str, **parameters: Any) -> Any:
        return (await self.rows(statement, **parameters))[0][0]


@pytest.fixture(scope="session")
async def on_postgresql(postgres: LocalPostgres) -> AsyncIterator[Provider]:
    name = _name()
    await postgres.create_database(name)
    async with _provider("postgresql", postgres.url(name)) as provider:
        yield provider


@pytest.fixture(scope="session")
async def on_mariadb(mariadb: LocalMariaDB) -> AsyncIterator[Provider]:
    name = _name()
    await mariadb.create_database(name)
    async with _provider("mariadb", mariadb.url(name)) as provider:
        yield provider
    await mariadb.drop_database(name)


@pytest.fixture(scope="session")
async def on_sqlite(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Provider]:
    path = tmp_path_factory.mktemp("provider") / f"{_name()}.sqlite3"
    path.touch()
    async with _provider("sqlite", f"sqlite:///{path}") as provider:
        yield provider


@pytest.fixture(params=KINDS)
def provider(request: pytest.FixtureRequest) -> Provider:
    """Each test that takes it runs on each kind of database."""
    found: Provider = request.getfixturevalue(f"on_{request.param}")
    return found


@asynccontextmanager
async def _provider(kind: Kind, url: str) -> AsyncIterator[Provider]:
    owner = database_at(url, connections=4)
    yield Provider(kind, url, owner)
    await owner.close()


def _name() -> str:
    return f"provider_{uuid.uuid4().hex[:12]}"
