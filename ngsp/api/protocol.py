"""HTTP/1.1 off the wire, with limits: uvicorn's httptools protocol without what it leaves open.

llhttp itself refuses bare LF and CR, obs-fold, NUL and control characters, Content-Length beside Transfer-Encoding,
twice, signed or overflowing, codings after `chunked`, malformed chunk sizes and extensions, unknown methods. It lets
through, and this protocol refuses: heads and targets of any size or age, no Host or several, HTTP versions but 1.0 and
1.1, other codings before `chunked`, `chunked` in HTTP/1.0, fragments in targets, endless chunk extensions and trailers.
A request that asks for an upgrade loses its body in httptools: it is read again without the asking.

What is refused gets a problem document (RFC 9457) after the answers that are due before it on the same connection,
and the connection ends.
"""

from __future__ import annotations

import asyncio
import logging
import re
import urllib.parse
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from ngsp.api.connection import BETWEEN, BODY, HEAD, MAX_DROPPED_BYTES, REFUSED, Cycle, GatewayConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from uvicorn.config import Config
    from uvicorn.server import ServerState

    from ngsp.api.edge import Edge

logger = logging.getLogger(__name__)

WATCHED = frozenset((b"host", b"transfer-encoding", b"expect"))
HOP_BY_UPGRADE = frozenset((b"upgrade", b"http2-settings"))
HOST = re.compile(rb"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")  # RFC 3986 §3.2.2, and port


class _Refused(Exception):
    """Ends the parsing from within a parser's callback."""

    def __init__(self, code: str = "malformed-http") -> None:
        super().__init__(code)
        self.code = code


class GatewayProtocol(GatewayConnection):
    """One connection with its parsing."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        edge: Edge,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop, edge=edge)
        self._host: bytes | None = None
        self._known_host = b""  # the last one found well-formed
        self._chunked = False
        self._body_bytes = 0  # as `_received`, without framing; of a chunked body
        self._dropped = 0
        self._unread = 0  # of the body of a request that was turned away

    # Input

    def data_received(self, data: bytes) -> None:
        if self.edge.turn_away.is_asked and self._turned_away(data):
            return
        if len(data) > self._head_room:
            self._receive_in_parts(data)
            return
        phase, cycle = self._phase, self.cycle
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            stop = error
        else:
            if self._phase != BETWEEN:
                self._received_part(len(data), phase, self.cycle is cycle)
            return
        self._parsing_stopped(stop, data)  # out here, for it parses again: in there, errors would lose their context

    def _turned_away(self, data: bytes) -> bool:
        """Whether `data`, between two requests of a quiet connection, is one request and was refused."""
        edge, active = self.edge, self._active
        if (
            self._phase != BETWEEN
            or (active is not None and not active.response_complete)
            or self.flow.write_paused
            or len(data) > self._head_room
        ):
            return False
        turned = edge.turn_away.answer(data, self.address, self.server_state.default_headers)
        if turned is None:
            return False
        answer, self._unread = turned
        self.transport.write(answer)
        self.deadline = edge.now + self._keep_alive_s
        if self._unread:
            self._head_room = -1
            self.deadline = edge.later(self._limits.body_timeout_s)
        return True

    def _pass_over(self, data: memoryview) -> memoryview:
        """Drops what belongs to the body of a request that was turned away; gives what comes after it."""
        rest = data[self._unread :]
        self._unread = max(0, self._unread - len(data))
        if not self._unread:
            self._head_room = self._limits.max_header_bytes
            self.deadline = self.edge.later(self._keep_alive_s)
        return rest

    def _receive_in_parts(self, data: bytes) -> None:
        """More than what is left for a head: parse up to there, then see whether it was a head at all."""
        if self._phase >= REFUSED:
            self._dropped += len(data)
            if self._dropped > MAX_DROPPED_BYTES:
                self.transport.abort()
        rest = memoryview(data)
        while rest and self._phase < REFUSED:
            if self._unread:
                rest = self._pass_over(rest)
                continue
            part, rest = rest[: self._head_room], rest[self._head_room :]
            self.data_received(bytes(part))

    def _received_part(self, size: int, phase: int, same_cycle: bool) -> None:
        """A head or a body is not complete yet; `phase` is where the input stood before these `size` bytes."""
        limits = self._limits
        if self._phase == HEAD:
            if phase != HEAD or not same_cycle:
                self.deadline = self.edge.later(limits.header_timeout_s)
            if phase != BODY and same_cycle:  # else it began somewhere within these bytes
                self._head_room -= size
            if len(self.url) > limits.max_target_bytes:
                self._refuse("uri-too-long")
            elif self._head_room <= 0 or len(self.headers) > limits.max_header_fields:
                self._refuse("headers-too-large")
        elif self._phase == BODY:
            if phase != BODY or not same_cycle:
                self._body_bytes = 0
                self._watch_body()
                self._answer_apart_from_body(self.cycle)
                return
            self._received += size
            if self._chunked and self._received > limits.max_chunk_framing_bytes + 9 * self._body_bytes:
                self._refuse("malformed-http")

    def _parsing_stopped(self, stop: Exception, data: bytes) -> None:
        if isinstance(stop, httptools.HttpParserUpgrade):
            self._read_again_without_upgrade(data[stop.args[0] :])
            return
        code = "malformed-http"
        if isinstance(stop, httptools.HttpParserCallbackError):
            cause = stop.__context__
            if isinstance(cause, _Refused):
                code = cause.code
            else:
                logger.error("a request could not be taken in", exc_info=cause)
                code = "internal"
        self._refuse(code)

    def _read_again_without_upgrade(self, rest: bytes) -> None:
        """No protocol is offered to upgrade to, so the request is to be answered as it is (RFC 9110 §7.8)."""
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b", ".join(t for t in value.split(b",") if t.strip().lower() not in HOP_BY_UPGRADE)
            if name not in HOP_BY_UPGRADE:
                lines.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._phase = BETWEEN
        self._head_room = self._limits.max_header_bytes
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n")
        if rest and self._phase < REFUSED:
            self.data_received(rest)

    # Parser callbacks

    def on_message_begin(self) -> None:
        self._phase = HEAD
        self._host = None
        self._chunked = False
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        value = value.rstrip()
        if name in WATCHED:
            self._watch(name, value)
        self.headers.append((name, value))

    def _watch(self, name: bytes, value: bytes) -> None:
        if self._phase != HEAD:  # a trailer
            return
        if name == b"host":
            if self._host is not None or (value != self._known_host and HOST.fullmatch(value) is None):
                raise _Refused
            self._host = self._known_host = value
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise _Refused
            self._chunked = True
        elif value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        parser = self.parser
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise _Refused
            return  # HttpParserUpgrade follows
        if len(self.url) > self._limits.max_target_bytes:
            raise _Refused("uri-too-long")
        if len(self.headers) > self._limits.max_header_fields:
            raise _Refused("headers-too-large")
        if len(self.pipeline) >= self._limits.max_pipelined:
            raise _Refused("overloaded")
        version = parser.get_http_version()
        scope = self.scope
        if version != "1.1":
            if version != "1.0" or self._chunked:
                raise _Refused
            scope["http_version"] = version
            self.expect_100_continue = False
        elif self._host is None:
            raise _Refused
        raw_path, query = _split_target(self.url)
        path = raw_path.decode("ascii")
        scope["method"] = parser.get_method().decode("ascii")
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        self._phase = BODY
        self._head_room = self._limits.max_header_bytes
        if self._chunked:
            self.headers = []  # trailers go here and nowhere: the scope keeps the list of the head
        self._take_in(version == "1.1" and not self.edge.draining and parser.should_keep_alive())

    def _take_in(self, keep_alive: bool) -> None:
        self.cycle = cycle = Cycle(
            scope=self.scope,
            transport=self.out,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.internal_problem = self.edge.bodies["internal"]
        active = self._active
        if active is None or active.response_complete:
            self._active = cycle
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if self._chunked:
            self._body_bytes += len(body)
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._phase != BODY:  # an upgrade was asked for: the request comes again
            return
        self._phase = BETWEEN
        cycle = self.cycle
        if self._chunked and not self.parser.should_keep_alive():  # said so in a trailer, and llhttp obeys
            cycle.keep_alive = False
        cycle.more_body = False
        cycle.message_event.set()


def _split_target(target: bytes) -> tuple[bytes, bytes]:
    """Path and query of a request target (RFC 9112 §3.2); a fragment has no place in one."""
    if b"#" in target:
        raise _Refused
    if target[:1] == b"/" or target == b"*":
        path, _, query = target.partition(b"?")
        return path, query
    try:
        parsed = httptools.parse_url(target)
    except httptools.HttpParserInvalidURLError:
        raise _Refused from None
    if parsed.schema not in (b"http", b"https"):
        raise _Refused
    return parsed.path or b"/", parsed.query or b""


def protocol_factory(edge: Edge) -> Callable[..., GatewayProtocol]:
    """What uvicorn's `Config(http=…)` takes: makes a connection of the server that `edge` belongs to."""

    def connect(
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> GatewayProtocol:
        return GatewayProtocol(config, server_state, app_state, _loop, edge=edge)

    return connect
