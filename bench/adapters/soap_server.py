"""The fast SOAP server: the same envelope to every POST, as soon as its body is there."""

from __future__ import annotations

import asyncio
import re
from typing import cast

import uvloop

from bench.adapters.soap_message import answer
from bench.child import Parent, quiet_gc

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class Answering(asyncio.Protocol):
    whole = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while (end := self._heard.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._heard, 0, end + 2)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._heard) < whole:
                return
            self._heard = self._heard[whole:]
            self._transport.write(self.whole)


async def main() -> None:
    parent = await Parent.meet()
    content = answer()
    Answering.whole = HEAD % len(content) + content
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    quiet_gc()
    parent.say_ready(port=server.sockets[0].getsockname()[1])
    await parent.wait_for_end()


if __name__ == "__main__":
    uvloop.run(main())
