"""Frozen value objects that travel: identifiers, the request on the bus and the reply, and their wire form.

Payload bytes pass through untouched as a message's value; everything else travels in message headers (name → bytes,
ASCII names in lower case, values UTF-8). Header names and meanings are part of the protocol between gateway and adapter
and listed in `docs/protocol.md`.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from typing import Literal

from ngsp.errors import InvalidIdentifier
from ngsp.text import Text

Headers = list[tuple[str, bytes]]

Mode = Literal["query", "submission", "event"]
"""Of a service. One of mode `event` is not called: its provider publishes, and subscribers are sent what it does."""
TransactionMode = Literal["query", "submission", "publication", "delivery"]
Effect = Literal["transactional", "idempotent", "uncertain"]
"""What a crash of the adapter may leave: see `ngsp/adapter/inbox.py`."""

ReplyStatus = Literal["ok", "not-found", "refused", "failed", "retry", "expired", "unknown"]
"""`ok` carries the reply's bytes; `not-found` and `refused` are the provider's no; `failed` is final; `retry` asks for
another delivery (a submission) or is *unavailable* (a query); `expired`: not begun, the deadline had passed; `unknown`:
begun and interrupted, never repeated by itself."""

REPLY_STATUSES: frozenset[str] = frozenset(("ok", "not-found", "refused", "failed", "retry", "expired", "unknown"))

MEMBER_CODE = re.compile(r"[A-Z][0-9]{2}(?:\.[0-9A-Z]+)*")
"""QĐ 20/2020/QĐ-TTg, levels left to right, at most 35 characters."""
OLD_MEMBER_CODE = re.compile(r"(?:[0-9]{3}\.[0-9]{2}\.[0-9]{2}|[0-9]{2}\.[0-9]{2})\.[A-Z][0-9]{2}")
"""QCVN 102:2016/BTTTT, highest level rightmost; the three-group form is observed in the field."""
SERVICE_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
VERSION_NAME = re.compile(r"v[1-9][0-9]{0,3}")
EVENT_TYPE = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
"""Reversed domain names, as CloudEvents 1.0 §type recommends; at most 128 characters."""
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}[a-z0-9]|[a-z0-9]")
"""Ids of clients and adapters, and names of purposes; without `..`."""
TRANSACTION_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
"""W3C Trace Context level 1."""


class _Ids:
    """Random digits drawn for 512 ids at once, and the time written once a millisecond."""

    __slots__ = ("_at", "_digits", "_milliseconds", "_time")

    def __init__(self) -> None:
        self._digits, self._at = "", 0
        self._milliseconds, self._time = 0, ""

    def __call__(self) -> str:
        digits, at = self._digits, self._at
        if at == len(digits):
            digits, at = os.urandom(5_120).hex(), 0
            self._digits = digits
        self._at = at + 20
        milliseconds = time.time_ns() // 1_000_000
        if milliseconds != self._milliseconds:
            self._milliseconds = milliseconds
            written = f"{milliseconds:012x}"
            self._time = f"{written[:8]}-{written[8:]}-7"
        variant = _VARIANTS[digits[at + 3]]
        return f"{self._time}{digits[at : at + 3]}-{variant}{digits[at + 4 : at + 7]}-{digits[at + 7 : at + 19]}"


_VARIANTS = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_ids = _Ids()


def uuid7() -> str:
    """A UUIDv7 (RFC 9562 §5.7) as text: 48 bits of Unix milliseconds, then 74 random bits."""
    return _ids()


def check_identifier(value: str, pattern: re.Pattern[str], what: Text, longest: int = 64) -> str:
    """`value` itself where it matches `pattern` whole, else `InvalidIdentifier` (422)."""
    if len(value) > longest or ".." in value or not pattern.fullmatch(value):
        raise InvalidIdentifier(
            Text(vi=f"{what.vi} không đúng dạng.", en=f"{what.en} is not of its form."), reason=f"bad {what.en}"
        )
    return value


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """`provider/name/version`, e.g. `G01.01/population-lookup/v1`."""

    provider: str
    name: str
    version: str

    @property
    def path(self) -> str:
        return f"{self.provider}/{self.name}/{self.version}"

    @property
    def request_topic(self) -> str:
        """One request topic for each service, so that rights on the broker can be given adapter by adapter."""
        return f"ngsp.request.{self.provider}.{self.name}.{self.version}"

    @classmethod
    def parse(cls, path: str) -> ServiceKey:
        provider, _, rest = path.partition("/")
        name, _, version = rest.partition("/")
        check_identifier(provider, MEMBER_CODE, Text("Mã cơ quan cung cấp", "the provider's code"), 35)
        check_identifier(name, SERVICE_NAME, Text("Tên dịch vụ", "the service's name"))
        check_identifier(version, VERSION_NAME, Text("Phiên bản dịch vụ", "the service's version"))
        return cls(provider, name, version)


Probe = Literal["", "adapter", "backend"]
"""What a probe asks: whether messages come through to the adapter, or to the system behind it as well."""
PROBES: frozenset[str] = frozenset(("", "adapter", "backend"))

TOO_OLD = "delivery-too-old"
"""Code of a reply `retry` to a delivery that was not begun because its time to begin had passed."""
IN_DOUBT = "effect-in-doubt"
"""Code of a reply `retry` to a delivery that was begun and may have been done: the next one finds out."""
OUTCOMES_TOPIC = "ngsp.outcomes"
"""Replies to submissions, shared by all gateways as one consumer group."""
GATEWAYS_GROUP = "ngsp.gateways"
"""That group."""


def group_of(adapter: str) -> str:
    """The consumer group that all processes of an adapter share."""
    return f"ngsp.adapter.{adapter}"


REPLY_TOPIC_PREFIX = "ngsp.reply."
"""Replies to queries: one topic for each gateway slot, read by manual assignment."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A request on the bus, from gateway to adapter.

    `id`: the transaction, UUIDv7; it is the message id too, and a second delivery carries the same one.
    `deadline_ms`: Unix milliseconds, absolute. `fields`: the granted JSON pointers, `("",)` for all.
    `reply_to`: the topic the reply goes to. `attempt`: 1 for the first delivery. `begin_by_ms`: when this delivery
    has grown too old to be begun, Unix milliseconds, 0 for never: another follows once the agreement was looked at.
    `order`: of messages to one service with the same one each is worked after the one before; a keyed digest, 32 hex
    digits, empty for none.
    `probe`: not empty where it asks for nothing but an answer; it has no body then.
    """

    id: str
    service: str
    deadline_ms: int
    purpose: str
    fields: tuple[str, ...]
    schema: str
    reply_to: str
    body: bytes
    attempt: int = 1
    consumer: str = ""
    officer: str = ""
    dossier: str = ""
    traceparent: str = ""
    begin_by_ms: int = 0
    order: str = ""
    probe: Probe = ""

    def headers(self) -> Headers:
        """The wire form of everything but the body."""
        headers = grant_headers(self.service, self.purpose, self.fields, self.schema, self.consumer)
        if self.begin_by_ms:
            headers.append(("ngsp-begin-by", b"%d" % self.begin_by_ms))
        if self.order:
            headers.append(("ngsp-order", self.order.encode()))
        if self.probe:
            headers.append(("ngsp-probe", self.probe.encode()))
        return headers + call_headers(
            self.id, self.deadline_ms, self.reply_to, self.attempt, self.officer, self.dossier, self.traceparent
        )

    @classmethod
    def read(cls, headers: Headers | tuple[tuple[str, bytes], ...], body: bytes) -> Envelope:
        """The reverse. ValueError, KeyError or UnicodeDecodeError where it is not an envelope."""
        found = dict(headers)
        fields = found["ngsp-fields"].decode()
        probe = found.get("ngsp-probe", b"").decode()
        if probe not in PROBES:
            raise ValueError("unknown kind of probe")
        return cls(
            id=found["ngsp-id"].decode(),
            service=found["ngsp-service"].decode(),
            deadline_ms=int(found["ngsp-deadline"]),
            purpose=found["ngsp-purpose"].decode(),
            fields=tuple(fields.split("\n")),
            schema=found["ngsp-schema"].decode(),
            reply_to=found["ngsp-reply-to"].decode(),
            body=body,
            attempt=int(found["ngsp-attempt"]),
            consumer=found["ngsp-consumer"].decode(),
            officer=found.get("ngsp-officer", b"").decode(),
            dossier=found.get("ngsp-dossier", b"").decode(),
            traceparent=found.get("traceparent", b"").decode(),
            begin_by_ms=int(found.get("ngsp-begin-by", b"0")),
            order=found.get("ngsp-order", b"").decode(),
            probe=probe,  # type: ignore[arg-type]  # checked above
        )


def grant_headers(service: str, purpose: str, fields: tuple[str, ...], schema: str, consumer: str) -> Headers:
    """The headers that are the same for every call under one grant; made once for each."""
    return [
        ("ngsp-service", service.encode()),
        ("ngsp-purpose", purpose.encode()),
        ("ngsp-fields", "\n".join(fields).encode()),
        ("ngsp-schema", schema.encode()),
        ("ngsp-consumer", consumer.encode()),
    ]


def call_headers(
    id: str, deadline_ms: int, reply_to: str, attempt: int, officer: str, dossier: str, traceparent: str
) -> Headers:
    """The headers that differ from call to call."""
    headers = [
        ("ngsp-id", id.encode()),
        ("ngsp-deadline", b"%d" % deadline_ms),
        ("ngsp-reply-to", reply_to.encode()),
        ("ngsp-attempt", b"%d" % attempt),
    ]
    if officer:
        headers.append(("ngsp-officer", officer.encode()))
    if dossier:
        headers.append(("ngsp-dossier", dossier.encode()))
    if traceparent:
        headers.append(("traceparent", traceparent.encode()))
    return headers


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply on the bus, from adapter to gateway: which request it answers, how it went, and the provider's bytes.

    `code`: the provider's own code for a no or a failure, at most 64 plain characters, never personal data.
    `adapter`: the id of the adapter that answered. `attempt`: the delivery it answers. `probe`: it answers a probe.
    """

    id: str
    service: str
    status: ReplyStatus
    body: bytes = b""
    code: str = ""
    adapter: str = ""
    attempt: int = 1
    probe: bool = False

    def headers(self) -> Headers:
        headers = [
            ("ngsp-id", self.id.encode()),
            ("ngsp-service", self.service.encode()),
            ("ngsp-status", self.status.encode()),
            ("ngsp-adapter", self.adapter.encode()),
            ("ngsp-attempt", b"%d" % self.attempt),
        ]
        if self.code:
            headers.append(("ngsp-code", self.code.encode()))
        if self.probe:
            headers.append(("ngsp-probe", b"answer"))
        return headers

    @classmethod
    def read(cls, headers: Headers | tuple[tuple[str, bytes], ...], body: bytes) -> Reply:
        """The reverse. ValueError, KeyError or UnicodeDecodeError where it is not a reply."""
        found = dict(headers)
        status = found["ngsp-status"].decode()
        if status not in REPLY_STATUSES:
            raise ValueError("unknown reply status")
        return cls(
            id=found["ngsp-id"].decode(),
            service=found["ngsp-service"].decode(),
            status=status,  # type: ignore[arg-type]  # checked above
            body=body,
            code=found.get("ngsp-code", b"").decode()[:64],
            adapter=found.get("ngsp-adapter", b"").decode()[:64],
            attempt=int(found.get("ngsp-attempt", b"1")),
            probe="ngsp-probe" in found,
        )
