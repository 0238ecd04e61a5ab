"""One keep-alive HTTP/1.1 client connection, as lean as Python allows: an answer's status and its end, nothing else."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

HEAD_END = b"\r\n\r\n"
HEAD_MAX_BYTES = 64 * 1024


class UnreadableAnswerError(Exception):
    """The answer is not HTTP/1.1 with a Content-Length."""


def read_head(head: bytes) -> tuple[int, int, bool]:
    """An answer's head, without its final blank line → (status, length of the body in bytes, whether it closes)."""
    status_text = head[9:12]
    if not head.startswith(b"HTTP/1.1 ") or not status_text.isdigit():
        raise UnreadableAnswerError("no HTTP/1.1 status line")
    status = int(status_text)
    lowered = head.lower()
    closes = b"\r\nconnection: close" in lowered
    at = lowered.find(b"\r\ncontent-length:")
    if at < 0:
        if status in (204, 304):
            return status, 0, closes
        raise UnreadableAnswerError("no Content-Length")
    end = lowered.find(b"\r\n", at + 2)
    length = lowered[at + 17 : end if end >= 0 else len(lowered)].strip()
    if not length.isdigit():
        raise UnreadableAnswerError("a Content-Length that is no number")
    return status, int(length), closes


class Driver(Protocol):
    """What a connection reports to."""

    def on_open(self, connection: Connection) -> None: ...

    def on_answer(self, connection: Connection, status: int, first_bytes: bytes, closes: bool) -> None:
        """`first_bytes`: the head and what came with it; `closes`: the server will not take another request here."""

    def on_lost(self, connection: Connection, reason: str) -> None: ...


class Connection(asyncio.Protocol):
    """One connection, one request at a time. `started` is when the outstanding request began, None without one.

    `sent`: when its bytes went out, which in an open loop may be later than it was due.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._body_missing_bytes = -1  # below zero: the head has not ended yet
        self._status = 0
        self._closes = False
        self._reason = "the connection was closed"
        self.started: float | None = None
        self.sent = 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its base class
        self._driver.on_open(self)

    def send(self, request: bytes, started: float) -> None:
        assert self._transport is not None
        self.started = started
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self.started is None:
            self._give_up("bytes that no request asked for")
        elif self._body_missing_bytes < 0:
            self._received = self._received + data if self._received else data
            self._try_head()
        else:
            self._body_missing_bytes -= len(data)
        if self._body_missing_bytes >= 0:
            self._try_end()

    def _try_head(self) -> None:
        end = self._received.find(HEAD_END)
        if end < 0:
            if len(self._received) > HEAD_MAX_BYTES:
                self._give_up("a head without end")
            return
        try:
            self._status, length, self._closes = read_head(self._received[:end])
        except UnreadableAnswerError as error:
            self._give_up(str(error))
            return
        self._body_missing_bytes = end + len(HEAD_END) + length - len(self._received)
        if self._body_missing_bytes < 0:
            self._give_up("bytes beyond the Content-Length")

    def _try_end(self) -> None:
        if self._body_missing_bytes > 0:
            return
        first_bytes, self._received, self._body_missing_bytes = self._received, b"", -1
        self._driver.on_answer(self, self._status, first_bytes, self._closes)

    def _give_up(self, reason: str) -> None:
        self._reason = reason
        self._body_missing_bytes = -1
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._driver.on_lost(self, str(error) if error else self._reason)
