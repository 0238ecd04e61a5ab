"""The view and the account of the guide *from a database*, as they are written, on both servers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy.exc import DBAPIError

from ngsp.adapter.databases import database_at
from ngsp.local.postgres import LocalPostgres
from tests.docs.pages import PROJECT, blocks
from tests.support.mariadb import LocalMariaDB

GUIDES = [PROJECT / "docs" / "guides" / f"from-a-database.{language}.md" for language in ("en", "vi")]
PARCELS = (
    "CREATE TABLE parcels (code char(12) PRIMARY KEY, sheet int, number int, area decimal(12,1), kind char(3),"
    " boundary text, holder char(12), price decimal(15,0))"
)
Run = Callable[[str], Awaitable[object]]


def statements(server: str) -> list[str]:
    """The guide's, for `server`."""
    (block,) = {block.text for page in GUIDES for block in blocks(page, "sql") if block.text.startswith(f"-- {server}")}
    return [statement.strip() for statement in block.split("\n", 1)[1].split(";") if statement.strip()]


async def follow(run: Run, server: str, url: str) -> None:
    """Does what the guide says, then looks with the account that it makes."""
    await run(PARCELS)
    await run("INSERT INTO parcels VALUES ('012730000001', 1, 81, 258.5, 'ODT', '{}', '904099000017', 1)")
    for statement in statements(server):
        await run(statement)
    bus = database_at(url, connections=1)
    try:
        async with bus.engine.connect() as connection:
            found = (await connection.exec_driver_sql("SELECT * FROM land_for_the_bus")).mappings().one()
            assert found["number"] == 81
            assert not {"holder", "price"} & set(found)
        for refused in ("SELECT holder FROM parcels", "DELETE FROM land_for_the_bus"):
            with pytest.raises(DBAPIError, match="denied"):
                async with bus.engine.connect() as connection:
                    await connection.exec_driver_sql(refused)
    finally:
        await bus.close()


async def test_on_postgresql(postgres: LocalPostgres) -> None:
    await postgres.create_database("guide_land")
    owner = database_at(postgres.url("guide_land"), connections=1)

    async def run(statement: str) -> None:
        async with owner.engine.begin() as connection:
            await connection.exec_driver_sql(statement)

    try:
        await follow(run, "PostgreSQL", postgres.url("guide_land", "bus"))
    finally:
        await run("DROP OWNED BY bus")
        await run("DROP ROLE bus")
        await owner.close()


async def test_on_mariadb(mariadb: LocalMariaDB) -> None:
    await mariadb.create_database("guide_land")
    try:
        url = mariadb.url("guide_land", "bus", "chosen-at-random")
        await follow(lambda statement: mariadb.execute(statement, database="guide_land"), "MariaDB", url)
    finally:
        await mariadb.execute("DROP USER bus")
        await mariadb.drop_database("guide_land")
