"""The fast server: one fixed JSON answer to whatever is asked, as soon as the head of a request is there."""

from __future__ import annotations

import asyncio
from typing import cast

import orjson
import uvloop

from bench.adapters.reply import RECORD
from bench.child import Parent, quiet_gc

BODY = orjson.dumps({"KET_QUA": "OK", "DU_LIEU": RECORD})
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
ANSWER = HEAD % len(BODY) + BODY


class Answering(asyncio.Protocol):
    """Requests without a body; several in one packet are answered one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none of asyncio's classes
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        *requests, self._heard = (self._heard + data).split(b"\r\n\r\n")
        self._transport.write(ANSWER * len(requests))


async def main() -> None:
    parent = await Parent.meet()
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    quiet_gc()
    parent.say_ready(port=server.sockets[0].getsockname()[1])
    await parent.wait_for_end()


if __name__ == "__main__":
    uvloop.run(main())
