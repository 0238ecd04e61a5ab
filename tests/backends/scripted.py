"""A real HTTP server whose every answer is what the test says, byte for byte, over TCP or TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    certificate: str = ""
    """The client's name in its certificate, over TLS."""

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query, keep_blank_values=True)


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def raw(status: str, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP/1.1 answer; `Content_Type="text/html"` names a header."""
    given = {"Content_Length": str(len(body))} | headers
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def json_answer(document: object, status: str = "200 OK", **headers: str) -> bytes:
    return raw(status, orjson.dumps(document), **{"Content_Type": "application/json", **headers})


def always(answer: bytes, *, then_close: bool = False) -> Answer:
    async def answered(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        if then_close:
            await writer.drain()
            writer.close()

    return answered


def in_turn(*answers: bytes) -> Answer:
    """The answers one after the other; the last for all that follow."""
    left = list(answers)

    async def answered(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(left.pop(0) if len(left) > 1 else left[0])

    return answered


async def never(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """No answer, and the connection stays."""
    await asyncio.Event().wait()


@dataclass
class Scripted:
    """`answer` may be changed at any time. `asked`: all requests so far; `connections`: how many were made."""

    answer: Answer = field(default_factory=lambda: always(json_answer({})))
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    secure: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        certificate = (writer.get_extra_info("peercert") or {}).get("subject", ())
        name = next((value for pair in certificate for key, value in pair if key == "commonName"), "")
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while not writer.is_closing():
                    asked = await _read(reader, name)
                    self.asked.append(asked)
                    await self.answer(asked, writer)
                    await writer.drain()
        finally:
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader, certificate: str) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, target, headers, body, certificate)


@asynccontextmanager
async def scripted(tls: ssl.SSLContext | None = None) -> AsyncIterator[Scripted]:
    server = Scripted(secure=tls is not None)
    tasks: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(server.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()
    for task in list(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await listening.wait_closed()
