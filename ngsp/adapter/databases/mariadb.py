"""MariaDB and MySQL, by aiomysql. Only tables of InnoDB have transactions: those of other engines keep no promise."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from typing import Any

import aiomysql
from pymysql.constants import CLIENT
from sqlalchemy import URL, MetaData, Table, event, insert, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ngsp.adapter.databases.base import (
    CHECK,
    FOREIGN_KEY,
    NOT_NULL,
    UNIQUE,
    Complaint,
    Database,
    number,
    wrong_address,
)

_OPTIONS = frozenset(("unix_socket", "ssl_ca", "ssl_cert", "ssl_key"))
_SET_UP_LOCK = "ngsp_inbox"
_SET_UP_TIMEOUT_S = 30
_DUPLICATE = 1062
_STATES = {
    1022: UNIQUE,
    _DUPLICATE: UNIQUE,
    1169: UNIQUE,
    1586: UNIQUE,
    1216: FOREIGN_KEY,
    1217: FOREIGN_KEY,
    1451: FOREIGN_KEY,
    1452: FOREIGN_KEY,
    1048: NOT_NULL,
    1364: NOT_NULL,
    3819: CHECK,
    4025: CHECK,
}
"""Errors that have one SQLSTATE, 23000, between them, or a wrong one."""
_CONSTRAINT = re.compile(r"CONSTRAINT `([^`]+)`|^Check constraint '([^']+)'|for key '([^']+)'$")
"""The last is looked for at the end alone: before it the message quotes the row."""
_LIMIT = "ngsp_limit"
"""Of a connection: (seconds, the statement that takes the limit off again)."""


class _Connection(aiomysql.Connection):  # type: ignore[misc]
    """aiomysql's, but the server is not asked to take several statements in one text, and bytes can be sent."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.client_flag &= ~CLIENT.MULTI_STATEMENTS

    def escape(self, obj: object) -> str:
        # What aiomysql calls for bytes is gone from PyMySQL.
        return f"_binary X'{obj.hex()}'" if isinstance(obj, bytes) else str(super().escape(obj))


class MariaDb(Database):
    """Isolation is READ COMMITTED, as PostgreSQL's default: no gap is locked but by checks of uniqueness."""

    def _open(self, url: str) -> AsyncEngine:
        try:
            address = make_url(url)
        except (ArgumentError, ValueError):
            raise wrong_address("sai dạng.", "not of its form.") from None
        if not address.database or not set(address.query) <= _OPTIONS:
            known = ", ".join(sorted(_OPTIONS))
            raise wrong_address(
                f"phải có tên cơ sở dữ liệu, và sau dấu ? chỉ dùng: {known}.",
                f"needs the database's name, and after ? no option but: {known}.",
            )
        arguments = self._arguments(address)

        async def connect(*_arguments: Any, **_options: Any) -> aiomysql.Connection:
            return await self._connected(arguments)

        found = create_async_engine(
            "mysql+aiomysql://",
            async_creator=connect,
            pool_size=self.connections,
            max_overflow=0,
            pool_timeout=self.connect_timeout_s,
            pool_pre_ping=not self.read_only,
            hide_parameters=True,
        )
        if not self.read_only:
            event.listen(found.sync_engine, "reset", _unlimited)
        return found

    def _arguments(self, address: URL) -> dict[str, Any]:
        query = {name: value if isinstance(value, str) else value[-1] for name, value in address.query.items()}
        arguments: dict[str, Any] = {
            "user": address.username,
            "password": address.password or "",
            "db": address.database,
            "charset": "utf8mb4",
            "client_flag": CLIENT.FOUND_ROWS,
            "connect_timeout": self.connect_timeout_s,
            "autocommit": False,
        }
        if "unix_socket" in query:
            arguments["unix_socket"] = query["unix_socket"]
        else:
            arguments |= {"host": address.host or "localhost", "port": address.port or 3306}
            self.hosts = (arguments["host"],)
        if "ssl_ca" in query:
            try:
                context = ssl.create_default_context(cafile=query["ssl_ca"])
                if "ssl_cert" in query:
                    context.load_cert_chain(query["ssl_cert"], query.get("ssl_key"))
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise wrong_address(
                    f"không đọc được chứng thư ({reason}).", f"the certificate cannot be read ({reason})."
                ) from None
            arguments["ssl"] = context
        return arguments

    async def _connected(self, arguments: dict[str, Any]) -> aiomysql.Connection:
        if "host" in arguments:
            await self.check_name(arguments["host"])
        connection = _Connection(**arguments)
        async with asyncio.timeout(self.connect_timeout_s):  # the driver's own ends before the server's greeting
            await connection._connect()
        transport = connection._writer.transport
        try:
            if "host" in arguments:
                self.check_peer(transport.get_extra_info("peername"))
            if "ssl" in arguments and transport.get_extra_info("ssl_object") is None:
                raise ConnectionError("the server speaks no TLS")
            async with connection.cursor() as cursor:
                for statement in self._settings():
                    await cursor.execute(statement)
            await connection.commit()
        except BaseException:
            connection.close()
            raise
        return connection

    def _settings(self) -> tuple[str, ...]:
        access = "READ ONLY" if self.read_only else "READ WRITE"
        return (
            "SET time_zone = '+07:00', sql_mode = CONCAT_WS(',', NULLIF(@@sql_mode, ''), 'STRICT_ALL_TABLES')",
            f"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, {access}",
        )

    async def limit(self, connection: AsyncConnection, seconds: float) -> None:
        seconds = max(0.001, round(seconds, 1 if seconds > 1 else 3))
        if connection.info.get(_LIMIT, (0, ""))[0] == seconds:
            return
        if getattr(connection.dialect, "is_mariadb", False):
            limited, unlimited = f"SET max_statement_time = {seconds:.3f}", "SET max_statement_time = 0"
        else:  # MySQL's holds for SELECT only
            limited, unlimited = f"SET max_execution_time = {int(seconds * 1000)}", "SET max_execution_time = 0"
        await connection.exec_driver_sql(limited)
        connection.info[_LIMIT] = (seconds, unlimited)

    async def add(self, connection: AsyncConnection, table: Table, row: Mapping[str, Any]) -> bool:
        # INSERT IGNORE would swallow other errors, ON DUPLICATE KEY UPDATE counts rows by a flag of the connection.
        try:
            await connection.execute(insert(table).values(row))
        except IntegrityError as error:
            if number(error.orig) == _DUPLICATE:
                return False
            raise
        return True

    async def create(self, metadata: MetaData) -> None:
        # DDL commits by itself here, so it is a lock of the session that keeps the others out.
        async with self.engine.connect() as connection:
            lock = {"lock": _SET_UP_LOCK, "timeout": _SET_UP_TIMEOUT_S}
            if (await connection.execute(text("SELECT GET_LOCK(:lock, :timeout)"), lock)).scalar() != 1:
                raise TimeoutError("another process makes the tables")
            try:
                await connection.run_sync(metadata.create_all)
                await connection.commit()
            finally:
                await connection.execute(text("SELECT RELEASE_LOCK(:lock)"), {"lock": _SET_UP_LOCK})

    def complaint(self, error: DBAPIError) -> Complaint:
        code, told = number(error.orig), str(error.orig.args[-1]) if error.orig and error.orig.args else ""
        if code in _STATES:
            found = _CONSTRAINT.search(told)
            return Complaint(_STATES[code], next(filter(None, found.groups())) if found else "")
        state = getattr(error.orig, "sqlstate", None) or "HY000"
        return Complaint(state, "", told if state.startswith("45") else "")


def _unlimited(dbapi_connection: Any, record: Any, state: Any) -> None:
    """What comes next from the pool starts without a limit."""
    limit = record.info.pop(_LIMIT, None)
    if limit is not None and not state.terminate_only:
        cursor = dbapi_connection.cursor()
        cursor.execute(limit[1])
        cursor.close()
