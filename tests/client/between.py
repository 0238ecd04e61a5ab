"""Stands between a client and the gateway: passes bytes on, and loses answers, cuts streams or is away when told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

PAGE = b"<html></html>"
CANNED = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (
    len(PAGE),
    PAGE,
)


class Between:
    """`lose`: how many of the next answers are lost, once the gateway has given them. `only`: those to requests that
    begin so. `canned`: how many of the next are answered with a page of HTML instead. `lost`: how many there were."""

    def __init__(self, upstream: str) -> None:
        url = httpx.URL(upstream)
        self._host, self._port = url.host, url.port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.lose = self.canned = self.lost = 0
        self.only = b"POST /v1/services/"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Nobody gets through any more; the port stays the same for the next `start`."""
        if self._server is not None:
            self._server.close()
            self.cut()
            await self._server.wait_closed()
            self._server = None

    def cut(self) -> None:
        """Every connection that is open now breaks."""
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above_reader, above_writer = await asyncio.open_connection(self._host, self._port)
        losing = asyncio.Event()
        self._open |= {writer, above_writer}
        answering = asyncio.create_task(self._answers(above_reader, writer, losing))
        try:
            while data := await reader.read(1 << 16):
                if data.startswith(self.only) and self.canned:
                    self.canned -= 1
                    writer.write(CANNED)
                    await writer.drain()
                    break
                if data.startswith(self.only) and self.lose:
                    self.lose -= 1
                    losing.set()
                above_writer.write(data)
                await above_writer.drain()
        except ConnectionError:
            pass
        finally:
            if not losing.is_set():
                answering.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await answering
            self._open -= {writer, above_writer}
            for end in (above_writer, writer):
                end.close()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                if losing.is_set():
                    self.lost += 1
                    writer.transport.abort()
                    return
                writer.write(data)
                await writer.drain()
            writer.close()


@asynccontextmanager
async def between(upstream: str) -> AsyncIterator[Between]:
    found = Between(upstream)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()
