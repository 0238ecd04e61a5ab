"""Migrations make exactly the tables that the code declares; a server that may forget is refused."""

from __future__ import annotations

import asyncio
import importlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.base import ischema_names

import ngsp
from ngsp import database
from ngsp.transactions.tables import Xid8

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ngsp.local.postgres import LocalPostgres


def declared_tables() -> None:
    """Imports every module of tables there is, so that all of them have joined the metadata."""
    folder = Path(ngsp.__file__).parent
    for module in folder.glob("*/tables.py"):
        importlib.import_module(f"ngsp.{module.parent.name}.tables")
    ischema_names["xid8"] = Xid8  # so that reflection knows the type as the code writes it


def is_declared(_object: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Partitions and their indexes are made by a job as time goes by; alembic's own table is its own."""
    return not (kind == "table" and reflected and compare_to is None and _is_made_later(name or ""))


def _is_made_later(name: str) -> bool:
    parent = name.rpartition("_p")[0]
    return name == "alembic_version" or parent in database.metadata.tables


async def test_migrated_schema_is_the_declared_schema(url: str) -> None:
    declared_tables()

    def compare(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection, opts={"include_object": is_declared, "compare_type": True, "compare_server_default": False}
        )
        return list(compare_metadata(context, database.metadata))

    engine = database.engine(url)
    async with engine.connect() as connection:
        assert await connection.run_sync(compare) == []
    await engine.dispose()


async def test_migrate_from_several_gateways_at_once(postgres: LocalPostgres) -> None:
    await postgres.create_database("migrated_together")
    url = postgres.url("migrated_together")
    done = await asyncio.gather(*(database.migrate(url) for _ in range(4)))
    assert any(done)
    assert await database.current_revision(url) == database.head_revision()


async def test_migrate_is_quick_where_there_is_nothing_to_do(url: str) -> None:
    took_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        assert await database.migrate(url) is False
        took_s.append(time.perf_counter() - began_s)
    assert min(took_s) < 0.3


async def test_engine_and_raw_connection_read_the_same_address(url: str) -> None:
    raw = await database.connect(url, name="raw-one")
    try:
        assert await raw.fetchval("SELECT '{\"a\": [1]}'::jsonb") == {"a": [1]}
        assert await raw.fetchval("SHOW application_name") == "raw-one"
    finally:
        await raw.close()
    engine = database.engine(url, name="pooled-one")
    async with engine.connect() as connection:
        shown = await connection.execute(text("SELECT current_setting('application_name'), current_database()"))
        assert tuple(shown.one()) == ("pooled-one", url.split("/")[3].split("?")[0])
    await engine.dispose()


async def test_durable_server_passes(postgres: LocalPostgres) -> None:
    engine = database.engine(postgres.url("postgres"))
    async with engine.connect() as connection:
        await database.check_durability(connection)
    await engine.dispose()


@pytest.mark.parametrize("setting", ["off", "local"])
async def test_session_that_does_not_wait_for_the_disk_is_refused(postgres: LocalPostgres, setting: str) -> None:
    engine = database.engine(postgres.url("postgres") + f"&options=-c%20synchronous_commit%3D{setting}")
    async with engine.connect() as connection:
        with pytest.raises(database.ConfigurationError) as refused:
            await database.check_durability(connection)
    await engine.dispose()
    assert f"synchronous_commit={setting}" in refused.value.text.vi
    assert f"synchronous_commit={setting}" in refused.value.text.en


async def test_database_that_is_away_is_an_error_at_once(postgres: LocalPostgres) -> None:
    with pytest.raises((OSError, asyncpg.PostgresError)):
        await database.migrate(postgres.url("no_such_database"))
