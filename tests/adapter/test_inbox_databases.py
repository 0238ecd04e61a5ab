"""The inbox in the provider's database, of each kind: who waits, who comes again, and what is never done twice."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.adapter.databases import database_at, passing
from ngsp.adapter.inbox import TransactionalInbox
from ngsp.adapter.manifest import ManifestError
from ngsp.messages import Envelope, Reply, uuid7
from ngsp.vault import Vault
from tests.adapter.office import KEY, make_ledger
from tests.support.providers import FILES, SERVERS, Provider

LARGEST_REPLY = bytes(2_000_000)


def envelope_of(deadline_s: float = 60.0) -> Envelope:
    return Envelope(uuid7(), "H41/entry/v1", int((time.time() + deadline_s) * 1000), "p", ("",), "s", "r", b"{}")


class Process:
    """An adapter process, so far as its inbox is concerned. Its effect is a row in the ledger."""

    def __init__(self, provider: Provider) -> None:
        self.inbox = TransactionalInbox(provider.url, Vault(KEY))
        self.begun, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.executed = 0
        self.fails = False
        self.reply = b"{}"

    async def once(self, envelope: Envelope) -> Reply:
        async def execute(connection: AsyncConnection | None) -> Reply:
            assert connection
            self.executed += 1
            await connection.execute(text("INSERT INTO ledger VALUES (:id, '', NULL)"), {"id": envelope.id})
            self.begun.set()
            await self.gate.wait()
            if self.fails:
                raise RuntimeError("it gives up")
            return Reply(envelope.id, envelope.service, "ok", self.reply)

        return await self.inbox.once(envelope, execute)


@pytest.fixture
async def processes(provider: Provider) -> AsyncIterator[list[Process]]:
    """Three of them, on one database."""
    await make_ledger(provider.engine)
    found = [Process(provider) for _ in range(3)]
    for process in found:
        await process.inbox.prepare()
    yield found
    for process in found:
        await process.inbox.close()


async def entered(provider: Provider, envelope: Envelope) -> int:
    return int(await provider.value("SELECT count(*) FROM ledger WHERE message = :id", id=envelope.id))


async def test_several_processes_make_the_table_at_once(provider: Provider) -> None:
    await provider.run("DROP TABLE IF EXISTS ngsp_inbox")
    inboxes = [TransactionalInbox(provider.url, Vault(KEY)) for _ in range(8)]
    await asyncio.gather(*(inbox.prepare() for inbox in inboxes))
    for inbox in inboxes:
        await inbox.close()
    assert await provider.rows("SELECT * FROM ngsp_inbox") == []


async def test_a_repeat_at_another_process_waits_and_finds_the_reply(
    provider: Provider, processes: list[Process]
) -> None:
    first, *others = processes
    envelope = envelope_of()
    first.gate.clear()
    first.reply = b"the first's"
    running = asyncio.create_task(first.once(envelope))
    await asyncio.wait_for(first.begun.wait(), 20)
    waiting = [asyncio.create_task(other.once(envelope)) for other in others]
    done, _ = await asyncio.wait(waiting, timeout=0.2)
    assert not done
    first.gate.set()
    for task in (running, *waiting):
        assert (await asyncio.wait_for(task, 20)).body == b"the first's"
    assert [process.executed for process in processes] == [1, 0, 0]
    assert await entered(provider, envelope) == 1


@pytest.mark.parametrize("round", range(3))
async def test_when_the_first_gives_up_another_does_it_once(
    provider: Provider, processes: list[Process], round: int
) -> None:
    """The database may end one of those that waited; that one is told to come again, and finds the reply then."""
    first, *others = processes
    envelope = envelope_of()
    first.gate.clear()
    first.fails = True
    running = asyncio.create_task(first.once(envelope))
    await asyncio.wait_for(first.begun.wait(), 20)
    waiting = [asyncio.create_task(other.once(envelope)) for other in others]
    await asyncio.wait(waiting, timeout=0.05)
    first.gate.set()
    with pytest.raises(RuntimeError, match="gives up"):
        await asyncio.wait_for(running, 20)
    ends = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 20)
    assert [end for end in ends if isinstance(end, Reply)], ends
    assert all(isinstance(end, Reply) or passing(end) for end in ends), ends
    for process in processes:
        process.fails = False
        assert (await process.once(envelope)).status == "ok"
    assert first.executed == 1 == sum(other.executed for other in others)
    assert await entered(provider, envelope) == 1


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_deadlock_passes_and_nothing_of_it_stays(provider: Provider, processes: list[Process]) -> None:
    await provider.run(
        "DROP TABLE IF EXISTS locks", "CREATE TABLE locks (k INT PRIMARY KEY)", "INSERT INTO locks VALUES (1), (2)"
    )
    held = [asyncio.Event(), asyncio.Event()]

    async def crosswise(process: Process, number: int, envelope: Envelope) -> Reply:
        lock = text("SELECT k FROM locks WHERE k = :k FOR UPDATE")

        async def execute(connection: AsyncConnection | None) -> Reply:
            assert connection
            await connection.execute(text("INSERT INTO ledger VALUES (:id, '', NULL)"), {"id": envelope.id})
            await connection.execute(lock, {"k": 1 + number})
            held[number].set()
            await held[1 - number].wait()
            await connection.execute(lock, {"k": 2 - number})
            return Reply(envelope.id, envelope.service, "ok")

        return await process.inbox.once(envelope, execute)

    envelopes = [envelope_of(), envelope_of()]
    ends = await asyncio.gather(
        *(crosswise(processes[number], number, envelopes[number]) for number in range(2)), return_exceptions=True
    )
    assert sorted(isinstance(end, Reply) for end in ends) == [False, True]
    assert all(isinstance(end, Reply) or passing(end) for end in ends)
    for end, envelope in zip(ends, envelopes, strict=True):
        assert await entered(provider, envelope) == isinstance(end, Reply)
        assert (await processes[2].once(envelope)).status == "ok"
        assert await entered(provider, envelope) == 1


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_a_session_that_is_ended_in_the_middle_leaves_nothing(
    provider: Provider, processes: list[Process]
) -> None:
    which, end = (
        ("CONNECTION_ID()", "KILL {}")
        if provider.kind == "mariadb"
        else ("pg_backend_pid()", "SELECT pg_terminate_backend({})")
    )
    envelope = envelope_of()

    async def execute(connection: AsyncConnection | None) -> Reply:
        assert connection
        session = (await connection.execute(text(f"SELECT {which}"))).scalar_one()
        await connection.execute(text("INSERT INTO ledger VALUES (:id, '', NULL)"), {"id": envelope.id})
        await provider.run(end.format(session))
        await connection.execute(text("SELECT 1"))
        raise AssertionError

    with pytest.raises(DBAPIError) as ended:
        await processes[0].inbox.once(envelope, execute)
    assert passing(ended.value)
    assert await entered(provider, envelope) == 0
    assert (await processes[0].once(envelope)).status == "ok"
    assert await entered(provider, envelope) == 1


@pytest.mark.parametrize("provider", FILES, indirect=True)
async def test_a_file_that_another_writes_to_for_long_is_come_back_to(
    provider: Provider, processes: list[Process]
) -> None:
    path = provider.url.removeprefix("sqlite:///")
    impatient = database_at(provider.url, connections=1, connect_timeout_s=0.05)
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DBAPIError) as locked:
            async with impatient.engine.begin():
                raise AssertionError
        assert passing(locked.value)
        envelope = envelope_of()
        waiting = asyncio.create_task(processes[0].once(envelope))
        await asyncio.wait([waiting], timeout=0.1)
        other.execute("COMMIT")
    other.close()
    assert (await asyncio.wait_for(waiting, 20)).status == "ok"
    await impatient.close()


async def test_the_largest_reply_is_kept(provider: Provider, processes: list[Process]) -> None:
    envelope = envelope_of()
    processes[0].reply = LARGEST_REPLY
    assert (await processes[0].once(envelope)).body == LARGEST_REPLY
    assert (await processes[1].once(envelope)).body == LARGEST_REPLY
    assert processes[1].executed == 0


SLOW = {
    "postgresql": "SELECT pg_sleep(30)",
    "mariadb": "SELECT SLEEP(30)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
}


async def test_the_server_gives_up_what_takes_too_long_and_only_that(provider: Provider) -> None:
    database = database_at(provider.url, connections=1)
    async with database.engine.connect() as connection:
        began = time.monotonic()
        await database.limit(connection, 0.2)
        with pytest.raises(DBAPIError) as late:
            await connection.execute(text(SLOW[provider.kind]))
        assert passing(late.value)
        assert time.monotonic() - began < 20
    async with database.engine.connect() as connection:
        unlimited = {
            "postgresql": "SELECT current_setting('statement_timeout') = '0'",
            "mariadb": "SELECT @@max_statement_time = 0",
            "sqlite": f"{SLOW['sqlite'].replace('FROM n)', 'FROM n LIMIT 100000)')}",
        }
        assert (await connection.execute(text(unlimited[provider.kind]))).scalar_one()
    await database.close()


async def test_one_text_is_one_statement(provider: Provider) -> None:
    async with provider.engine.connect() as connection:
        with pytest.raises(DBAPIError):
            await connection.exec_driver_sql("INSERT INTO ledger VALUES ('a', 'b', NULL); DELETE FROM ledger")


async def test_a_session_for_reading_writes_nothing(provider: Provider) -> None:
    database = database_at(provider.url, connections=1, read_only=True)
    for statement in (
        "INSERT INTO ledger VALUES ('written', '', NULL)",
        "CREATE TABLE made (a INT)",
        "DROP TABLE ledger",
    ):
        async with database.engine.connect() as connection:
            with pytest.raises(DBAPIError) as refused:
                await connection.exec_driver_sql(statement)
            assert not passing(refused.value)
            assert database.complaint(refused.value).state == "25006"
    await database.close()
    assert await provider.value("SELECT count(*) FROM ledger WHERE message = 'written'") == 0


@pytest.mark.parametrize("provider", SERVERS, indirect=True)
async def test_the_day_is_that_of_ha_noi(provider: Provider) -> None:
    shown = {
        "postgresql": "SELECT CAST(CURRENT_TIMESTAMP AS text)",
        "mariadb": "SELECT TIMEDIFF(NOW(), UTC_TIMESTAMP())",
    }
    assert str(await provider.value(shown[provider.kind])).endswith(("+07", "7:00:00"))


@pytest.mark.parametrize(
    "url",
    [
        "oracle://scott:tiger@host/db",
        "postgresql",
        "",
        "postgresql://user:tiger@host:port/db",
        "mysql://user:tiger@host/",
        "mysql://user:tiger@host/db?init_command=DROP",
        "mysql://user:tiger@host/db?ssl_ca=/does/not/exist",
        "mysql://user:tiger@host:port/db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:////file?mode=rwc",
    ],
)
def test_an_address_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ManifestError) as refused:
        database_at(url, connections=1)
    assert "tiger" not in str(refused.value)


async def test_a_file_that_is_not_there_is_not_made(tmp_path: object) -> None:
    database = database_at(f"sqlite:///{tmp_path}/none.sqlite3", connections=1)
    with pytest.raises(DBAPIError) as missing:
        async with database.engine.connect():
            raise AssertionError
    assert passing(missing.value)
    await database.close()
