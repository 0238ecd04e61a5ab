"""Gateways that write into a real log, and what they write."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

import asyncpg

from ngsp.database import connect
from ngsp.messages import ServiceKey, uuid7
from ngsp.registry.model import Agreement, Grant, Schema, Service
from ngsp.text import Text
from ngsp.transactions import entry
from ngsp.transactions.entry import Row, Scribe
from ngsp.transactions.gateways import register
from ngsp.transactions.log import TransactionLog
from ngsp.transactions.work import Conclusion, Transaction
from ngsp.transactions.writer import ENTRY_COLUMNS, LogWriter, Write
from ngsp.vault import Vault

Called = Literal["query", "submission"]
KEK = bytes(range(32))
BODY = '{"id": "900123456789", "ghi chú": "đủ"}'.encode()
REPLY = '{"name":  "Nguyễn Thị Thử",\n "id": "900123456789"}'.encode()
"""Spaces and a line end on purpose: it must come back byte for byte."""


def grant_of(
    consumer: str = "H41",
    service: str = "G01.01/population-lookup/v1",
    purpose: str = "birth-registration",
    mode: Called = "query",
    agreement: str = "",
) -> Grant:
    """`agreement`: its id; of its own for each consumer, service and mode where none is given."""
    number = zlib.crc32(f"{consumer} {service} {mode}".encode())
    agreement = agreement or f"0192f0c1-0000-7000-8000-{number:012x}"
    schema = Schema({"type": "object"}, "0" * 64)
    title = Text("Một dịch vụ", "A service")
    offered = Service(
        ServiceKey.parse(service), title, title, mode, "idempotent", 5.0, 65_536, schema, schema, "g01-population"
    )
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    agreed = Agreement(
        agreement, 3, consumer, service, frozenset((purpose,)), "Luật Căn cước", ("/name",), None, None, begun,
        None, "accepted",
    )  # fmt: skip
    return Grant(offered, agreed, purpose)


Call = dict[str, str]


def call_of(call: Call | None) -> Call:
    return {"client": "h41-portal", **(call or {})}


@dataclass(slots=True)
class Writing:
    """The writing side of one gateway."""

    instance: str
    epoch: int
    scribe: Scribe
    writer: LogWriter
    log: TransactionLog
    vault: Vault
    opened: dict[str, Transaction] = field(default_factory=dict)

    async def rows(self, *rows: Row) -> None:
        """These entries in one batch of the writer."""
        await self.writer.submit(Write(rows, keep=True))

    def accepted(
        self, tx: str, grant: Grant | None = None, at: datetime | None = None, call: Call | None = None
    ) -> Row:
        grant, at = grant or grant_of(), at or entry.now()
        key = self.vault.new_record_key(tx)
        digest = key.digest(BODY)
        deadline = at + timedelta(seconds=5)
        mode = grant.service.mode
        return self.scribe.accepted(tx, at, grant, mode, call_of(call), deadline, len(BODY), digest, key.wrapped)

    def ended(
        self, tx: str, kind: int, at: datetime | None = None, reply_bytes: int | None = None, **outcome: Any
    ) -> Row:
        """`failed`: the member `class`."""
        reply = (reply_bytes, os.urandom(32)) if reply_bytes is not None else None
        if failed := outcome.pop("failed", ""):
            outcome["class"] = failed
        return self.scribe.ended(kind, tx, at or entry.now(), {"status": 200, **outcome}, reply)

    async def open(
        self, grant: Grant | None = None, mode: Called | None = None, key: str = "", call: Call | None = None
    ) -> Transaction:
        """A transaction accepted as the exchange does it."""
        grant, at, tx = grant or grant_of(), entry.now(), uuid7()
        transaction = Transaction(
            id=tx,
            at=at,
            grant=grant,
            mode=mode or cast("Called", grant.service.mode),
            call=call_of(call),
            deadline=at + timedelta(seconds=60),
            body=BODY,
            key=self.vault.new_record_key(tx),
            idempotency_key=key,
        )
        assert await self.log.accept(transaction) == "accepted"
        return transaction

    async def submit(self, key: str) -> Transaction:
        return await self.open(grant_of(mode="submission"), key=key)

    async def conclude(self, transaction: Transaction, conclusion: Conclusion | None = None) -> None:
        """Success with REPLY where nothing else is said."""
        conclusion = conclusion or Conclusion(entry.SUCCEEDED, body=REPLY, adapter="g01-population")
        if transaction.mode == "query":
            await self.log.conclude(transaction, conclusion)
        else:
            path = transaction.grant.service.path
            assert await self.log.conclude_submission(transaction.id, path, transaction.key, conclusion)


@asynccontextmanager
async def writing(url: str, instance: str = "gateway-1") -> AsyncIterator[Writing]:
    connection = await connect(url)
    registration = await register(connection, instance)
    await connection.close()
    fenced: list[str] = []
    writer = LogWriter(url, registration, timeout_s=10.0, on_fenced=lambda: fenced.append(instance))
    await writer.start()
    scribe, vault = Scribe("VN", instance, registration.epoch), Vault(KEK)
    log = TransactionLog(writer, scribe, vault, key_life=timedelta(days=30), reply_life=timedelta(days=30))
    try:
        yield Writing(instance, registration.epoch, scribe, writer, log, vault)
    finally:
        await writer.stop(10.0)
    assert not fenced


async def copy_rows(connection: asyncpg.Connection, gateway: Writing, rows: list[Row]) -> None:
    """Entries as the writer copies them, but in a transaction that the test holds open."""
    await connection.execute(f"SET ngsp.instance = '{gateway.instance}'; SET ngsp.epoch = '{gateway.epoch}'")
    records = [(*row, seq) for seq, row in enumerate(rows)]
    await connection.copy_records_to_table("entries", records=records, columns=ENTRY_COLUMNS)


def broken(row: Row, change: Callable[[dict[str, Any]], Any] | bytes) -> Row:
    """The row with a body that is not of the form."""
    at, tx, kind, body, wrapped = row
    if isinstance(change, bytes):
        return at, tx, kind, change, wrapped
    members = json.loads(body)
    change(members)
    return at, tx, kind, json.dumps(members).encode(), wrapped
