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

from ngsp.api.edge import TurnedAway
from ngsp.api.problems import new_instance, render
from ngsp.gate import DRAINING, Gate, Shut
from ngsp.metrics import Metrics
from ngsp.refusals import Refusals
from ngsp.text import Language, language_of

MOST_KNOWN, LONGEST_KNOWN = 1_024, 4_096
"""Heads that are remembered, and the bytes of one."""

_HEAD = re.compile(
    rb"POST /v1/(?:services|events)/[A-Za-z0-9._/-]*+ HTTP/1\.1\r\n"
    rb"(?:[A-Za-z0-9-]++:[ \t]*+[\x20-\x7e\t]*+\r\n)++\r\n"
)
"""The head of a call as clients send it. What does not match may be well-formed all the same: it is parsed."""
_LENGTH = re.compile(rb"[0-9]{1,7}")
_SPECIAL = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"http2-settings"))
"""Fields that change how the message or the connection is to be read."""
_PHRASES = {429: b"Too Many Requests", 503: b"Service Unavailable"}


@dataclass(slots=True)
class _Head:
    """What the head of a plain call says. `length`: of its body. `who`: its client, empty while that is not known."""

    length: int
    authorization: bytes
    language: Language
    who: str = ""


class TurnAway:
    """One gateway's; shared by its connections."""

    def __init__(self) -> None:
        self._parts: tuple[Gate, Callable[[bytes], str], Refusals, Metrics] | None = None
        self._known: dict[bytes, _Head] = {}
        self._answers: dict[tuple[Shut, Language], tuple[bytes, bytes]] = {}
        self._reserved: list[str] = []
        self._default: list[tuple[bytes, bytes]] = []

    def open(self, gate: Gate, holder: Callable[[bytes], str], refusals: Refusals, metrics: Metrics) -> None:
        """`holder(authorization)`: the client of a token seen before, else empty."""
        self._parts = gate, holder, refusals, metrics

    @property
    def is_asked(self) -> bool:
        """Whether requests are to be looked at: where one was refused, others will be."""
        return self._parts is not None and self._parts[0].refusing

    def answer(self, data: bytes, address: str, default_fields: list[tuple[bytes, bytes]]) -> TurnedAway | None:
        """The response to the one request that `data` begins with; None where it must be parsed, or may enter.

        `address`: of the connection, which is a proxy's where there is one. `default_fields`: the server's (`Date`).
        """
        if self._parts is None:
            return None
        gate, holder, refusals, metrics = self._parts
        end = data.find(b"\r\n\r\n") + 4
        head = self._known.get(data[:end]) or self._head(data[:end])
        if head is None:
            return None
        missing = end + head.length - len(data)
        if missing < 0:  # another request follows
            return None
        if not head.who:
            head.who = holder(head.authorization)
        if not head.who:
            return None
        shut = gate.shut(head.who)
        if shut is None:
            self._reserve(gate, head.who)
            return None
        if shut is DRAINING:  # that answer ends the connection: the protocol's business
            return None
        code = shut.error.code
        refusals.count(code, address)
        metrics.refused(code)
        before, after = self._answer(shut, head.language, default_fields)
        return b"%b%b%b" % (before, new_instance().encode(), after), missing

    def _reserve(self, gate: Gate, who: str) -> None:
        """Hold a place for a call that is to be parsed, until it takes one itself later in this turn of the loop.

        Else all calls that one turn reads would find the same place free, and all but one be refused the dear way.
        """
        if not self._reserved:
            asyncio.get_running_loop().call_soon(self._give_back, gate)  # before the tasks of those calls
        gate.enter(who)
        self._reserved.append(who)

    def _give_back(self, gate: Gate) -> None:
        for who in self._reserved:
            gate.leave(who)
        self._reserved.clear()

    def _head(self, head: bytes) -> _Head | None:
        """What `head` says, None where it must be parsed. Remembered: who knocks again sends the same bytes."""
        if _HEAD.fullmatch(head) is None or (fields := _fields(head)) is None:
            return None
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

    def _answer(self, shut: Shut, language: Language, default: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
        """The response before and after the problem's id. Made anew when `default`, a list for each second, is."""
        if default is not self._default:
            self._default = default
            self._answers.clear()
        found = self._answers.get((shut, language))
        if found is None:
            found = self._answers[shut, language] = _rendered(shut, language, default)
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


def _rendered(shut: Shut, language: Language, default: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes]:
    instance = new_instance()
    status, headers, body = render(shut.refusal(), language, instance)
    lines = [b"HTTP/1.1 %d %s" % (status, _PHRASES[status])]
    lines += [name + b": " + value for name, value in (*default, *headers)]
    before, _, after = (b"\r\n".join(lines) + b"\r\n\r\n" + body).partition(instance.encode())
    return before, after
