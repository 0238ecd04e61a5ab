"""What all connections of one server share: limits, prepared refusals, one coarse clock, the count of connections.

Nothing here runs per request. A deadline is a number on the connection; one timer looks at all of them a few times a
second, so that a time limit costs a request one addition instead of a timer of its own.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import orjson

from ngsp.errors import ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable

REFUSALS = (
    "malformed-http",
    "request-timeout",
    "uri-too-long",
    "headers-too-large",
    "overloaded",
    "draining",
    "internal",
)
"""The codes this layer answers with; their status is that of the error tree."""

MAX_LINGERING_SURPLUS = 256
"""Refused surplus connections that wait for their caller to read the refusal; those over it are closed at once."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one server's connections. Sizes in bytes, times in seconds; all positive, but where 0 is named.

    A deadline is kept to within two looks of the clock, late and never early: a look is a quarter of the shortest
    time, at most half a second.
    """

    max_connections: int = 2_000
    max_connections_per_address: int = 0  # 0: no limit, since behind a proxy all callers share one address
    max_header_bytes: int = 65_536  # from the first byte of the request line to the empty line, both included
    max_target_bytes: int = 8_192
    max_header_fields: int = 100
    max_pipelined: int = 32  # requests that wait behind one that is being answered
    max_chunk_framing_bytes: int = 16_384  # chunk sizes, extensions and trailers, besides 8 for each byte of the body
    header_timeout_s: float = 10.0  # from the first byte of a head to its end
    body_timeout_s: float = 30.0  # from the end of the head to the end of the body ...
    body_min_bytes_per_s: int = 0  # ... and a second more for each so many bytes received; 0: no more
    keep_alive_s: float = 75.0  # without a byte, before the first request or after an answer
    write_stall_timeout_s: float = 30.0  # without the caller taking a byte of what is ready for it
    linger_s: float = 2.0  # reading on after a refusal, so that it arrives
    retry_after_s: int = 1

    def __post_init__(self) -> None:
        may_be_zero = {"max_connections_per_address", "body_min_bytes_per_s"}
        for field in fields(self):
            value = getattr(self, field.name)
            if value < 0 or (value == 0 and field.name not in may_be_zero):
                raise ValueError(f"{field.name} must be positive")

    @property
    def look_s(self) -> float:
        """Time between two looks at the deadlines."""
        times = (
            self.header_timeout_s,
            self.body_timeout_s,
            self.keep_alive_s,
            self.write_stall_timeout_s,
            self.linger_s,
        )
        return min(max(min(times) / 4, 0.01), 0.5)


def problem_of(code: str) -> bytes:
    """The RFC 9457 body of `code`. What the caller reads is not known here, so each text stands in both languages."""
    error = ERRORS[code]
    text = error.text()
    document = error().problem("vi")
    document["detail"] = f"{text.cause.vi} / {text.cause.en}"
    document["remedy"] = f"{text.remedy.vi} / {text.remedy.en}"
    return orjson.dumps(document)


TurnedAway = tuple[bytes, int]
"""A whole response, and how many bytes of the request's body are still to come."""


class TurnsAway(Protocol):
    """What may refuse a request unparsed; asked while `is_asked`."""

    @property
    def is_asked(self) -> bool: ...

    def answer(self, data: bytes, address: str, default_fields: list[tuple[bytes, bytes]]) -> TurnedAway | None: ...


class _Nobody:
    is_asked = False

    def answer(self, data: bytes, address: str, default_fields: list[tuple[bytes, bytes]]) -> TurnedAway | None:
        return None


class Connection(Protocol):
    """What the clock needs of a connection: `deadline` in the loop's time, and what to do when it has passed."""

    deadline: float

    def expire(self) -> None: ...


class Edge:
    """Shared by the connections of one server; `now` is the loop's time of the last look plus one look."""

    def __init__(
        self,
        limits: Limits,
        *,
        problem: Callable[[str], bytes] = problem_of,
        on_refusal: Callable[[str, str], None],
        turn_away: TurnsAway | None = None,
    ) -> None:
        self.limits = limits
        self.on_refusal = on_refusal
        self.draining = False
        self.turn_away: TurnsAway = turn_away or _Nobody()
        self.now = 0.0
        self.empty = asyncio.Event()  # no connection is served
        self.empty.set()
        self.bodies = {code: problem(code) for code in REFUSALS}
        self._heads = {code: self._head(code) for code in REFUSALS}
        self._open: set[Connection] = set()
        self._surplus: set[Connection] = set()
        self._per_address: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def _head(self, code: str) -> tuple[bytes, bytes]:
        """Status line, and the fields after `Date` with the empty line."""
        status = HTTPStatus(ERRORS[code].status)
        lines = [
            "content-type: application/problem+json",
            f"content-length: {len(self.bodies[code])}",
            "cache-control: no-store",
            "connection: close",
        ]
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            lines.append(f"retry-after: {self.limits.retry_after_s}")
        rest = "".join(f"{line}\r\n" for line in lines) + "\r\n"
        return f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode(), rest.encode()

    def refusal(self, code: str, fields_: list[tuple[bytes, bytes]], *, without_body: bool = False) -> bytes:
        """The whole response; `fields_` are the server's default ones (`Date`)."""
        status_line, rest = self._heads[code]
        default = b"".join(name + b": " + value + b"\r\n" for name, value in fields_)
        return status_line + default + rest + (b"" if without_body else self.bodies[code])

    def later(self, seconds: float) -> float:
        """The loop's time in `seconds`, up to one look late and never early."""
        return self.now + seconds

    def admits(self, address: str, served: int) -> bool:
        """Whether one more connection from `address` may be served besides the `served` there are."""
        limits = self.limits
        if served >= limits.max_connections:
            return False
        most = limits.max_connections_per_address
        return not most or self._per_address.get(address, 0) < most

    def enter(self, connection: Connection, address: str, loop: asyncio.AbstractEventLoop) -> None:
        """Watches a connection that is served, until `leave`."""
        self._open.add(connection)
        self.empty.clear()
        if self.limits.max_connections_per_address:
            self._per_address[address] = self._per_address.get(address, 0) + 1
        self._start_clock(loop)

    def enter_surplus(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> bool:
        """Watches a refused connection until `leave`; False where too many are watched already."""
        if len(self._surplus) >= MAX_LINGERING_SURPLUS:
            return False
        self._surplus.add(connection)
        self._start_clock(loop)
        return True

    def leave(self, connection: Connection, address: str) -> None:
        self._surplus.discard(connection)
        if connection not in self._open:
            return
        self._open.remove(connection)
        if not self._open:
            self.empty.set()
        if self.limits.max_connections_per_address:
            left = self._per_address[address] - 1
            if left:
                self._per_address[address] = left
            else:
                del self._per_address[address]

    def _start_clock(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None:
            self._look(loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends by itself when no connection is left, so that a server that has stopped leaves no timer behind."""
        time = loop.time()
        look_s = self.limits.look_s
        self.now = time + look_s
        if not self._open and not self._surplus:
            self._timer = None
            return
        self._timer = loop.call_later(look_s, self._look, loop)
        for connection in [*self._open, *self._surplus]:
            if connection.deadline <= time:
                connection.expire()
