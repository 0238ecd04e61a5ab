"""A server of a few lines that counts what reaches it and answers as the test says."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\nretry-after: 1\r\n\r\nbusy"
GOODBYE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request gets: `pieces` written one after the other, `after_s` later; `hang_up` closes then."""

    pieces: tuple[bytes, ...] = (OK,)
    after_s: float = 0.0
    hang_up: bool = False


@dataclass(slots=True)
class Seen:
    """What reached the server. `pipelined`: requests that came before the answer to the one before them."""

    port: int = 0
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    answered: int = 0
    pipelined: int = 0


@asynccontextmanager
async def serving(answer: Callable[[int], Answer]) -> AsyncIterator[Seen]:
    """`answer` is given the request's number, from 0."""
    seen = Seen()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        seen.connections += 1
        try:
            while await one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client has gone
        finally:
            writer.close()
            tasks.discard(task)

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        number = len(seen.requests)
        seen.requests.append(head + await reader.readexactly(int(length[1])))
        given = answer(number)
        if given.after_s:
            await asyncio.sleep(given.after_s)
        seen.pipelined += bool(reader._buffer)  # type: ignore[attr-defined]
        for piece in given.pieces:
            writer.write(piece)
            await writer.drain()
            if len(given.pieces) > 1:
                await asyncio.sleep(0)  # so that the pieces leave one by one
        seen.answered += bool(given.pieces)
        return not given.hang_up

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
