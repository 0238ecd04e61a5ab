"""A SQLite file, by aiosqlite. One transaction writes at a time; the others wait for their turn."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sqlalchemy import MetaData, Table, event, make_url
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ngsp.adapter.databases.base import (
    CHECK,
    FOREIGN_KEY,
    NOT_NULL,
    RAISED,
    UNIQUE,
    Complaint,
    Database,
    wrong_address,
)

_STEPS = 1000
"""Of SQLite's machine, between two looks at the clock."""
_STATES = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_ROWID: UNIQUE,
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: FOREIGN_KEY,
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: NOT_NULL,
    sqlite3.SQLITE_CONSTRAINT_CHECK: CHECK,
    sqlite3.SQLITE_CONSTRAINT_TRIGGER: RAISED,
}
_READ_ONLY, _OTHER = "25006", "HY000"
_CONSTRAINT = re.compile(r"constraint failed: (.+)$")
_UNTIL = "ngsp_until"


class Sqlite(Database):
    """What its errors name is `table.column`, of a CHECK its name: constraints of other kinds have none here."""

    has_decimals = False

    @property
    def writers(self) -> int:
        return 1

    def _open(self, url: str) -> AsyncEngine:
        try:
            address = make_url(url)
        except (ArgumentError, ValueError):
            raise wrong_address("sai dạng.", "not of its form.") from None
        if address.host or address.query or address.database in (None, "", ":memory:"):
            raise wrong_address(
                "phải là sqlite:////thư_mục/tệp, không có gì sau đó.",
                "must be sqlite:////folder/file, and nothing behind it.",
            )
        found = create_async_engine(
            # Never made anew: a wrong path must not look like an empty register.
            f"sqlite+aiosqlite:///file:{quote(address.database or '')}?mode=rw&uri=true",
            connect_args={"timeout": self.connect_timeout_s, "isolation_level": None},
            pool_size=self.connections if self.read_only else self.writers,
            max_overflow=0,
            pool_timeout=self.connect_timeout_s,
            hide_parameters=True,
        )
        event.listen(found.sync_engine, "connect", self._connected)
        event.listen(found.sync_engine, "begin", self._begun)
        event.listen(found.sync_engine, "reset", _unlimited)
        return found

    def _connected(self, dbapi_connection: Any, record: Any) -> None:
        cursor = dbapi_connection.cursor()
        for setting in ("foreign_keys = ON", "synchronous = FULL", f"query_only = {'ON' if self.read_only else 'OFF'}"):
            cursor.execute(f"PRAGMA {setting}")
        cursor.close()
        until = record.info[_UNTIL] = [float("inf")]
        dbapi_connection.run_async(
            lambda connection: connection.set_progress_handler(lambda: time.monotonic() > until[0], _STEPS)
        )

    def _begun(self, connection: Any) -> None:
        # A transaction that reads first and writes later could find that another has written meanwhile.
        connection.exec_driver_sql("BEGIN" if self.read_only else "BEGIN IMMEDIATE")

    async def limit(self, connection: AsyncConnection, seconds: float) -> None:
        connection.info[_UNTIL][0] = time.monotonic() + seconds

    async def add(self, connection: AsyncConnection, table: Table, row: Mapping[str, Any]) -> bool:
        statement = insert(table).values(row).on_conflict_do_nothing().returning(*table.primary_key)
        return (await connection.execute(statement)).first() is not None

    async def create(self, metadata: MetaData) -> None:
        async with self.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)

    def complaint(self, error: DBAPIError) -> Complaint:
        code = getattr(error.orig, "sqlite_errorcode", 0)
        told = str(error.orig)
        if code & 0xFF == sqlite3.SQLITE_READONLY:
            return Complaint(_READ_ONLY)
        state = _STATES.get(code, _OTHER)
        if state == RAISED:
            return Complaint(state, "", told)
        found = _CONSTRAINT.search(told)
        return Complaint(state, found[1] if found else "")


def _unlimited(dbapi_connection: Any, record: Any, state: Any) -> None:
    record.info[_UNTIL][0] = float("inf")
