"""The stream of transactions as server-sent events (WHATWG HTML §9.2)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Protocol, cast

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from ngsp.api.caller import Caller
from ngsp.api.names import only_member
from ngsp.api.parts import Parts, parts
from ngsp.errors import NgspError, Overloaded, TooManyRequests
from ngsp.text import Text
from ngsp.transactions.filters import Filters
from ngsp.transactions.follow import Event, Follower, Position
from ngsp.transactions.gateways import DATABASE_TROUBLE

MOST_FOR_A_CLIENT = 4
MOST_STREAMS = 64
POLL_S = 0.5
HEARTBEAT_S = 15.0
REST = 3.0
"""After each read the streams leave the database this many times as long to others."""
READER_SCOPES = frozenset(("exchange", "operator", "auditor"))

log = structlog.get_logger(__name__)


class _Reads(Protocol):
    async def read(self) -> tuple[list[Event], bool]: ...


class Streams:
    """The open streams of one gateway. They read in turns, so that together they take a quarter of one connection.

    Above what that carries they fall behind, and catch up later: nothing is lost, and no call has to wait for them.
    """

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()
        """Client → its open streams."""
        self._turn = asyncio.Lock()

    async def read(self, follower: _Reads) -> tuple[list[Event], bool]:
        await self._turn.acquire()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            return await follower.read()
        finally:
            loop.call_later(REST * (loop.time() - began_s), self._turn.release)


class EventStream(StreamingResponse):
    """Counts as open from its making to its end, however that comes."""

    def __init__(self, events: AsyncIterator[bytes], client: str, streams: Streams) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._client, self._open = client, streams.open
        self._open[client] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._open[self._client] -= 1
            if not self._open[self._client]:
                del self._open[self._client]


def open_stream(request: Request, caller: Caller, filters: Filters, after: Position | None) -> EventStream:
    """The stream of what `filters` let through, from `after` or from now on.

    Raises TooManyRequests (429) where the client has four open, Overloaded (503) where this gateway has 64.
    """
    streams = _streams(request)
    if streams.open[caller.client.id] >= MOST_FOR_A_CLIENT:
        raise TooManyRequests(_TOO_MANY, retry_after_s=10, reason="streams of one client")
    if streams.open.total() >= MOST_STREAMS:
        raise Overloaded(retry_after_s=10, reason="streams of one gateway")
    held = parts(request)
    follower = held.finder.follow(filters, after)
    events = _events(held, streams, follower, filters, request.headers.get("authorization", ""))
    return EventStream(events, caller.client.id, streams)


def _streams(request: Request) -> Streams:
    state = request.app.state
    if not hasattr(state, "streams"):
        state.streams = Streams()
    return cast("Streams", state.streams)


async def _events(
    held: Parts, streams: Streams, follower: Follower, filters: Filters, authorization: str
) -> AsyncIterator[bytes]:
    """Ends at shutdown, when the token or the right to read ends, and where the database is lost: it can be resumed.

    The first line comes when the stream stands at its place: whatever is logged after that will be told.
    """
    comment, sent_s = "ngsp", time.monotonic()
    while not held.closing.is_set() and _still_may(held, filters, authorization):
        try:
            events, more = await streams.read(follower)
        except DATABASE_TROUBLE as error:
            log.warning("a stream ends: the database cannot be read", error=type(error).__name__)
            return
        if not events and time.monotonic() - sent_s >= HEARTBEAT_S:
            comment = "heartbeat"
        if comment:
            # With the position: who resumes need not look again at what the filters left out.
            place = "" if events else f"id: {follower.position}\n"
            yield f": {comment}\n{place}\n".encode()
        if events:
            yield b"".join(map(_block, events))
        if events or comment:
            comment, sent_s = "", time.monotonic()
        if not more:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await held.closing.wait()


def _still_may(held: Parts, filters: Filters, authorization: str) -> bool:
    """True while the token holds and gives the right that the stream was opened with: a revocation bites here too."""
    try:
        caller = held.tokens.authenticate(authorization, held.registry.snapshot, time.time())
    except NgspError:
        return False
    return caller.has_any(READER_SCOPES) and only_member(caller, "auditor") == filters.member


def _block(event: Event) -> bytes:
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        str(event.position).encode(),
        event.kind.encode(),
        orjson.dumps(event.data()),
    )


_TOO_MANY = Text("Hệ thống này đã mở đủ số luồng cho phép.", "This client has as many streams open as it may.")
