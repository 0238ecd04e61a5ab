"""Gateways and adapters that end: by SIGTERM under load, cut off in the middle, pushed aside by their successor."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import orjson
import pytest

from ngsp.cli import FENCED_EXIT
from ngsp.local.child import signal_to
from ngsp.local.kafka import LocalKafka
from ngsp.local.ports import free_port
from ngsp.local.postgres import LocalPostgres
from ngsp.transactions import entry
from tests.faults.reconcile import open_work
from tests.faults.world import POST, READ, World
from tests.support.waiting import until

pytestmark = pytest.mark.postgres

DRAIN_TIMEOUT_S = 5
LEASE_S = 2.0
REFUSED = "connection refused"
OPEN = '"gateway open"'
"""Stands in a gateway's log where it has started."""


@pytest.fixture(scope="module")
async def module_world(
    own_postgres: LocalPostgres, own_kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("drain")
    settings = {"NGSP_DRAIN_TIMEOUT_S": str(DRAIN_TIMEOUT_S), "NGSP_LEASE_S": str(LEASE_S)}
    world = await World.make(folder, own_postgres, own_kafka, 2, **settings)
    world.installation.environment["NGSP_ADAPTER_DRAIN_TIMEOUT_S"] = str(DRAIN_TIMEOUT_S)
    async with world.installation:
        yield world


@pytest.fixture
async def world(module_world: World) -> AsyncIterator[World]:
    """Everything runs again after each test."""
    yield module_world
    await module_world.all_up()


async def in_flight(world: World, number: int) -> None:
    async def found() -> bool:
        return await open_work(world.installation) >= number

    await until(found, f"{number} calls in flight", 60.0)


async def nothing_open(world: World) -> None:
    async def found() -> bool:
        return await open_work(world.installation) == 0

    await until(found, "every transaction to end", 60.0)


async def answer_of(world: World, caller: httpx.AsyncClient) -> httpx.Response | httpx.HTTPError:
    """What a caller gets that comes now, on a connection of its own."""
    headers = {"Authorization": f"Bearer {await world.installation.token()}", "Ngsp-Purpose": "testing"}
    try:
        url = f"{world.installation.url('gateway-1')}/v1/services/{READ}"
        return await caller.post(url, json=world.body(), headers=headers)
    except httpx.HTTPError as error:
        return error


def told_by(answer: httpx.Response | BaseException) -> str:
    """Status and code, or no connection: the kernel resets what waits for a listener that is closed."""
    if isinstance(answer, httpx.Response):
        return "200" if answer.status_code == 200 else f"{answer.status_code} {answer.json()['code']}"
    return REFUSED if isinstance(answer, httpx.ConnectError | httpx.ReadError) else repr(answer)


async def test_a_gateway_finishes_what_it_has_and_takes_nothing_new(world: World) -> None:
    installation, began = world.installation, entry.now()
    calls = [asyncio.create_task(installation.call(READ, world.body(delay_ms=2_000))) for _ in range(20)]
    await in_flight(world, 10)
    sent = [await world.submit(POST, delay_ms=300) for _ in range(5)]
    stopping = asyncio.create_task(installation.stop("gateway-1"))
    found: list[httpx.Response | BaseException] = []
    async with httpx.AsyncClient(timeout=10.0, limits=httpx.Limits(max_keepalive_connections=0)) as caller:
        while not stopping.done():
            found.append(await answer_of(world, caller))
    assert await stopping == 0
    found += await asyncio.gather(*calls, return_exceptions=True)
    told = Counter(told_by(answer) for answer in found)
    answers = [answer for answer in found if isinstance(answer, httpx.Response) and answer.status_code == 200]
    assert len(answers) >= 10
    assert set(told) - {"200", "503 draining", REFUSED} == set(), told
    assert told["503 draining"] + told[REFUSED] > 0
    await nothing_open(world)  # the submissions by the other gateway
    for tx in sent:
        assert await world.endings(tx) == [entry.SUCCEEDED]
        assert await world.in_ledger(tx) == 1
    answered = {answer.headers["Ngsp-Transaction"] for answer in answers}
    for tx in answered:
        assert await installation.kinds(tx) == [entry.ACCEPTED, entry.SUCCEEDED]
    accepted = await installation.rows("SELECT DISTINCT tx::text AS tx FROM entries WHERE at >= $1", began)
    assert {row["tx"] for row in accepted} == answered | set(sent), "one was taken and not answered"


async def test_a_call_that_takes_longer_than_the_drain_ends_as_unknown(world: World) -> None:
    """And though its gateway never comes back: the other one closes it."""
    installation = world.installation
    call = asyncio.create_task(installation.call(READ, world.body(delay_ms=12_000)))
    await in_flight(world, 1)
    assert await installation.stop("gateway-1") == 0
    answer = await call
    assert (answer.status_code, answer.json()["code"]) == (503, "draining")
    tx = await installation.value("SELECT tx::text FROM entries WHERE kind = 1 ORDER BY at DESC LIMIT 1")
    await world.ended(tx, entry.UNKNOWN)


async def test_an_adapter_finishes_what_it_has(world: World) -> None:
    installation = world.installation
    sent = [await world.submit(POST, delay_ms=1_000) for _ in range(12)]

    async def in_work() -> bool:
        begun = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
        return int(await installation.value(begun, url=world.ledger_url)) >= 4

    await until(in_work, "effects to be in work")
    before = await world.ledger_size()
    assert await installation.stop("ledger") == 0
    assert await world.ledger_size() >= before + 4
    assert world.logged("adapter stopped", "ledger") >= 1
    await installation.start("ledger")
    await nothing_open(world)
    for tx in sent:
        assert await world.endings(tx) == [entry.SUCCEEDED]
        assert await world.in_ledger(tx) == 1


async def test_an_adapter_answers_the_queries_it_has(world: World) -> None:
    installation = world.installation
    before = world.logged("begun", "reading")
    calls = [asyncio.create_task(installation.call(READ, world.body(delay_ms=1_000))) for _ in range(10)]
    await until(lambda: world.logged("begun", "reading") == before + 10, "the adapter to have them all")
    stopping = asyncio.create_task(installation.stop("reading"))
    answers = await asyncio.gather(*calls)
    assert await stopping == 0
    assert Counter(answer.status_code for answer in answers) == {200: 10}


async def test_a_caller_that_goes_away_does_not_stop_the_entry(world: World) -> None:
    installation = world.installation
    body = orjson.dumps(world.body(delay_ms=1_000))
    head = (
        f"POST /v1/services/{READ} HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {await installation.token()}\r\nNgsp-Purpose: testing\r\nNgsp-Officer: gone-away\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    _, writer = await asyncio.open_connection("127.0.0.1", installation.ports["gateway-1"])
    writer.write(head.encode() + body)
    await writer.drain()
    by_officer = """SELECT tx::text FROM entries WHERE kind = 1
        AND convert_from(body, 'UTF8')::jsonb->'call'->>'officer' = 'gone-away'"""

    async def accepted() -> bool:
        return await installation.value(by_officer) is not None

    await until(accepted, "the call to be accepted")
    writer.transport.abort()
    await world.ended(await installation.value(by_officer), entry.SUCCEEDED)


@asynccontextmanager
async def standing_still(world: World, gateway: str) -> AsyncIterator[Process]:
    """Nothing of the process moves meanwhile; its connections stay."""
    process = world.installation.programs.running[gateway]
    signal_to(process, signal.SIGSTOP)
    try:
        yield process
    finally:
        signal_to(process, signal.SIGCONT)


async def test_a_gateway_that_hangs_is_taken_for_dead_and_goes_when_it_wakes(world: World) -> None:
    """What it had accepted is closed by the other one, and nothing is written by it afterwards."""
    installation = world.installation
    await longer_than_a_lease(world, "gateway-2")
    calls = [asyncio.create_task(installation.call(READ, world.body(delay_ms=2_000))) for _ in range(10)]
    await in_flight(world, 5)
    async with standing_still(world, "gateway-1") as hanging:
        open_then = await unended(world)
        await nothing_open(world)
    async with asyncio.timeout(30):
        assert await hanging.wait() == FENCED_EXIT
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {answer.status_code for answer in answers if isinstance(answer, httpx.Response)} <= {200, 503, 504}
    for tx in open_then:
        endings = await world.endings(tx)
        assert endings in ([entry.SUCCEEDED], [entry.UNKNOWN], [entry.UNKNOWN, entry.RESOLVED]), endings


@asynccontextmanager
async def made_to_wait(world: World, lock: str, session: str) -> AsyncIterator[None]:
    """The block begins when a session of that name waits for `lock` in the middle of its transaction; the lock goes at
    the end of the block."""
    connection = await asyncpg.connect(world.installation.database_url)

    async def waits() -> bool:
        found = await world.installation.value(
            """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
            AND application_name LIKE $1 || '%' AND wait_event_type = 'Lock'""",
            session,
        )
        return bool(found)

    try:
        async with connection.transaction():
            await connection.execute(lock)
            await until(waits, f"{session} to wait for: {lock}")
            yield
    finally:
        await connection.close()


@pytest.mark.parametrize("where", ["log", pytest.param("projection", marks=pytest.mark.long)])
async def test_a_gateway_that_hangs_in_a_transaction_holds_nobody_up(world: World, where: str) -> None:
    """What it has locked there (its epoch and an idempotency key, or the projection) is free when it is fenced."""
    installation = world.installation
    holder = await installation.value("SELECT holder FROM leases WHERE name = 'project' AND until > now()")
    hangs = str(holder).partition("/")[0] if where == "projection" else "gateway-1"
    other = next(name for name in installation.gateways if name != hangs)
    await longer_than_a_lease(world, other)
    locks = {
        "log": (f"SELECT 1 FROM gateways WHERE instance = '{hangs}' FOR UPDATE", f"ngsp-log:{hangs}"),
        "projection": ("LOCK TABLE transactions IN SHARE MODE", f"ngsp:{hangs}"),
    }
    body, key = world.body(), "hangs" if where == "log" else ""
    await installation.token()  # not from the one that hangs
    call = asyncio.create_task(installation.call(READ, body | {"delay_ms": 2_000}, gateway=hangs, key=key))
    if where == "projection":
        await in_flight(world, 1)
    async with AsyncExitStack() as stack:
        async with made_to_wait(world, *locks[where]):
            hanging = await stack.enter_async_context(standing_still(world, hangs))

        async def answered() -> bool:
            answer = await installation.call(READ, body | {"delay_ms": 2_000}, gateway=other, key=key)
            return answer.status_code == 200

        await until(answered, "the other gateway to answer", 60.0)
        await nothing_open(world)
    async with asyncio.timeout(30):
        assert await hanging.wait() == FENCED_EXIT
    # 200: it finds its key taken by the other one's call, which has ended by then.
    assert (await call).status_code in ((200, 503) if key else (503, 504))


async def longer_than_a_lease(world: World, gateway: str) -> None:
    """Waits until `gateway` has been up for long enough to take another for dead."""
    lines = world.installation.programs.log(gateway).read_text("utf-8").splitlines()
    opened = datetime.fromisoformat(next(orjson.loads(line)["timestamp"] for line in reversed(lines) if OPEN in line))
    ready = opened + timedelta(seconds=LEASE_S * 1.6)
    await until(lambda: datetime.now(UTC) > ready, "the gateways to know each other")


async def unended(world: World) -> list[str]:
    found = await world.installation.rows("""
        SELECT tx::text AS tx FROM entries e WHERE kind = 1
        AND NOT EXISTS (SELECT 1 FROM entries t WHERE t.tx = e.tx AND t.kind BETWEEN 3 AND 7)""")
    return [row["tx"] for row in found]


async def test_of_two_processes_of_one_name_the_older_ends(world: World) -> None:
    installation = world.installation
    calls = [asyncio.create_task(installation.call(READ, world.body(delay_ms=12_000))) for _ in range(10)]
    await in_flight(world, 10)
    open_then = await unended(world)
    port = free_port()
    environment = installation.gateway_environment("gateway-1") | {"NGSP_PORT": str(port)}
    await installation.programs.start("twin", ["-m", "ngsp", "serve"], environment)
    older = installation.programs.running["gateway-1"]
    async with asyncio.timeout(60):
        assert await older.wait() == FENCED_EXIT
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {answer.status_code for answer in answers if isinstance(answer, httpx.Response)} <= {503, 504}
    await nothing_open(world)
    for tx in open_then:
        endings = await world.endings(tx)
        assert endings in ([entry.UNKNOWN], [entry.UNKNOWN, entry.RESOLVED]), endings
    async with httpx.AsyncClient() as caller:
        assert (await caller.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
    assert await installation.stop("twin") == 0
