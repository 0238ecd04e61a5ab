"""The hot door: `POST /v1/services/{provider}/{service}/{version}` in plain ASGI, before FastAPI's router.

A `Request`-based route costs as much again as everything the gateway does for a call, so this one reads the scope
itself. All other paths go on to the FastAPI application.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from ngsp.api.problems import SANDBOX, render
from ngsp.api.turnaway import TurnAway
from ngsp.errors import (
    BodyTooLarge,
    Internal,
    MalformedHeader,
    NgspError,
    NotAcceptable,
    Overloaded,
    RegistryStale,
    RequestTimeout,
    Unauthenticated,
    UnsupportedType,
)
from ngsp.exchange import Answer, Call, Exchange
from ngsp.gate import Gate
from ngsp.messages import IDENTIFIER, TRACEPARENT, uuid7
from ngsp.metrics import Metrics
from ngsp.refusals import Refusals
from ngsp.text import Language, Text, language_of

PREFIX = "/v1/services/"

VISIBLE = re.compile(rb"[\x21-\x7e]{1,255}")
PERSONAL = re.compile(rb"\d{9,}")
"""A run of nine digits or more may be an identity number: these headers are logged, so it may not stand there."""
FORMS: dict[bytes, tuple[str, re.Pattern[bytes]]] = {
    b"ngsp-purpose": ("purpose", re.compile(IDENTIFIER.pattern.encode())),
    b"ngsp-agreement": ("agreement", re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")),
    b"ngsp-officer": ("officer", re.compile(rb"[A-Za-z0-9._@-]{1,64}")),
    b"ngsp-dossier": ("dossier", re.compile(rb"[0-9A-Z.]{3,35}-\d{6}-\d{4,6}")),
    b"ngsp-procedure": ("procedure", re.compile(rb"\d\.\d{6}(?:\.[0-9A-Z.]{3,24})?")),
    b"ngsp-consent": ("consent", re.compile(rb"[A-Za-z0-9._:/-]{1,128}")),
    b"idempotency-key": ("idempotency_key", VISIBLE),
    b"ngsp-sandbox": ("sandbox", re.compile(rb"true")),
}
MAY_HAVE_DIGITS = frozenset((b"ngsp-agreement", b"idempotency-key"))
_JSON_TYPES = frozenset((b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-8"))
_WAIT = re.compile(rb"(?:^|[,;])\s*wait=(\d{1,4})\b")
_ASYNC = re.compile(rb"(?:^|[,;])\s*respond-async\b")
_MALFORMED = Text("Tiêu đề {name} sai dạng hoặc bị lặp.", "The header {name} is malformed or repeated.")
_JSON_HEADER = (b"content-type", b"application/json")

log = structlog.get_logger(__name__)


def _nothing() -> None:
    return


def combined(fields: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Fields by name, those of one name as one (RFC 9110 §5.3): two tokens are then no token, two types no type."""
    found = dict(fields)
    if len(found) != len(fields):
        found = {}
        for name, value in fields:
            found[name] = found[name] + b", " + value if name in found else value
    return found


def takes_json(accept: bytes) -> bool:
    return b"*/*" in accept or b"application/json" in accept or b"application/*" in accept


def _unchanged(inner: ASGIApp) -> ASGIApp:
    return inner


class FrontDoor:
    """The outermost ASGI application of a gateway."""

    def __init__(self, inner: ASGIApp) -> None:
        self._inner = inner
        self._parts: tuple[Exchange, Gate, Refusals, Metrics] | None = None
        self._on_drain: Callable[[], None] = _nothing
        self.turn_away = TurnAway()
        self.fenced = False
        """Set where the gateway must end because another closed its work."""

    def open(
        self,
        exchange: Exchange,
        gate: Gate,
        refusals: Refusals,
        metrics: Metrics,
        on_drain: Callable[[], None],
        before_inner: Callable[[ASGIApp], ASGIApp] = _unchanged,
    ) -> None:
        """From now on calls are taken; before, they go to the inner application, which knows no such route.

        `before_inner`: puts another door between this one and the inner application.
        """
        self._parts, self._on_drain = (exchange, gate, refusals, metrics), on_drain
        self.turn_away.open(gate, exchange.holder, refusals, metrics)
        self._inner = before_inner(self._inner)

    async def drain(self) -> None:
        """Take nothing new; what is in flight goes on."""
        self._on_drain()

    def refused_below(self, code: str, address: str) -> None:
        """Counts a refusal made by the HTTP server before there was a request."""
        if self._parts is not None:
            _, _, refusals, metrics = self._parts
            refusals.count(code, address)
            metrics.refused(code)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            self._parts is None
            or scope["type"] != "http"
            or scope["method"] != "POST"
            or not scope["path"].startswith(PREFIX)
        ):
            await self._inner(scope, receive, send)
            return
        await Visit(scope, receive, send, *self._parts).run()


class Visit:
    """One call at the front door."""

    __slots__ = (
        "_exchange",
        "_gate",
        "_headers",
        "_id",
        "_metrics",
        "_receive",
        "_refusals",
        "_scope",
        "_send",
        "_who",
    )

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, exchange: Exchange, gate: Gate, refusals: Refusals,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self._scope, self._receive, self._send = scope, receive, send
        self._exchange, self._gate, self._refusals, self._metrics = exchange, gate, refusals, metrics
        self._headers: dict[bytes, bytes] = {}
        self._id = ""
        self._who = ""

    async def run(self) -> None:
        self._headers = combined(self._scope["headers"])
        authorization = self._headers.get(b"authorization", b"")
        self._who = self._exchange.holder(authorization) or self._address()
        refusal = self._gate.refusal(self._who)
        if refusal is not None:
            self._refusals.count(refusal.code, self._address())
            self._metrics.refused(refusal.code)
            await self._fail(refusal)
            return
        self._id = uuid7()
        self._gate.enter(self._who)
        try:
            answer = await self._exchange.call(self._call(authorization))
        except NgspError as error:
            if isinstance(error, (Unauthenticated, RegistryStale)):  # nobody is known to log it under
                self._refusals.count(error.code, self._address())
                self._metrics.refused(error.code)
            await self._fail(error)
        except Exception as error:
            log.error("a call failed inside", transaction=self._id, error=type(error).__name__, exc_info=True)
            await self._fail(Internal(reason=type(error).__name__))
        else:
            await self._answer(answer)
        finally:
            self._gate.leave(self._who)

    def _address(self) -> str:
        client = self._scope.get("client")
        return client[0] if client else "local"

    def _call(self, authorization: bytes) -> Call:
        values: dict[str, Any] = {}
        malformed = self._read_forms(values)
        prefer = self._headers.get(b"prefer", b"")
        waits = _WAIT.search(prefer) if prefer else None
        return Call(
            transaction=self._id,
            # No service's name has a character that would have to be escaped: what is escaped is none.
            path="" if b"%" in self._scope["raw_path"] else self._scope["path"][len(PREFIX) :],
            authorization=authorization,
            purpose=values.pop("purpose", ""),
            sandbox=bool(values.pop("sandbox", "")),
            read_body=self._read_body,
            traceparent=self._traceparent(),
            wait_s=float(waits.group(1)) if waits else 0.0,
            respond_async=bool(prefer and _ASYNC.search(prefer)),
            malformed=malformed,
            **values,
        )

    def _traceparent(self) -> str:
        traceparent = self._headers.get(b"traceparent", b"")
        trace = traceparent.decode("ascii", "replace") if traceparent else ""
        return trace if trace and TRACEPARENT.fullmatch(trace) else ""

    def _read_forms(self, values: dict[str, Any]) -> NgspError | None:
        """The headers we know, each checked for its form; what is wrong is told after authentication."""
        wrong = ""
        seen = 0
        for name, value in self._scope["headers"]:
            form = FORMS.get(name)
            if form is None:
                continue
            seen += 1
            if not form[1].fullmatch(value) or (name not in MAY_HAVE_DIGITS and PERSONAL.search(value)):
                wrong = name.decode()
            else:
                values[form[0]] = value.decode("ascii")
        if wrong or seen != len(values):
            return MalformedHeader(_MALFORMED.format(name=wrong or "Ngsp-*"), reason=f"malformed {wrong or 'twice'}")
        if "purpose" not in values:
            return MalformedHeader(
                Text("Thiếu tiêu đề Ngsp-Purpose.", "The header Ngsp-Purpose is missing."), reason="no purpose"
            )
        return self._unacceptable()

    def _unacceptable(self) -> NgspError | None:
        content_type = self._headers.get(b"content-type", b"")
        if content_type not in _JSON_TYPES and content_type.lower().replace(b'"', b"") not in _JSON_TYPES:
            return UnsupportedType()
        if self._headers.get(b"content-encoding", b"identity") != b"identity":
            return UnsupportedType(reason="content coding")
        accept = self._headers.get(b"accept", b"")
        return None if not accept or takes_json(accept) else NotAcceptable()

    async def _read_body(self, most: int) -> bytes:
        """The whole body, counted while it is read; a declared length over `most` is refused unread."""
        declared = self._headers.get(b"content-length")
        if declared is not None and int(declared) > most:
            raise BodyTooLarge(reason="declared length")
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body"):
            if len(body) > most:
                raise BodyTooLarge(reason="length")
            return body
        return await self._read_more(message, most)

    async def _read_more(self, message: Any, most: int) -> bytes:
        reserved = 0
        parts: list[bytes] = []
        size = 0
        self._gate.leave(self._who)  # a slow body must not keep others out
        try:
            while True:
                if message["type"] != "http.request":
                    raise RequestTimeout(reason="the caller went away or was too slow within its body")
                part = message.get("body", b"")
                size += len(part)
                if size > most:
                    raise BodyTooLarge(reason="length")
                if not self._gate.reserve_body(len(part)):
                    raise Overloaded(retry_after_s=1, reason="too many bodies at once")
                reserved += len(part)
                parts.append(part)
                if not message.get("more_body"):
                    break
                message = await self._receive()
        finally:
            self._gate.release_body(reserved)
            refusal = self._gate.refusal(self._who)
            self._gate.enter(self._who)
        if refusal is not None:
            raise refusal
        return b"".join(parts)

    async def _answer(self, answer: Answer) -> None:
        id = answer.transaction.encode()
        headers = [
            (b"content-length", b"%d" % len(answer.body)),
            (b"ngsp-transaction", id),
            (b"cache-control", b"no-store"),
        ]
        if answer.sandbox:
            headers.append(SANDBOX)
        if answer.status == 200:
            headers.append(_JSON_HEADER)
        else:
            headers += [(b"location", b"/v1/transactions/" + id), (b"retry-after", b"%d" % answer.retry_after_s)]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": answer.body})

    async def _fail(self, error: NgspError) -> None:
        id = error.transaction or self._id
        status, headers, body = render(error, self._language(), f"/v1/transactions/{id}" if id else None)
        if id:
            headers.append((b"ngsp-transaction", id.encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})

    def _language(self) -> Language:
        accepted = self._headers.get(b"accept-language")
        return language_of(accepted.decode("latin-1")) if accepted else "vi"
