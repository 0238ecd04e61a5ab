"""A connection lost in COMMIT: nobody knows, so the log is read back; nothing twice, nothing lost, whichever it was."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from ngsp.database import connect
from ngsp.errors import LogUnavailable
from ngsp.local.postgres import LocalPostgres
from ngsp.messages import uuid7
from ngsp.transactions import entry, partitions
from ngsp.transactions.work import Transaction
from tests.faults.cutting import Cut, Moment, cutting
from tests.support.registry import migrated_database
from tests.support.waiting import until
from tests.transactions.logs import Called, Writing, grant_of, writing

pytestmark = pytest.mark.postgres

TIMEOUT_S = 1.0
MODES: tuple[Called, Called] = ("query", "submission")
MOMENTS: tuple[Moment, ...] = ("before", "after")


def transaction(gateway: Writing, mode: Called) -> Transaction:
    """Not yet accepted; always under the same key for its mode."""
    tx, at = uuid7(), entry.now()
    return Transaction(
        id=tx,
        at=at,
        grant=grant_of(mode=mode),
        mode=mode,
        call={"client": "h41-portal"},
        deadline=at + timedelta(seconds=60),
        body=b"{}",
        key=gateway.vault.new_record_key(tx),
        idempotency_key=f"key-{mode}",
    )


class Log:
    """A gateway's writing side whose connection can be cut, and the log as the database has it."""

    def __init__(self, gateway: Writing, cut: Cut, rows: asyncpg.Pool) -> None:
        self.gateway, self.cut, self.rows = gateway, cut, rows

    async def kinds(self) -> Counter[tuple[str, int]]:
        found = await self.rows.fetch("SELECT tx::text AS tx, kind FROM entries")
        return Counter((row["tx"], row["kind"]) for row in found)


@pytest.fixture
async def log(own_postgres: LocalPostgres) -> AsyncIterator[Log]:
    url = await migrated_database(own_postgres)
    connection = await connect(url)
    await partitions.ensure(connection, entry.now())
    await connection.close()
    # A socket's address is short: the folder of the test would be too long a name for it.
    with tempfile.TemporaryDirectory(prefix="ngsp-cut-") as folder:
        async with (
            cutting(url, Path(folder)) as (through, cut),
            asyncpg.create_pool(url, min_size=1) as rows,
            writing(through) as gateway,
        ):
            gateway.writer._timeout_s = TIMEOUT_S
            yield Log(gateway, cut, rows)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_queries(log: Log, moment: Moment) -> None:
    log.cut.at = moment
    opened = await asyncio.gather(*(log.gateway.open() for _ in range(20)))
    assert log.cut.cuts == 1
    assert await log.kinds() == Counter({(transaction.id, entry.ACCEPTED): 1 for transaction in opened})


@pytest.mark.parametrize("moment", MOMENTS)
async def test_submissions_with_keys(log: Log, moment: Moment) -> None:
    """Each is accepted, none is told that its own key is taken."""
    log.cut.at = moment
    grant = grant_of(mode="submission")
    opened = await asyncio.gather(*(log.gateway.open(grant, key=f"key-{number}") for number in range(20)))
    assert log.cut.cuts == 1
    assert await log.kinds() == Counter({(transaction.id, entry.ACCEPTED): 1 for transaction in opened})
    assert await log.rows.fetchval("SELECT count(*) FROM outbox WHERE state = 'open'") == 20
    assert await log.rows.fetchval("SELECT count(*) FROM idempotency_keys") == 20


async def _told_nothing(log: Log, moment: Moment) -> tuple[Transaction, Transaction]:
    """A query and a submission, with keys, in one batch whose commit is in doubt for longer than they wait."""
    log.cut.at, log.cut.stays_away = moment, True
    query, submission = (transaction(log.gateway, mode) for mode in MODES)
    found = await asyncio.gather(*(log.gateway.log.accept(t) for t in (query, submission)), return_exceptions=True)
    for transaction_, error in zip((query, submission), found, strict=True):
        assert isinstance(error, LogUnavailable), error
        in_doubt = error.members == {"outcome_unknown": True, "safe_to_repeat": True}
        assert in_doubt == (transaction_ is submission)
    log.cut.stays_away = False
    await until(lambda: not log.gateway.writer.trouble(), "the log to be written again")
    return query, submission


async def test_a_commit_that_was_done_after_all(log: Log) -> None:
    """The query was never passed on: it is closed, its key is free. The submission goes its way under its key."""
    query, submission = await _told_nothing(log, "after")

    async def undone() -> bool:
        return (await log.kinds())[query.id, entry.FAILED] == 1

    await until(undone, "the query to be closed")
    assert await log.kinds() == Counter(
        {(query.id, entry.ACCEPTED): 1, (query.id, entry.FAILED): 1, (submission.id, entry.ACCEPTED): 1}
    )
    assert await log.rows.fetchval("SELECT state FROM outbox WHERE tx = $1", submission.id) == "open"
    assert await log.gateway.log.accept(transaction(log.gateway, "query")) == "accepted"
    assert await log.gateway.log.accept(transaction(log.gateway, "submission")) == "key-taken"


async def test_a_commit_that_was_not_done(log: Log) -> None:
    """Nothing of them is stored, now or later; both keys are free."""
    await _told_nothing(log, "before")
    assert await log.gateway.log.accept(transaction(log.gateway, "query")) == "accepted"
    assert await log.gateway.log.accept(transaction(log.gateway, "submission")) == "accepted"
    assert len(await log.kinds()) == 2
