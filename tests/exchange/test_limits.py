"""Limits and overload: room in flight, slow bodies, a log that cannot be written, draining."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg
import httpx
import pytest

from ngsp.adapter import Request
from ngsp.api.edge import Limits
from ngsp.local.postgres import LocalPostgres
from tests.support.gateway import Provider, Rig, agreement, running_gateway, service
from tests.support.problems import problem, shaped
from tests.support.waiting import until
from tests.support.wire import exchanged, head

ROOM = 8
ALONE = 7
"""What one client may have of it while nobody else is about."""
SHARE = 4
LOG_TIMEOUT_S = 2.0
BODY_TIMEOUT_S = 3.0


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    provider = Provider(
        services=[
            service("look-up", deadline_s=30),
            service("send", mode="submission", deadline_s=60),
        ],
        documents=[agreement("look-up", "of-the-stranger", consumer="H14")],
    )
    async with running_gateway(
        postgres,
        tmp_path_factory.mktemp("gateway"),
        provider,
        limits=Limits(body_timeout_s=BODY_TIMEOUT_S),
        max_in_flight=ROOM,
        max_log_wait_s=0.25,
        log_timeout_s=LOG_TIMEOUT_S,
        lease_s=3.0,
    ) as rig:
        for client in ("caller", "other", "stranger"):
            assert (await rig.call(by=client)).status_code == 200  # from now on each is known by its token
        yield rig


# Room


@asynccontextmanager
async def held_calls(rig: Rig) -> AsyncIterator[Callable[[str, int], Awaitable[list[asyncio.Task[httpx.Response]]]]]:
    """Gives what starts calls that stay in flight until the end of the block; then all of them must be answered."""
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    calls: list[asyncio.Task[httpx.Response]] = []

    async def start(by: str, number: int) -> list[asyncio.Task[httpx.Response]]:
        before = len(rig.provider.seen)
        begun = [asyncio.create_task(rig.call(by=by)) for _ in range(number)]
        calls.extend(begun)
        await until(lambda: len(rig.provider.seen) == before + number, "the calls to be in flight")
        return begun

    try:
        yield start
    finally:
        release.set()
        answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [200] * len(calls)


async def test_a_flood_of_one_client_leaves_room_for_others(rig: Rig) -> None:
    async with held_calls(rig) as start:
        await start("caller", ALONE)
        for answer in await asyncio.gather(*(rig.call() for _ in range(30))):
            problem(answer, 429, "too-many-requests")
            assert "Ngsp-Transaction" not in answer.headers
        await start("other", 1)
        problem(await rig.call(), 429, "too-many-requests")
        answer = await rig.call(by="stranger")
        problem(answer, 503, "overloaded")
        assert int(answer.headers["Retry-After"]) >= 1
    assert len(rig.provider.seen) == ALONE + 1
    async with held_calls(rig) as start:  # with another about, a client has its share and no more
        await start("other", 1)
        await start("caller", SHARE)
        problem(await rig.call(), 429, "too-many-requests")
        await start("stranger", 2)
    assert (await rig.call()).status_code == 200


async def test_surplus_is_refused_while_the_accepted_all_end_well(rig: Rig) -> None:
    refused = asyncio.Event()

    async def act(request: Request) -> object:
        await refused.wait()
        return {"did": str(request.payload["n"])}

    async def call(n: int) -> httpx.Response:
        answer = await rig.call(body={"n": n}, by=("caller", "other", "stranger")[n % 3])
        if answer.status_code != 200:
            refused.set()
        return answer

    rig.provider.act = act  # type: ignore[method-assign]
    answers = await asyncio.gather(*map(call, range(90)))
    accepted = [(n, answer) for n, answer in enumerate(answers) if answer.status_code == 200]
    assert ROOM <= len(accepted) < len(answers)
    assert all(answer.json()["did"] == str(n) for n, answer in accepted)
    for answer in answers:
        if answer.status_code != 200:
            assert answer.status_code in (429, 503)
            shaped(answer)
    assert len(rig.provider.seen) == len(accepted)
    for _, answer in accepted[:20]:
        assert await rig.kinds(answer.headers["Ngsp-Transaction"]) == ["accepted", "succeeded"]


async def test_slow_bodies_keep_nobody_out(rig: Rig) -> None:
    url = httpx.URL(rig.base_url)
    start = await head(rig, "Content-Length: 12")
    async with AsyncExitStack() as stack:
        halves: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        for _ in range(5 * ROOM):
            reader, writer = await asyncio.open_connection(url.host, url.port)
            stack.callback(writer.close)
            writer.write(start + b'{"do"')
            halves.append((reader, writer))
        for _ in range(4):
            answers = await asyncio.gather(*(rig.call(by=client) for client in ("caller", "other", "stranger")))
            assert [answer.status_code for answer in answers] == [200, 200, 200]
        rig.provider.seen.clear()
        for _, writer in halves[:3]:
            writer.write(b': "it"}')
        for reader, _ in halves[:3]:
            assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        assert len(rig.provider.seen) == 3
        assert halves[3][0].at_eof() is False
        for reader, _ in halves[3:]:  # the others have run out of time
            async with asyncio.timeout(4 * BODY_TIMEOUT_S):
                assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 408")
    slow = len(halves) - 3

    async def logged() -> bool:
        rows = await rig.rows.fetch("SELECT body FROM entries WHERE kind = 4")
        return sum(b'"code":"request-timeout"' in row["body"] for row in rows) == slow

    await until(logged, "an entry for each of them")
    assert (await rig.call()).status_code == 200


# The log


@asynccontextmanager
async def log_blocked(rig: Rig) -> AsyncIterator[None]:
    """Nobody can write into the log meanwhile."""
    connection = await asyncpg.connect(rig.settings.database_url.get_secret_value())
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE entries IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def test_a_log_that_falls_behind_and_one_that_cannot_be_written(rig: Rig) -> None:
    async with log_blocked(rig):
        queries = [asyncio.create_task(rig.call(Idempotency_Key=key)) for key in ("", "blocked")]
        submission = asyncio.create_task(rig.call("send", Idempotency_Key="blocked-too"))
        problem(await _until_refused(rig), 503, "overloaded")
        assert not any(task.done() for task in (*queries, submission))
        for answer in await asyncio.gather(*queries, submission):
            problem(answer, 503, "log-unavailable")

        async def known() -> bool:
            return bool((await rig.call()).json()["code"] == "log-unavailable")

        await until(known, "new calls to be told at once")
        ready = await rig.http.get("/readyz")
        assert ready.status_code == 503
        assert "log" in ready.text
        assert rig.provider.seen == []
    await _recovered(rig)
    assert (await rig.http.get("/readyz")).status_code == 200
    told = {task.result().headers["Ngsp-Transaction"] for task in queries}

    async def closed() -> bool:
        return all([await rig.kinds(tx) in ([], ["accepted", "failed"]) for tx in told])

    await until(closed, "what was told 503 to be closed")
    assert (await rig.call(Idempotency_Key="blocked")).status_code == 200, "its key is free"
    assert told.isdisjoint(request.id for request in rig.provider.seen)
    # A submission that was stored after all goes its way, one that was not is done now: once in either case.
    again = await rig.call("send", Idempotency_Key="blocked-too")
    assert again.status_code in (200, 202)
    if submission.result().headers["Ngsp-Transaction"] != again.headers["Ngsp-Transaction"]:
        assert await rig.kinds(submission.result().headers["Ngsp-Transaction"]) == []

    async def delivered() -> bool:
        return await rig.kinds(again.headers["Ngsp-Transaction"]) == ["accepted", "delivered", "succeeded"]

    await until(delivered, "the submission to be delivered")
    assert sum(request.envelope.service == "H41/send/v1" for request in rig.provider.seen) == 1


async def _recovered(rig: Rig) -> None:
    async def answers() -> bool:
        return (await rig.call()).status_code == 200

    await until(answers, "the log to be written again")


async def _until_refused(rig: Rig) -> httpx.Response:
    """Calls, one after the other, until one is refused; those before it wait for the log."""
    end = time.monotonic() + 10
    waiting: list[asyncio.Task[httpx.Response]] = []
    try:
        while True:
            assert time.monotonic() < end
            task = asyncio.create_task(rig.call(by="stranger"))
            done, _ = await asyncio.wait([task], timeout=0.1)
            if done:
                return task.result()
            waiting.append(task)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_log_that_is_stopped_in_the_middle_of_a_batch(rig: Rig) -> None:
    """The entries are copied, the commit waits for the row of this gateway's epoch."""
    connection = await asyncpg.connect(rig.settings.database_url.get_secret_value())
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM gateways WHERE instance = $1 FOR UPDATE", rig.settings.instance)
            answers = await asyncio.gather(*(rig.call(Idempotency_Key=key) for key in ("", "stopped")))
    finally:
        await connection.close()
    for answer in answers:
        problem(answer, 503, "log-unavailable")
    assert rig.provider.seen == []
    await _recovered(rig)
    for answer in answers:
        assert await rig.kinds(answer.headers["Ngsp-Transaction"]) in ([], ["accepted", "failed"])
    assert (await rig.call(Idempotency_Key="stopped")).status_code == 200


async def test_a_draining_gateway_takes_nothing_new_and_ends_what_it_has(rig: Rig) -> None:
    async with held_calls(rig) as start:
        await start("caller", 2)
        await rig.door.drain()
        answer = await rig.call(by="other")
        problem(answer, 503, "draining")
        assert int(answer.headers["Retry-After"]) >= 1
        answer = await exchanged(rig, await head(rig, "Content-Length: 2"), b"{}")
        problem(answer, 503, "draining")
        assert (await rig.http.get("/readyz")).status_code == 503
        assert (await rig.http.get("/livez")).status_code == 200
        assert len(rig.provider.seen) == 2


async def test_what_the_gate_refused_was_counted(rig: Rig) -> None:
    async def counted() -> bool:
        return await rig.counted("too-many-requests") >= 32 and await rig.counted("overloaded") >= 1

    await until(counted, "the counts in the table")
