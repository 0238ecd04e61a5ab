"""PostgreSQL: addresses, connections, the shared `MetaData`, migrations, and the refusal of a server that may forget.

Tables live beside the noun they store (`ngsp/registry/tables.py`, …) and all join `metadata`. SQLAlchemy Core makes
the statements; a raw asyncpg connection (`connect`) serves where COPY or LISTEN is needed. Both take one libpq address.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from sqlalchemy import Connection, MetaData, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from ngsp.text import Text, language_of_terminal

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

CONNECT_TIMEOUT_S = 5.0
MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x6E677370  # "ngsp": the advisory lock that lets one gateway migrate at a time
_UNSAFE = {
    "fsync": frozenset(("off",)),
    "full_page_writes": frozenset(("off",)),
    "synchronous_commit": frozenset(("off", "local")),
}


class ConfigurationError(RuntimeError):
    """The surroundings are not fit to start in; `text` says why and what to do, in both languages."""

    def __init__(self, explanation: Text) -> None:
        super().__init__(explanation.in_(language_of_terminal()))
        self.text = explanation


async def connect(url: str, *, name: str = "ngsp", command_timeout_s: float | None = None) -> asyncpg.Connection:
    """A raw asyncpg connection; JSONB comes and goes as Python values. OSError or asyncpg's errors where there is none.

    `url`: a libpq address, a socket's folder in `?host=` included. `name` is what `pg_stat_activity` shows.
    """
    connection = await asyncpg.connect(
        _plain(url),
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings={"application_name": name, "timezone": "UTC"},
    )
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, schema="pg_catalog", encoder=_to_json, decoder=orjson.loads)
    return connection


async def pool(url: str, *, size: int, name: str = "ngsp", command_timeout_s: float = 30.0) -> asyncpg.Pool:
    """A pool of raw connections for what is read and written beside the log writer."""
    return await asyncpg.create_pool(
        _plain(url),
        min_size=1,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=command_timeout_s,
        server_settings={"application_name": name, "timezone": "UTC"},
        reset=_leave,
    )


async def _leave(connection: asyncpg.Connection) -> None:
    """Nobody leaves anything behind in a session of the pool, so a return need not cost a round trip."""


Opens = Callable[[str], Awaitable[asyncpg.Connection]]


def engine(
    url: str, *, pool_size: int = 8, name: str = "ngsp", opens: Opens | None = None, pre_ping: bool = True
) -> AsyncEngine:
    """An engine on the libpq address `url`; opens nothing yet. A connection that died in the pool is replaced.

    `opens` makes a connection to the address, where it must be another than the gateway's own. `pre_ping`: off where
    the caller tries again by itself, to spare three round trips.
    """
    plain = _plain(url)

    async def open_connection(*_arguments: Any, **_options: Any) -> asyncpg.Connection:
        # The driver reads the address itself, so that every libpq form of it works here as it does in `connect`.
        if opens is not None:
            return await opens(plain)
        return await asyncpg.connect(
            plain, timeout=CONNECT_TIMEOUT_S, server_settings={"application_name": name, "timezone": "UTC"}
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=open_connection,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_pre_ping=pre_ping,
        hide_parameters=True,
        json_serializer=_to_json,
        json_deserializer=orjson.loads,
    )


def is_away(error: Exception) -> bool:
    """Whether the database is away, or was while it was asked: it may be better later."""
    away = (
        OSError,
        TimeoutError,
        SQLAlchemyTimeout,
        asyncpg.AdminShutdownError,
        asyncpg.CannotConnectNowError,
        asyncpg.CrashShutdownError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        asyncpg.PostgresConnectionError,
    )
    return isinstance(error, away) or (isinstance(error, DBAPIError) and error.connection_invalidated)


def _plain(url: str) -> str:
    return re.sub(r"^postgres(ql)?(\+asyncpg)?://", "postgresql://", url)


def _to_json(value: Any) -> str:
    return str(orjson.dumps(value), "utf-8")


async def check_durability(connection: AsyncConnection) -> None:
    """`ConfigurationError` where the server, or this session, would report a commit that a crash can undo."""
    found = await connection.execute(
        text("SELECT name, setting FROM pg_settings WHERE name = ANY(:names)"), {"names": list(_UNSAFE)}
    )
    unsafe = [f"{name}={setting}" for name, setting in found if setting in _UNSAFE[name]]
    if unsafe:
        raise ConfigurationError(
            Text(
                vi="PostgreSQL đang chạy với {settings}: giao dịch đã báo thành công có thể mất khi máy chủ dừng "
                "đột ngột. Hãy đặt fsync=on, full_page_writes=on và synchronous_commit=on rồi khởi động lại.",
                en="PostgreSQL runs with {settings}: a transaction reported as done could be lost in a crash. "
                "Set fsync=on, full_page_writes=on and synchronous_commit=on, then start again.",
            ).format(settings=", ".join(sorted(unsafe)))
        )


@cache
def head_revision() -> str:
    """The newest migration, found from the files alone: importing alembic costs more than a whole start may take."""
    revisions: set[str] = set()
    parents: set[str] = set()
    for file in (MIGRATIONS / "versions").glob("[0-9]*.py"):
        stated = dict(re.findall(r"^(revision|down_revision)\b[^=\n]*= *\"([^\"]+)\"", file.read_text("utf-8"), re.M))
        revisions.add(stated["revision"])
        parents.add(stated.get("down_revision", ""))
    heads = revisions - parents
    if len(heads) != 1:
        raise RuntimeError(f"the migrations have {len(heads)} heads: {sorted(heads)}")
    return heads.pop()


async def current_revision(url: str) -> str | None:
    """The migration the database at `url` stands at, None for a new database."""
    connection = await connect(url, name="ngsp-migrate")
    try:
        found: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    finally:
        await connection.close()
    return found


async def migrate(url: str) -> bool:
    """Brings the database at `url` to the newest schema, all or nothing; True where there was something to do.

    Safe from several gateways at once: one works, the others wait and find it done.
    """
    if await current_revision(url) == head_revision():
        return False
    await asyncio.to_thread(_upgrade_in_thread, url)
    return True


_alembic_in_use = threading.Lock()


def _upgrade_in_thread(url: str) -> None:
    # Alembic keeps its context in module globals: one upgrade at a time in one process, off the caller's loop.
    with _alembic_in_use:
        asyncio.run(_upgrade(url))


async def _upgrade(url: str) -> None:
    migrator = engine(url, pool_size=1, name="ngsp-migrate")
    try:
        async with migrator.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            await connection.run_sync(_run_alembic)
    finally:
        await migrator.dispose()


def _run_alembic(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
