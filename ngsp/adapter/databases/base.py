"""What a provider's database does for an adapter, whichever it is, and what its errors mean."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

from sqlalchemy import MetaData, Table
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngsp.adapter.addresses import AddressRefused
from ngsp.adapter.manifest import ManifestError
from ngsp.text import tr

TIME_ZONE = "Asia/Ho_Chi_Minh"
UNIQUE, FOREIGN_KEY, NOT_NULL, CHECK = "23505", "23503", "23502", "23514"
"""SQLSTATE of the constraints that any of the databases keeps, by PostgreSQL's finer division of class 23."""
RAISED = "45000"
"""SQLSTATE of what a procedure or trigger raised on purpose, where it names none itself."""
_PASSING_CLASSES = ("08", "40", "53", "55", "57")
"""Classes of SQLSTATE that say nothing about the effect: connection, rollback, resources, lock, operator."""
_PASSING_NUMBERS = frozenset(
    (
        *(1020, 1021, 1028, 1037, 1038, 1040, 1041, 1047, 1053, 1135, 1152, 1158, 1159, 1160, 1161, 1180, 1203, 1205),
        *(1213, 1226, 1290, 1317, 1836, 1927, 1969, 2002, 2003, 2006, 2013, 3024, 3572, 4031),
    )
)
"""MariaDB's and MySQL's numbers for the same: disk or memory full, too many connections, shutdown, network, lock waits
and deadlocks, killed or timed out, a server that has become a replica."""
_PASSING_SQLITE = frozenset(
    (
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT),
        *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL),
    )
)

_TIMED_OUT_STATE, _TIMED_OUT_NUMBERS = "57014", (1317, 1969, 3024)

Allows = Callable[[str], bool]


class Unreachable(OSError):
    """There was no connection to be had, so nothing was done."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """Why a statement was refused. `state`: its SQLSTATE; `constraint`: the name of the one that was broken, if any.

    `message`: of what a procedure raised on purpose, else empty: the database's own messages quote rows.
    """

    state: str
    constraint: str = ""
    message: str = ""


class Database(ABC):
    """One database. `engine` connects to it when first asked.

    A connection that died in the pool is replaced; one for reading only when its first statement fails, with
    `connection_invalidated`, so that no time is lost on asking each whether it lives.

    `writers`: how many transactions may write at once. `hosts`: the machines that its address names. `has_decimals`:
    whether fractions are bound as decimals. `unreachable`: what is raised where it cannot be connected to; `unwrapped`:
    errors of the driver that SQLAlchemy lets through while rows are fetched.
    """

    has_decimals: ClassVar[bool] = True
    unreachable: ClassVar[tuple[type[Exception], ...]] = (OSError, SQLAlchemyError)
    unwrapped: ClassVar[tuple[type[Exception], ...]] = ()
    engine: AsyncEngine
    hosts: tuple[str, ...] = ()

    def __init__(
        self,
        url: str,
        connections: int,
        read_only: bool,
        connect_timeout_s: float,
        limit_s: float | None,
        allows: Allows | None,
    ) -> None:
        self.connections, self.read_only = connections, read_only
        self.connect_timeout_s, self.limit_s, self.allows = connect_timeout_s, limit_s, allows
        self.engine = self._open(url)

    @property
    def writers(self) -> int:
        return self.connections

    async def close(self) -> None:
        await self.engine.dispose()

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction, rolled back at its end. Unreachable, or AddressRefused, where none is had."""
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(self.engine.connect())
            except AddressRefused:
                raise
            except self.unreachable as error:
                raise Unreachable(type(error).__name__) from None
            try:
                yield connection
            except self.unwrapped as error:
                lost = not getattr(error, "sqlstate", None)  # not the server's word, so there is no server any more
                raise DBAPIError(None, None, error, connection_invalidated=lost) from None

    def part(self, connection: AsyncConnection) -> AbstractAsyncContextManager[Any]:
        """A part of a transaction, after whose failure the rest of it can go on."""
        return nullcontext()

    @abstractmethod
    def _open(self, url: str) -> AsyncEngine:
        """ManifestError, without the address, where `url` lacks something."""

    @abstractmethod
    async def limit(self, connection: AsyncConnection, seconds: float) -> None:
        """From now until its transaction ends, the server gives up a statement of `connection` after `seconds`."""

    @abstractmethod
    async def add(self, connection: AsyncConnection, table: Table, row: Mapping[str, Any]) -> bool:
        """Insert `row` and return True, or False where its key is there.

        Waits while another transaction is putting that key there. The transaction stays fit for use either way.
        """

    @abstractmethod
    async def create(self, metadata: MetaData) -> None:
        """Make the tables that are missing; safe from several processes at once."""

    @abstractmethod
    def complaint(self, error: DBAPIError) -> Complaint:
        """What is behind an error that does not pass."""

    async def check_name(self, host: str) -> None:
        """AddressRefused where `host` leads to an address that it must not have."""
        if self.allows is not None:
            for *_, address in await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM):
                self._check(str(address[0]))

    def check_peer(self, peer: object) -> None:
        """The same for the address at the other end of a connection: names may change their address meanwhile."""
        if self.allows is not None and isinstance(peer, tuple):  # else a Unix socket
            self._check(str(peer[0]))

    def _check(self, address: str) -> None:
        if self.allows is not None and not self.allows(address):
            raise AddressRefused


def passing(error: BaseException) -> bool:
    """True where the database or the way to it is in trouble that passes, and the same statement may do later."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig or error
    if isinstance(error, OSError | TimeoutError | PoolTimeout):
        return True
    if isinstance(error, sqlite3.Error):
        return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _PASSING_SQLITE
    state = str(getattr(error, "sqlstate", None) or "")
    return state[:2] in _PASSING_CLASSES or number(error) in _PASSING_NUMBERS


def timed_out(error: DBAPIError) -> bool:
    """Whether the server gave a statement up because of `Database.limit`."""
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT
    return getattr(error.orig, "sqlstate", None) == _TIMED_OUT_STATE or number(error.orig) in _TIMED_OUT_NUMBERS


def number(error: BaseException | None) -> int:
    """MariaDB's or MySQL's number of an error; 0 where it has none."""
    found = error.args[0] if error is not None and error.args else 0
    return found if isinstance(found, int) else 0


def wrong_address(vi: str, en: str) -> ManifestError:
    return ManifestError(tr(f"Địa chỉ cơ sở dữ liệu: {vi}", f"The address of the database: {en}"))
