"""The life of one HTTP connection, below ASGI: admission, deadlines, refusals, answers that arrive, and its end.

What comes in is parsed by `ngsp/api/protocol.py`, a subclass. Every state has a deadline but waiting for the
application, so that no caller can hold a connection for nothing: not by silence, not by dribbling, not by not reading.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from ngsp.api.edge import Edge

MAX_DROPPED_BYTES = 4 << 20
"""What is read and dropped after the last answer before the connection is cut off."""

MAX_JOINED_BYTES = 65_536
"""Larger pieces are not copied to go with their head."""

# Where the input stands. Up to BODY it is parsed, from REFUSED on it is dropped.
BETWEEN, HEAD, BODY, REFUSED, CLOSING = range(5)


class Cycle(RequestResponseCycle):
    """One request and its answer."""

    internal_problem: bytes

    async def send_500_response(self) -> None:
        """The application raised before it answered."""
        body = self.internal_problem
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


class OneWrite(asyncio.Transport):
    """The connection as an answer sees it: the head waits for the body, so that both leave in one packet.

    uvicorn writes them one after the other, and each write is a system call: together they take a sixth less of the
    processor for a small answer. A head that is still held when the loop comes round goes by itself.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._held = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._held:
            if len(data) <= MAX_JOINED_BYTES:
                data = self._held + data
                self._held = b""
            else:
                self.flush()
        elif data[:9] == b"HTTP/1.1 ":
            self._held = bytes(data)
            self._loop.call_soon(self.flush)
            return
        self._transport.write(data)

    def flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            if not self._transport.is_closing():
                self._transport.write(held)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self.flush()
        self._transport.close()


class _OpenBody(asyncio.Transport):
    """The connection as an answer sees it whose request's body is still on its way.

    An answer that does not wait for the body ends the connection. Closing with input unread would reset it, and the
    answer could be lost (RFC 9112 §9.6): so the rest is read and dropped for a moment.
    """

    def __init__(self, connection: GatewayConnection) -> None:
        super().__init__()
        self._connection = connection

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._connection.out.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        self._connection.end_answer()


class GatewayConnection(HttpToolsProtocol):
    """One connection without its parsing. `edge` comes from the server; the rest is what uvicorn gives any protocol."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        edge: Edge,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.edge = edge
        self.address = "unix"
        self.deadline = math.inf  # in the loop's time
        self.url = b""
        self.out: OneWrite  # made with the connection
        self._limits = edge.limits
        self._keep_alive_s = edge.limits.keep_alive_s
        self._phase = BETWEEN
        self._head_room = edge.limits.max_header_bytes  # bytes that may come before they need a closer look
        self._body_due = 0.0
        self._received = 0  # bytes of a body after the packet that it began in, framing included
        self._active: RequestResponseCycle | None = None  # what the application works on; `cycle` is the newest
        self._refusal: str | None = None  # due after the answers before it
        self._unsent = 0  # bytes the caller had not taken at the last look

    # Beginning and end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        peer = transport.get_extra_info("peername")
        if isinstance(peer, (tuple, list)) and peer:
            self.address = str(peer[0])
        self.out = OneWrite(transport, self.loop)
        if self.edge.admits(self.address, len(self.connections)):
            super().connection_made(transport)
            self.edge.enter(self, self.address, self.loop)
            self.deadline = self.edge.later(self._keep_alive_s)
            return
        self.transport = transport
        self.flow = FlowControl(transport)
        self.edge.on_refusal("overloaded", self.address)
        lingers = self.edge.enter_surplus(self, self.loop)
        self._answer("overloaded", lingers=lingers)

    def connection_lost(self, exc: Exception | None) -> None:
        self.edge.leave(self, self.address)
        self._phase = CLOSING
        self._head_room = -1
        self.pipeline.clear()
        active = self._active
        if active is not None and not active.response_complete:  # uvicorn tells the newest request only
            active.disconnected = True
            active.message_event.set()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """The server stops: idle connections are closed, the others after their last answer."""
        active = self._active
        if active is not None and not active.response_complete:
            self.cycle.keep_alive = False
        elif self._phase == BETWEEN:
            self._close()

    def give_up(self) -> None:
        """The time to finish is over."""
        active = self._active
        self.pipeline.clear()
        if active is None or active.response_complete or active.response_started:
            self.transport.abort()
            return
        active.disconnected = True
        active.message_event.set()
        self._answer("draining")

    # Answers

    def _answer_apart_from_body(self, cycle: RequestResponseCycle) -> None:
        async def send(message: ASGISendEvent) -> None:
            if cycle.more_body and not cycle.response_started:
                cycle.keep_alive = False
            await RequestResponseCycle.send(cycle, message)

        cycle.send = send  # type: ignore[method-assign]  # not in the class: requests that came whole need not pay
        cycle.transport = _OpenBody(self)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        flow = self.flow
        if self.pipeline:
            if not self.transport.is_closing():
                self._active, app = self.pipeline.pop()
                self._start_asgi_task(self._active, app)
        elif self._refusal is not None:
            self._answer(self._refusal)
        elif self.transport.is_closing():
            self._watch_closing()
        elif self._phase != CLOSING:
            if flow.read_paused:
                flow.resume_reading()
            if self._phase == BETWEEN and not flow.write_paused:
                self.deadline = self.edge.now + self._keep_alive_s

    def end_answer(self) -> None:
        """The last answer is out."""
        if self._phase == BODY:
            self._linger()
        else:
            self.out.close()

    def _refuse(self, code: str) -> None:
        """Refuses what is being received, after the answers to what came before it."""
        self.edge.on_refusal(code, self.address)
        refused = self.cycle if self._phase == BODY else None
        active = self._active
        self._phase = REFUSED
        self._head_room = -1
        if active is not None and active is not refused and not active.response_complete:
            if refused is not None:
                self.pipeline.popleft()
            self._refusal = code
            return
        if refused is not None:
            refused.disconnected = True
            refused.message_event.set()
            if refused.response_started:
                self._close()
                return
        self._answer(code)

    def _answer(self, code: str, *, lingers: bool = True) -> None:
        self.out.flush()
        if not self.transport.is_closing():
            to_head = bool(self.url) and self.parser.get_method() == b"HEAD"
            self.transport.write(self.edge.refusal(code, self.server_state.default_headers, without_body=to_head))
        if lingers:
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        """Sends the end of the stream and reads on for a moment, so that what was sent is not lost to a reset."""
        if self.transport.is_closing() or not self.transport.can_write_eof():
            self._close()
            return
        self.out.flush()
        self._watch_closing()
        self.transport.write_eof()
        self.flow.resume_reading()

    def _close(self) -> None:
        self.out.flush()
        self._watch_closing()
        self.transport.close()

    # Time

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.deadline = self._body_due if self._phase == BODY else self.edge.later(self._keep_alive_s)

    def _watch_closing(self) -> None:
        self._phase = CLOSING
        self._head_room = -1
        self._watch_sending()
        if not self._unsent:
            self.deadline = self.edge.later(self._limits.linger_s)

    def _watch_sending(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.edge.later(self._limits.write_stall_timeout_s)

    def _watch_body(self) -> None:
        self._received = 0
        self.deadline = self._body_due = self.edge.later(self._limits.body_timeout_s)

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = self.edge.later(self._keep_alive_s)  # where nothing is due there is still another look
        if self._phase == CLOSING or self.flow.write_paused or self.transport.is_closing():
            unsent_before = self._unsent
            self._watch_sending()
            if self._unsent >= unsent_before:
                self.transport.abort()
        elif self._phase == BETWEEN:
            if self._active is None or self._active.response_complete:
                self._close()
        elif self.flow.read_paused:  # the caller waits for us
            self.deadline = self._body_due = self.edge.later(self._limits.body_timeout_s)
        elif self._phase == HEAD:
            self._refuse("request-timeout")
        elif self._phase == BODY:
            self._expire_body()

    def _expire_body(self) -> None:
        """A body that keeps up the least speed has earned a second for each so many bytes."""
        least = self._limits.body_min_bytes_per_s
        due = self._body_due + (self._received / least if least else 0.0)
        if due > self.edge.now:
            self.deadline = due
        else:
            self._refuse("request-timeout")
