"""A server that does everything wrong: each fault its class, nothing hangs, nothing grows, nobody else is held up."""

from __future__ import annotations

import asyncio
import gzip
import resource
import time
from pathlib import Path

import pytest

from tests.backends.declaring import manifest, served
from tests.backends.scripted import Answer, Asked, Scripted, always, json_answer, never, raw, scripted

BACKEND = "kind: rest\nurl: {env: URL}\ntimeout_s: 2\nmax_answer_bytes: 100000\nretry: {attempts: 1}\n"
CALL = "call: {path: /a}"
NOT_HTTP = b"220 mail.example ESMTP\r\n\r\n"
BOMB = gzip.compress(b"0" * 50_000_000)


async def endless(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """300 MB, and it says so to nobody."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(300):
        writer.write(b"100000\r\n" + b" " * 0x100000 + b"\r\n")
        await writer.drain()


async def a_byte_at_a_time(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (always(raw("200 OK", b"<p>Maintenance", Content_Type="text/html")), "failed", "backend-not-json"),
        (always(raw("200 OK", b"{}")), "failed", "backend-not-json"),
        (always(raw("200 OK", b'{"a": ', Content_Type="application/json")), "failed", "backend-not-json"),
        (
            always(raw("200 OK", '{"a": "Đ"}'.encode("cp1258"), Content_Type="application/json")),
            "failed",
            "backend-not-json",
        ),
        (always(raw("200 OK", b"{}", Content_Type="application/json; charset=utf-16")), "failed", "backend-charset"),
        (always(raw("200 OK", b'{"a": NaN}', Content_Type="application/json")), "failed", "backend-not-json"),
        (
            always(raw("200 OK", BOMB, Content_Type="application/json", Content_Encoding="gzip")),
            "failed",
            "backend-encoded",
        ),
        (
            always(raw("200 OK", b"", Content_Type="application/json", Content_Length="300000000")),
            "failed",
            "backend-too-large",
        ),
        (endless, "failed", "backend-too-large"),
        (always(NOT_HTTP), "failed", "backend-not-http"),
        (always(raw("200 OK", b"{}", X_Long="x" * 100_000)), "failed", "backend-not-http"),
        (always(raw("200 OK", b"{}", Content_Length="-1")), "failed", "backend-not-http"),
        (
            always(raw("200 OK", b'{"a":', Content_Type="application/json", Content_Length="100"), then_close=True),
            "retry",
            "backend-cut-off",
        ),
        (always(b"", then_close=True), "retry", "backend-cut-off"),
        (never, "retry", "backend-timeout"),
        (a_byte_at_a_time, "retry", "backend-timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) and "-" in value else "",
)
async def test_each_fault_has_its_class(
    server: Scripted, tmp_path: Path, answer: Answer, status: str, code: str
) -> None:
    server.answer = answer
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with served(tmp_path, manifest(BACKEND, CALL), URL=server.url) as door:
        started_s = time.monotonic()
        reply = await door.ask({})
        assert (reply.status, reply.code) == (status, code)
        assert time.monotonic() - started_s < 4.0
        server.answer = always(json_answer([1]))
        assert await door.answer({}) == [1], "the next call is answered"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 50_000


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/problem+json",
        "text/json",
    ],
)
async def test_json_by_other_names(server: Scripted, tmp_path: Path, kind: str) -> None:
    server.answer = always(raw("200 OK", b'\xef\xbb\xbf{"a": 1}', Content_Type=kind))
    text = manifest(BACKEND + "content_types: [text/json]", CALL)
    async with served(tmp_path, text, URL=server.url) as door:
        assert await door.answer({}) == {"a": 1}


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_not_followed(server: Scripted, tmp_path: Path, status: str) -> None:
    async with scripted() as inside:
        server.answer = always(raw(status, Location=f"{inside.url}/latest/meta-data"))
        async with served(tmp_path, manifest(BACKEND, CALL), URL=server.url) as door:
            reply = await door.ask({})
        assert (reply.status, reply.code) == ("failed", f"backend-status-{status[:3]}")
        assert (len(server.asked), inside.connections) == (1, 0)


async def test_cookies_are_not_kept(server: Scripted, tmp_path: Path) -> None:
    server.answer = always(json_answer({}, Set_Cookie="session=of-another-citizen"))
    async with served(tmp_path, manifest(BACKEND, CALL), URL=server.url) as door:
        await door.answer({})
        await door.answer({})
    assert all("cookie" not in asked.headers for asked in server.asked)


async def test_a_server_that_is_down(tmp_path: Path) -> None:
    async with scripted() as gone:
        url = gone.url
    async with served(tmp_path, manifest(BACKEND, CALL), URL=url) as door:
        reply = await door.ask({})
    assert (reply.status, reply.code) == ("retry", "backend-down")


async def test_connections_are_pooled(server: Scripted, tmp_path: Path) -> None:
    async with served(tmp_path, manifest(BACKEND + "connections: 4", CALL), URL=server.url) as door:
        for _ in range(10):
            await door.answer({})
        assert server.connections == 1
        await asyncio.gather(*(door.answer({}) for _ in range(100)))
        assert server.connections <= 4
    assert len(server.asked) == 110


async def test_a_connection_that_the_server_closed_meanwhile(server: Scripted, tmp_path: Path) -> None:
    """It closed the idle connection; the next request finds a new one."""
    server.answer = always(json_answer({}), then_close=True)
    async with served(tmp_path, manifest(BACKEND, CALL), URL=server.url) as door:
        for _ in range(5):
            await door.answer({})
    assert server.connections == 5


async def test_callers_in_haste_open_no_breaker_and_lose_no_place(server: Scripted, tmp_path: Path) -> None:
    server.answer = never
    text = manifest(BACKEND + "connections: 4\nbreaker: {failures: 2, open_s: 600}", CALL)
    async with served(tmp_path, text, URL=server.url) as door:
        hasty = await asyncio.gather(*(door.ask({}, deadline_s=0.2 + number / 100) for number in range(40)))
        assert {reply.status for reply in hasty} == {"retry"}
        server.answer = always(json_answer([1]))
        # All places at once: were one lost, one call would wait in vain.
        assert await asyncio.gather(*(door.answer({}) for _ in range(4))) == [[1]] * 4


async def test_waiting_for_a_place_is_not_begun(server: Scripted, tmp_path: Path) -> None:
    """Of two submissions that must not be repeated, the second never left: it comes again, the first is unknown."""
    server.answer = never
    text = manifest(BACKEND + "connections: 1", "call: {method: POST, path: /a}", "submission", "uncertain")
    async with served(tmp_path, text, URL=server.url) as door:
        first = asyncio.create_task(door.ask({"n": 1}))
        async with asyncio.timeout(10):
            while not server.asked:
                await asyncio.sleep(0.01)
        second = await door.ask({"n": 2}, deadline_s=1.5)
        assert (second.status, second.code, len(server.asked)) == ("retry", "backend-timeout", 1)
        assert ((await first).status, (await first).code) == ("unknown", "backend-timeout")
