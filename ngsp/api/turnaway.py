"""Turning calls away while the gate is shut, from the bytes of their requests: before parsing, below ASGI.

A refusal through parser and application costs a fifth of what a call costs, so that a flood of them would take from
the accepted what the gate keeps for them. Here one costs a twentieth. Only what is surely a well-formed call of a known
client is answered here; anything else is parsed as ever and gets the answer that it would get on a quiet day.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from ngsp.api.edge import TurnedAway
from ngsp.api.problems import new_instance, render, retry_after_s
from ngsp.errors import ERRORS, NgspError
from ngsp.gate import Gate
from ngsp.metrics import Metrics
from ngsp.refusals import Refusals
from ngsp.text import Language, language_of

WINDOW_S = 1.0
"""After a refusal, requests are looked at here for so long."""

MOST_KNOWN, LONGEST_KNOWN = 1_024, 4_096
"""Heads that are remembered, and the bytes of one."""

_HEAD = re.compile(
    rb"POST /v1/services/[A-Za-z0-9._/-]*+ HTTP/1\.1\r\n"
    rb"(?:[A-Za-z0-9-]++:[ \t]*+[\x20-\x7e\t]*+\r\n)++\r\n"
)
"""The head of a call as clients send it. What does not match may be well-formed all the same: it is parsed."""
_LENGTH = re.compile(rb"[0-9]{1,7}")
_SPECIAL = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"http2-settings"))
"""Fields that change how the message or the connection is to be read."""
_PHRASES = {429: b"Too Many Requests", 503: b"Service Unavailable"}


@dataclass(frozen=True, slots=True)
class _Head:
    """What the head of a plain call says. `length`: of its body."""

    length: int
    authorization: bytes
    language: Language


class TurnAway:
    """One gateway's; shared by its connections. `until`: the event loop's time up to which it is to be asked."""

    def __init__(self) -> None:
        self._parts: tuple[Gate, Callable[[bytes], str], Refusals, Metrics] | None = None
        self._known: dict[bytes, _Head] = {}
        self.until = 0.0

    def open(self, gate: Gate, holder: Callable[[bytes], str], refusals: Refusals, metrics: Metrics) -> None:
        """`holder(authorization)`: the client of a token seen before, else empty."""
        self._parts = gate, holder, refusals, metrics

    def begin(self) -> None:
        """A call was refused by the gate: others will be."""
        self.until = asyncio.get_running_loop().time() + WINDOW_S

    def answer(self, data: bytes, address: str, default_fields: list[tuple[bytes, bytes]]) -> TurnedAway | None:
        """The response to the one request that `data` begins with; None where it must be parsed, or may enter.

        `address`: of the connection, which is a proxy's where there is one. `default_fields`: the server's (`Date`).
        """
        if self._parts is None:
            return None
        gate, holder, refusals, metrics = self._parts
        if gate.draining:
            return None  # the answer ends the connection: that is the protocol's business
        end = data.find(b"\r\n\r\n") + 4
        head = self._head(data[:end]) if end > 4 else None
        if head is None:
            return None
        missing = end + head.length - len(data)
        if missing < 0:  # another request follows
            return None
        who = holder(head.authorization)
        refusal = gate.refusal(who) if who else None
        if refusal is None:
            return None
        self.begin()
        refusals.count(refusal.code, address)
        metrics.refused(refusal.code)
        status_line, rest, before, after = _template(refusal.code, retry_after_s(refusal), head.language)
        default = b"".join([name + b": " + value + b"\r\n" for name, value in default_fields])
        return b"".join((status_line, default, rest, before, new_instance().encode(), after)), missing

    def _head(self, head: bytes) -> _Head | None:
        """What `head` says, None where it must be parsed. Remembered: who knocks again sends the same bytes."""
        found = self._known.get(head)
        if found is None and _HEAD.fullmatch(head) is not None and (fields := _fields(head)) is not None:
            found = _Head(
                int(fields[b"content-length"]),
                fields.get(b"authorization", b""),
                language_of(fields.get(b"accept-language", b"").decode("latin-1")),
            )
            if len(head) <= LONGEST_KNOWN:
                if len(self._known) >= MOST_KNOWN:
                    self._known.clear()
                self._known[head] = found
        return found


def _fields(head: bytes) -> dict[bytes, bytes] | None:
    """The fields of a head, by their names; None where one comes twice or the message is not a plain one."""
    lines = head.split(b"\r\n")
    fields: dict[bytes, bytes] = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip(b" \t")
    plain = (
        len(fields) == len(lines) - 3
        and b"host" in fields
        and _LENGTH.fullmatch(fields.get(b"content-length", b"")) is not None
        and fields.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        and _SPECIAL.isdisjoint(fields)
    )
    return fields if plain else None


@lru_cache(maxsize=64)
def _template(code: str, retry_s: int, language: Language) -> tuple[bytes, bytes, bytes, bytes]:
    """Status line, the fields after the default ones, and the body before and after the problem's id."""
    error: NgspError = ERRORS[code](retry_after_s=retry_s)
    instance = new_instance()
    status, headers, body = render(error, language, instance)
    before, _, after = body.partition(instance.encode())
    rest = b"".join([name + b": " + value + b"\r\n" for name, value in headers]) + b"\r\n"
    return b"HTTP/1.1 %d %s\r\n" % (status, _PHRASES[status]), rest, before, after
