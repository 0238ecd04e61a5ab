"""The stream of transactions of a whole gateway, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import orjson
import pytest

from ngsp.adapter import Request
from ngsp.api.streaming import MOST_FOR_A_CLIENT, Streams
from ngsp.transactions.follow import Event
from tests.support.gateway import Provider, Rig, running_gateway
from tests.support.waiting import until
from tests.transactions.hands import call, listed, submit

if TYPE_CHECKING:
    from pathlib import Path

    from ngsp.local.postgres import LocalPostgres


@dataclass
class Told:
    """A server-sent event."""

    id: str = ""
    event: str = ""
    data: str = ""

    @property
    def tx(self) -> str:
        found: str = orjson.loads(self.data)["transaction"]["id"]
        return found


@dataclass
class Listening:
    """An open stream; `lines` begins after the greeting."""

    answer: httpx.Response
    lines: AsyncIterator[str]

    async def events(self, most: int) -> list[Told]:
        found, event = [], Told()
        async with asyncio.timeout(20):
            async for line in self.lines:
                name, _, value = line.partition(": ")
                if line and name:
                    setattr(event, name, value)
                elif event.data:
                    found.append(event)
                    event = Told(id=event.id)
                if len(found) == most:
                    return found
        raise AssertionError("the stream ended")


@asynccontextmanager
async def stream(rig: Rig, by: str = "caller", after: str = "", **parameters: str) -> AsyncIterator[Listening]:
    headers = await rig.headers(by, **({"Last_Event_ID": after} if after else {}))
    async with rig.http.stream("GET", "/v1/transactions/stream", params=parameters, headers=headers) as answer:
        lines = answer.aiter_lines()
        if answer.status_code == 200:
            async with asyncio.timeout(10):
                assert await anext(lines) == ": ngsp"
        yield Listening(answer, lines)


async def test_the_stream_tells_and_is_resumed(rig: Rig) -> None:
    await listed(rig, await call(rig))  # what is there already is projected
    async with stream(rig) as own, stream(rig, "stranger") as foreign, stream(rig, service="whole") as some:
        assert own.answer.headers["content-type"].startswith("text/event-stream")
        refused = await call(rig, "look-up", by="stranger")
        made = [await call(rig, name) for name in ("look-up", "whole")]
        events = await own.events(4)
        assert [event.tx for event in events] == [made[0]] * 2 + [made[1]] * 2
        assert [event.event for event in events] == ["accepted", "succeeded"] * 2
        assert [event.event for event in await some.events(2)] == ["accepted", "succeeded"]
        told = orjson.loads(events[1].data)
        assert set(told) == {"kind", "at", "transaction"} and told["transaction"]["state"] == "succeeded"
        assert foreign.answer.status_code == 200
    async with stream(rig, after=events[1].id) as resumed:
        assert [event.id for event in await resumed.events(2)] == [event.id for event in events[2:]]
    async with stream(rig, "operator", after=events[0].id) as resumed:
        found = {event.tx for event in await resumed.events(3)}
        assert found == set(made) and refused not in found


@pytest.mark.parametrize("after", ["x", "1", "1-", "1-2-3", "9" * 30])
async def test_a_position_of_nobody_is_400(rig: Rig, after: str) -> None:
    async with stream(rig, after=after) as refused:
        assert refused.answer.status_code == 400
        assert orjson.loads("".join([line async for line in refused.lines]))["code"] == "malformed-header"


async def test_a_client_has_so_many_streams_and_no_more(rig: Rig) -> None:
    opened = [stream(rig, "other") for _ in range(MOST_FOR_A_CLIENT)]
    for each in opened:
        assert (await each.__aenter__()).answer.status_code == 200
    async with stream(rig, "other") as surplus:
        assert surplus.answer.status_code == 429 and int(surplus.answer.headers["retry-after"]) >= 1
    async with stream(rig, "provider") as another:
        assert another.answer.status_code == 200
    for each in opened:
        await each.__aexit__(None, None, None)

    async def free_again() -> bool:
        async with stream(rig, "other") as listening:
            return listening.answer.status_code == 200

    await until(free_again, "a stream that its reader left makes room")


async def test_streams_read_in_turns() -> None:
    class Reader:
        reading = most = 0

        async def read(self) -> tuple[list[Event], bool]:
            Reader.reading += 1
            Reader.most = max(Reader.most, Reader.reading)
            await asyncio.sleep(0)
            Reader.reading -= 1
            return [], False

    streams = Streams()
    async with asyncio.timeout(10):
        await asyncio.gather(*(streams.read(Reader()) for _ in range(20)))
    assert (Reader.most, Reader.reading) == (1, 0)


async def test_a_stream_ends_when_its_reader_may_no_longer(rig: Rig) -> None:
    name = {"vi": "other", "en": "other"}
    client = {"member": "G22", "name": name, "scopes": ["exchange"]}

    async def put(active: bool) -> int:
        headers = await rig.headers("operator")
        answer = await rig.http.put("/v1/clients/other", json={**client, "active": active}, headers=headers)
        return answer.status_code

    async with stream(rig, "other") as listening:
        assert listening.answer.status_code == 200
        assert await put(active=False) == 200
        async with asyncio.timeout(10):
            async for _ in listening.lines:
                continue
    assert await put(active=True) == 200


async def test_the_gateway_closes_though_somebody_waits_and_listens(postgres: LocalPostgres, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    provider = Provider()
    provider.act = act  # type: ignore[method-assign]
    async with running_gateway(postgres, tmp_path, provider) as rig:
        tx = await submit(rig)
        waiting = asyncio.create_task(rig.get(f"/v1/transactions/{tx}", Prefer="wait=60"))
        async with stream(rig) as listening:
            await rig.door.drain()
            async with asyncio.timeout(5):
                assert (await waiting).json()["state"] in ("accepted", "delivered")
                async for _ in listening.lines:
                    continue
        release.set()
