"""A stand-in that is a database: its tables made and filled once, the same rows each time.

`python -m MODULE --database-url URL`, on PostgreSQL or MariaDB; where the data are there already it makes none.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

Row = tuple[Any, ...]
ROWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Filling:
    """`before`, `after`: statements by kind of database, around the rows; `tables`: name → columns, in order.

    `rows` makes them, by table. The last of the tables tells, by being there, that all is done. `reader`: a role of
    PostgreSQL that `after` lets read, if any.
    """

    before: Mapping[str, Sequence[str]]
    tables: Mapping[str, Sequence[str]]
    rows: Callable[[], Mapping[str, Sequence[Row]]]
    after: Mapping[str, Sequence[str]]
    reader: str = ""


def main(filling: Filling, description: str) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=description)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--database-url", help="postgresql://… or mysql://…")
    where.add_argument("--database-url-env", help="the variable that holds it")
    if filling.reader:
        parser.add_argument("--reader-password-file", type=Path, help=f"a password for the role {filling.reader}")
    options = parser.parse_args()
    url = options.database_url or os.environ[options.database_url_env]
    asyncio.run(fill(filling, url))
    if filling.reader and options.reader_password_file:
        asyncio.run(_let_in(url, filling.reader, options.reader_password_file.read_text("utf-8").strip()))


async def _let_in(url: str, role: str, password: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        statement = await connection.fetchval(
            "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", role, password
        )
        await connection.execute(statement)
    finally:
        await connection.close()


async def fill(filling: Filling, url: str) -> bool:
    """False where there was nothing to do."""
    if url.startswith("mysql"):
        return await _fill_mariadb(filling, url)
    return await _fill_postgresql(filling, url)


async def _fill_postgresql(filling: Filling, url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass($1)", list(filling.tables)[-1]) is not None:
            return False
        async with connection.transaction():
            for statement in filling.before["postgresql"]:
                await connection.execute(statement)
            rows = filling.rows()
            for table, columns in filling.tables.items():
                await connection.copy_records_to_table(table, columns=columns, records=rows[table])
            for statement in filling.after["postgresql"]:
                await connection.execute(statement)
    finally:
        await connection.close()
    return True


async def _fill_mariadb(filling: Filling, url: str) -> bool:
    import aiomysql

    parts = urlsplit(url)
    socket = parse_qs(parts.query).get("unix_socket", [None])[0]
    connection = await aiomysql.connect(
        host=parts.hostname or "localhost",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        db=unquote(parts.path.lstrip("/")),
        unix_socket=socket,
        charset="utf8mb4",
    )
    try:
        async with connection.cursor() as cursor:
            if await cursor.execute("SHOW TABLES LIKE %s", (list(filling.tables)[-1],)):
                return False
            for statement in filling.before["mariadb"]:
                await cursor.execute(statement)
            await cursor.execute("SET foreign_key_checks = 0, unique_checks = 0")  # for speed: the rows keep them
            rows = filling.rows()
            for table, columns in filling.tables.items():
                places = ", ".join(["%s"] * len(columns))
                insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})"  # noqa: S608 - names of ours
                for start in range(0, len(rows[table]), ROWS_AT_ONCE):
                    await cursor.executemany(insert, rows[table][start : start + ROWS_AT_ONCE])
            await connection.commit()
            for statement in filling.after["mariadb"]:
                await cursor.execute(statement)
    finally:
        connection.close()
    return True
