"""While the gate is shut, calls are refused from the bytes of their requests: same answers, nothing misread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import pytest

from ngsp.adapter import Request
from ngsp.local.postgres import LocalPostgres
from tests.support.gateway import Provider, Rig, running_gateway, service
from tests.support.waiting import until

LOOK_UP = "/v1/services/H41/look-up/v1"
BODY = b'{"do": "it"}'
SHUT = 7
"""Calls in flight at which one client alone gets no more: of a room of eight."""


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    provider = Provider(services=[service("look-up", deadline_s=30)])
    async with running_gateway(
        postgres, tmp_path_factory.mktemp("gateway"), provider, max_in_flight=8, max_log_wait_s=10
    ) as rig:
        for client in ("caller", "other"):
            assert (await rig.call(by=client)).status_code == 200  # from now on each is known by its token
        yield rig


@asynccontextmanager
async def shut(rig: Rig) -> AsyncIterator[asyncio.Event]:
    """The gate shut for the client `caller`, who has been refused once; the event opens it."""
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    before = len(rig.provider.seen)
    calls = [asyncio.create_task(rig.call()) for _ in range(SHUT)]
    try:
        await until(lambda: len(rig.provider.seen) == before + SHUT, "the calls to be in flight")
        assert (await rig.call()).status_code == 429
        yield release
    finally:
        release.set()
        answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [200] * SHUT


class Line:
    """One connection and what comes back on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer

    async def send(self, *packets: bytes) -> None:
        """Each in a packet of its own: the gateway has taken one in before the next leaves."""
        for packet in packets:
            self.writer.write(packet)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head.strip().split("\r\n")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self._reader.readexactly(int(fields["content-length"]))
        return int(status_line.split(" ")[1]), fields, body

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            return await self._reader.read(1) == b""


@asynccontextmanager
async def line(rig: Rig) -> AsyncIterator[Line]:
    host, port = rig.base_url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


async def in_flight(rig: Rig) -> int:
    metrics = (await rig.http.get("/metrics")).text
    return int(float(next(line for line in metrics.splitlines() if line.startswith("ngsp_in_flight ")).split()[1]))


def turned_away(rig: Rig, data: bytes) -> int | None:
    """How much of a body would still be waited for where `data` is refused unparsed; None where it is parsed."""
    turned = rig.door.turn_away.answer(data, "127.0.0.1", [])
    return turned[1] if turned else None


async def request(rig: Rig, *fields: str, body: bytes = BODY, by: str = "caller") -> bytes:
    headers = {"Host": "gateway", "Content-Type": "application/json"} | await rig.headers(by)
    lines = [
        f"POST {LOOK_UP} HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(body)}",
        *fields,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def test_one_packet_head_apart_and_pieces_get_the_same_refusal(rig: Rig) -> None:
    whole = await request(rig)
    head_end = whole.index(b"\r\n\r\n") + 4
    shapes = (
        (whole,),
        (whole[:head_end], whole[head_end:]),
        (whole[: head_end + 3], whole[head_end + 3 : -2], whole[-2:]),
        (whole[:100], whole[100:]),
    )
    async with shut(rig) as release, line(rig) as wire:
        assert turned_away(rig, whole) == 0
        assert turned_away(rig, whole[:head_end]) == len(BODY)
        assert turned_away(rig, whole[:100]) is None
        instances = set()
        for packets in shapes:
            await wire.send(*packets)
            status, fields, body = await wire.answer()
            problem = orjson.loads(body)
            assert (status, problem["code"]) == (429, "too-many-requests")
            assert fields["content-type"] == "application/problem+json"
            assert int(fields["retry-after"]) >= 1
            assert fields["content-language"] == "vi"
            assert "date" in fields
            assert "connection" not in fields
            instances.add(problem["instance"])
        assert len(instances) == len(shapes), "each refusal has an id of its own"
        release.set()

        async def is_open() -> bool:
            return await in_flight(rig) == 0

        await until(is_open, "the gate to be open")
        await wire.send(whole)
        assert (await wire.answer())[0] == 200, "the same connection serves on"


async def test_the_answer_is_in_the_callers_language_and_counted(rig: Rig) -> None:
    before = await rig.counted("too-many-requests")
    async with shut(rig), line(rig) as wire:
        for _ in range(3):
            await wire.send(await request(rig, "Accept-Language: en"))
            _, fields, body = await wire.answer()
            assert fields["content-language"] == "en"
            assert orjson.loads(body)["title"].isascii()

    async def counted() -> bool:
        return await rig.counted("too-many-requests") >= before + 4

    await until(counted, "the counts in the table")
    assert 'ngsp_refusals_total{code="too-many-requests"}' in (await rig.http.get("/metrics")).text


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("Transfer-Encoding: chunked",), 400),
        (("Content-Length: 12",), 400),
        (("Host: other",), 400),
        (("X-Bare: a\nb",), 400),
        (("Upgrade: h2c", "Connection: Upgrade"), 429),
        (("Connection: close",), 429),
        (("Expect: 100-continue",), 429),
        (("X-Note: Nghệ An",), 429),
    ],
)
async def test_what_is_not_a_plain_request_is_parsed_as_ever(rig: Rig, fields: tuple[str, ...], status: int) -> None:
    async with shut(rig), line(rig) as wire:
        assert turned_away(rig, await request(rig, *fields)) is None
        await wire.send(await request(rig, *fields))
        found, headers, _ = await wire.answer()
        assert found == status
        if status == 400 or fields == ("Connection: close",):
            assert headers.get("connection") == "close" or await wire.ended()


async def test_pipelined_requests_are_answered_each_once_and_in_order(rig: Rig) -> None:
    one, other = await request(rig, "Accept-Language: en"), await request(rig)
    async with shut(rig), line(rig) as wire:
        assert turned_away(rig, one + other) is None
        await wire.send(one + other + one)
        languages = [(await wire.answer())[1]["content-language"] for _ in range(3)]
    assert languages == ["en", "vi", "en"]


async def test_a_body_on_its_way_is_passed_over_however_large(rig: Rig) -> None:
    large = b'"' + b"x" * 300_000 + b'"'
    whole = await request(rig, body=large)
    following = await request(rig, "Accept-Language: en")
    async with shut(rig), line(rig) as wire:
        await wire.send(whole[:70_000])
        assert (await wire.answer())[0] == 429
        await wire.send(whole[70_000:200_000], whole[200_000:] + following)
        status, fields, _ = await wire.answer()
        assert (status, fields["content-language"]) == (429, "en")
        # A body that holds a request is a body.
        smuggled = await request(rig, body=following)
        cut = smuggled.index(b"\r\n\r\n") + 4
        await wire.send(smuggled[:cut], smuggled[cut:])
        assert (await wire.answer())[1]["content-language"] == "vi"
        await wire.send(following)
        assert (await wire.answer())[1]["content-language"] == "en"


async def test_only_the_one_over_its_share_is_turned_away(rig: Rig) -> None:
    async with shut(rig) as release, line(rig) as wire, line(rig) as others:
        await wire.send(await request(rig))
        assert (await wire.answer())[0] == 429
        await others.send(await request(rig, by="other"))
        await until(lambda: len(rig.provider.seen) == SHUT + 1, "the other client's call to be in")
        release.set()
        assert (await others.answer())[0] == 200
    answer = await rig.http.post(LOOK_UP, content=BODY, headers={"Authorization": "Bearer nobody"})
    assert answer.status_code == 401


async def test_two_calls_of_one_turn_do_not_find_the_same_place_free(rig: Rig) -> None:
    async with shut(rig), line(rig) as wire:
        other, before = await request(rig, by="other"), len(rig.provider.seen)
        assert turned_away(rig, other) is None, "the last place"
        assert turned_away(rig, other) == 0
        await asyncio.sleep(0)
        assert turned_away(rig, other) is None, "nobody took it"
        await asyncio.sleep(0)
        await wire.send(other)
        await until(lambda: len(rig.provider.seen) == before + 1, "the other client's call to be in")
