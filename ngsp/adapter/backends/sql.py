"""A back end that is an SQL database: PostgreSQL, MariaDB or MySQL, a SQLite file.

A query runs in a session that cannot write. A submission (effect `transactional`) is one statement, an insert or the
call of a procedure, in the transaction that holds the inbox row: both are committed, or neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from sqlalchemy.exc import DBAPIError, ResourceClosedError
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.adapter.addresses import Addresses, AddressRefused
from ngsp.adapter.backends.base import Answer, Attempt, Backend, BackendConfig, Operation
from ngsp.adapter.backends.rows import Reading, parameter
from ngsp.adapter.backends.statements import READING, SqlStatement
from ngsp.adapter.databases import Database, database_at, passing, timed_out
from ngsp.adapter.definition import Failed, Unavailable
from ngsp.adapter.manifest import ServiceManifest
from ngsp.adapter.models import Part
from ngsp.adapter.outcomes import Kind
from ngsp.adapter.references import Reference, Surroundings
from ngsp.mapping import Expression
from ngsp.messages import Effect
from ngsp.text import Text, Wrong

PROBE_S = 5.0
_NO = ("22", "23", "44", "45", "P0")
"""Classes of SQLSTATE by which a database says no to what it was given: data, constraints, what a procedure raised."""


class SqlConfig(BackendConfig):
    """`url`: the database's address, see `ngsp.adapter.databases`. `connections`: for queries, in one process."""

    kind: Literal["sql"]
    url: Reference
    connections: Annotated[int, Field(ge=1, le=100)] = 8


class SqlCall(Part):
    """One statement. `parameters`: name → expression. `json`: columns whose text is JSON.

    `rows`: `one` (a row is the body, none is null) or `many` (a list); more than `max_rows` are a failure.
    """

    sql: SqlStatement
    parameters: dict[str, Expression] = Field(default_factory=dict)
    rows: Literal["one", "many"] = "one"
    max_rows: Annotated[int, Field(ge=1, le=10_000)] = 100
    json_: Annotated[frozenset[str], Field(alias="json")] = frozenset()

    @property
    def most(self) -> int:
        return 1 if self.rows == "one" else self.max_rows

    def reading(self, names: Iterable[str], max_bytes: int) -> Reading:
        return Reading(names, self.json_, self.most, max_bytes)


class Sql(Backend[SqlConfig, SqlCall]):
    """One database. What it answers has the number of rows as its status, or the SQLSTATE of its refusal."""

    Config = SqlConfig
    Call = SqlCall
    effects: ClassVar[frozenset[Effect]] = frozenset(("idempotent", "transactional"))
    _database: Database

    places: asyncio.Semaphore
    """Queries at once; the others wait for their turn within their time. Of the loop that it is open on."""

    async def open(self, surroundings: Surroundings) -> None:
        self.places = asyncio.Semaphore(self.config.connections)
        addresses = Addresses.of(surroundings.environment)
        self._database = database_at(
            surroundings.value(self.config.url),
            connections=self.config.connections,
            read_only=True,
            connect_timeout_s=self.config.connect_timeout_s,
            limit_s=self.config.timeout_s,
            allows=addresses.allows,
        )
        for host in self._database.hosts:
            addresses.check_host(host, f"{self.name}: backend.url")

    async def close(self) -> None:
        await self._database.close()

    def database_url(self, surroundings: Surroundings) -> str:
        return surroundings.value(self.config.url)

    def operation(self, service: ServiceManifest, call: SqlCall) -> Operation:
        _check(service, call)
        if service.effect == "transactional":
            return _Write(self, call)
        return _Read(self, call)

    async def probe(self) -> None:
        try:
            async with self._database.connected() as connection:
                await self._database.limit(connection, PROBE_S)
                await connection.exec_driver_sql("SELECT 1")
        except (DBAPIError, OSError) as error:
            raise _unavailable(error) from None

    def judge(self, answer: Answer) -> tuple[Kind, str]:
        if isinstance(answer.status, int):
            return ("not-found" if answer.body is None else "ok"), ""
        return ("refused" if answer.status[:2] in _NO else "failed"), f"sqlstate-{answer.status}"

    @property
    def database(self) -> Database:
        """Known once it is open."""
        return self._database

    def refusal(self, error: DBAPIError) -> Answer:
        """What the database said no to. Raises where it is in trouble: nothing was done then."""
        if timed_out(error):
            raise TimeoutError from None
        if passing(error):
            raise _unavailable(error) from None
        complaint = self._database.complaint(error)
        return Answer(complaint.state, {"constraint": complaint.constraint, "message": complaint.message}, {})

    def bound(self, call: SqlCall, attempt: Attempt) -> dict[str, Any]:
        decimals = self._database.has_decimals
        return {name: parameter(read(attempt.root), decimals=decimals) for name, read in call.parameters.items()}


class _Read:
    """A query, in a transaction that cannot write and is rolled back."""

    def __init__(self, backend: Sql, call: SqlCall) -> None:
        self._backend, self._call = backend, call

    async def __call__(self, attempt: Attempt) -> Answer:
        parameters = self._backend.bound(self._call, attempt)
        async with self._backend.places:
            try:
                return await self._read(attempt, parameters)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    return self._backend.refusal(error)
            try:  # the connection had died in the pool, and with it all that were there
                return await self._read(attempt, parameters)
            except DBAPIError as error:
                return self._backend.refusal(error)

    async def _read(self, attempt: Attempt, parameters: dict[str, Any]) -> Answer:
        database = self._backend.database
        try:
            async with database.connected() as connection:
                await database.limit(connection, attempt.left_s())
                try:
                    return await self._rows(connection, parameters)
                except Failed:
                    await connection.invalidate()  # what it has more is not read
                    raise
        except OSError as error:
            raise _unavailable(error) from None

    async def _rows(self, connection: AsyncConnection, parameters: dict[str, Any]) -> Answer:
        options = {"max_row_buffer": min(self._call.most + 1, 100)}
        async with connection.stream(self._call.sql.clause, parameters, execution_options=options) as result:
            try:
                reading = self._call.reading(result.keys(), self._backend.config.max_answer_bytes)
            except ResourceClosedError:
                raise Failed("backend-no-rows") from None
            async for row in result:
                reading.take(row)
            return _answer(self._call, reading)


class _Write:
    """A submission, in the transaction of its request."""

    def __init__(self, backend: Sql, call: SqlCall) -> None:
        self._backend, self._call = backend, call

    async def __call__(self, attempt: Attempt) -> Answer:
        attempt.begun = False  # nothing stays of it without the commit, which comes later
        if attempt.request is None:
            raise TypeError("a statement that writes is part of a request")
        connection, database = attempt.request.transaction(), self._backend.database
        parameters = self._backend.bound(self._call, attempt)
        try:
            await database.limit(connection, attempt.left_s())
            async with database.part(connection):
                return await self._done(connection, parameters)
        except DBAPIError as error:
            return self._backend.refusal(error)

    async def _done(self, connection: AsyncConnection, parameters: dict[str, Any]) -> Answer:
        result = await connection.execute(self._call.sql.clause, parameters)
        if not result.returns_rows:
            return Answer(max(result.rowcount, 0), {}, {})
        reading = self._call.reading(result.keys(), self._backend.config.max_answer_bytes)
        for row in result:
            reading.take(row)
        return _answer(self._call, reading)


def _answer(call: SqlCall, reading: Reading) -> Answer:
    rows = reading.rows
    if call.rows == "many":
        return Answer(len(rows), rows, {})
    return Answer(len(rows), rows[0] if rows else None, {})


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable("backend-address-refused" if isinstance(error, AddressRefused) else "backend-down")


def _check(service: ServiceManifest, call: SqlCall) -> None:
    """Wrong where the statement does not go with the service, or its names not with the parameters."""
    if (service.mode == "submission") != (service.effect == "transactional"):
        raise Wrong(
            Text(
                "Câu lệnh SQL là tra cứu (mode: query) hoặc nộp với effect: transactional.",
                "An SQL statement is a query (mode: query), or a submission with effect: transactional.",
            )
        )
    if service.mode == "query" and call.sql.verb not in READING:
        known = ", ".join(READING)
        raise Wrong(
            Text(f"Tra cứu phải bắt đầu bằng: {known}.", f"A query begins with one of: {known}."),
            ("sql",),
        )
    if missing := sorted(call.sql.names - call.parameters.keys()):
        raise Wrong(
            Text(
                f"Thiếu tham số {', '.join(missing)}; nếu không phải tham số, viết \\: trước nó.",
                f"The parameters lack {', '.join(missing)}; where it is none, write \\: before it.",
            ),
            ("parameters",),
        )
    if unused := sorted(call.parameters.keys() - call.sql.names):
        raise Wrong(
            Text(f"Câu lệnh không dùng :{unused[0]}: hãy bỏ.", f"The statement does not use :{unused[0]}: drop it."),
            ("parameters", unused[0]),
        )
