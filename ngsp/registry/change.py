"""One change of the registry: a transaction under the registry's lock that moves its revision and notifies all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

import asyncpg
import sqlalchemy.exc
from sqlalchemy import Select, Table, and_, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngsp.errors import Fault, InvalidRegistration, PreconditionFailed, RegistryStale
from ngsp.registry.tables import members, registry_revision
from ngsp.registry.watch import CHANNEL
from ngsp.text import Text

Row = Mapping[str, Any]
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who changes the registry: a client, its member, and the scopes of its token."""

    client: str
    member: str
    scopes: frozenset[str]

    @property
    def is_operator(self) -> bool:
        return "operator" in self.scopes


@dataclass(frozen=True, slots=True)
class Condition:
    """What the caller expects to find (RFC 9110 §13.1). `versions`: one of these; `present`, `absent`: as `*` says."""

    versions: frozenset[int] | None = None
    present: bool = False
    absent: bool = False

    def check(self, row_version: int | None) -> None:
        """`PreconditionFailed` (412) where the resource, None if there is none, is not as expected."""
        missing = row_version is None
        if (
            (self.present and missing)
            or (self.absent and not missing)
            or (self.versions is not None and row_version not in self.versions)
        ):
            raise PreconditionFailed(reason="the resource is not at the version the caller saw")


ANY = Condition()


@dataclass(frozen=True, slots=True)
class Stored(Generic[Value]):
    """A value as it stands in the database; `row_version` is its ETag. `changes`: column → (before, after)."""

    value: Value
    row_version: int
    created: bool = False
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class Change:
    """The open transaction. `revision` is what the registry's revision becomes if anything is touched."""

    connection: AsyncConnection
    actor: Actor
    revision: int
    now: datetime
    touched: bool = False

    async def find(self, table: Table, **key: Any) -> Row | None:
        """The row with this key, or None."""
        return await find(self.connection, table, **key)

    async def put(
        self, table: Table, key: Mapping[str, Any], values: Mapping[str, Any], row: Row | None
    ) -> tuple[int, dict[str, tuple[Any, Any]]]:
        """Inserts, or updates `row` where `values` differ from it: the new `row_version`, and what changed."""
        stamp = {"revision": self.revision, "updated_at": self.now}
        if row is None:
            self.touched = True
            await self.connection.execute(insert(table).values(**key, **values, **stamp, row_version=1))
            return 1, {name: (None, value) for name, value in values.items()}
        changes = {name: (row[name], value) for name, value in values.items() if row[name] != value}
        version: int = row["row_version"]
        if not changes:
            return version, {}
        self.touched = True
        where = and_(*(table.c[name] == value for name, value in key.items()))
        await self.connection.execute(update(table).where(where).values(**values, **stamp, row_version=version + 1))
        return version + 1, changes

    async def need_member(self, code: str, pointer: str) -> None:
        """`InvalidRegistration` (422) where there is no such member."""
        if await self.find(members, code=code) is None:
            raise InvalidRegistration(
                faults=(Fault(pointer, Text("Không có cơ quan mang mã này.", "There is no member with this code.")),),
                reason="unknown member",
            )


async def find(connection: AsyncConnection, table: Table, **key: Any) -> Row | None:
    found = await fetch(connection, select(table).where(and_(*(table.c[name] == value for name, value in key.items()))))
    return found[0] if found else None


async def fetch(connection: AsyncConnection, statement: Select[Any]) -> list[Row]:
    """The rows of `statement`, by column."""
    return [row._asdict() for row in await connection.execute(statement)]


@asynccontextmanager
async def change(engine: AsyncEngine, actor: Actor, *, dry_run: bool = False) -> AsyncIterator[Change]:
    """All or nothing; `dry_run` ends in nothing. Changes run one after the other, so that revisions commit in order."""
    with database_errors():
        async with engine.connect() as connection:
            transaction = await connection.begin()
            await connection.execute(text("SET LOCAL lock_timeout = '5s'"))
            locked = await connection.execute(
                select(registry_revision.c.revision, func.clock_timestamp()).with_for_update()
            )
            revision, now = locked.one()
            opened = Change(connection, actor, revision + 1, now)
            yield opened
            if dry_run or not opened.touched:
                await transaction.rollback()
                return
            await connection.execute(update(registry_revision).values(revision=opened.revision))
            await connection.execute(select(func.pg_notify(CHANNEL, str(opened.revision))))
            await transaction.commit()


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for reading; what a list shows is one moment's truth for each statement."""
    with database_errors():
        async with engine.connect() as connection:
            yield connection


@contextmanager
def database_errors() -> Iterator[None]:
    """A database that is away or too busy becomes `RegistryStale` (503); a statement that is wrong stays a defect."""
    try:
        yield
    except (OSError, TimeoutError, sqlalchemy.exc.TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
        raise RegistryStale(retry_after_s=1, reason=f"database: {type(error).__name__}") from error
    except (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError) as error:
        raise RegistryStale(retry_after_s=1, reason=f"database: {type(error.orig).__name__}") from error
    except sqlalchemy.exc.DBAPIError as error:
        if not (error.connection_invalidated or _is_lock_timeout(error)):
            raise
        raise RegistryStale(retry_after_s=1, reason="database: lost or locked") from error


def _is_lock_timeout(error: sqlalchemy.exc.DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in ("55P03", "57P01", "57P02", "57P03", "53300")
