"""Errors → responses: RFC 9457 problem documents, for FastAPI's routes and for plain ASGI alike.

`render` is the one place where an `NgspError` becomes bytes. `install` wires it into a FastAPI application, so that
every refusal, one of the framework's own included, and every defect leaves as such a document and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from ngsp.api.address import client_address
from ngsp.api.validation import validation_error
from ngsp.errors import (
    BodyTooLarge,
    BusError,
    InMaintenance,
    Internal,
    LimitReached,
    MalformedHttp,
    MethodNotAllowed,
    NgspError,
    NotAcceptable,
    NotFound,
    ProviderUnavailable,
    ScopeMissing,
    Unauthenticated,
    Unavailable,
    UnsupportedType,
)
from ngsp.messages import uuid7
from ngsp.text import LANGUAGES, Language, language_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = structlog.get_logger(__name__)

Translate = Callable[[Exception], NgspError | None]
"""What a foreign exception means to the caller; None where it is a defect."""
OnRefusal = Callable[[NgspError, Request, str], None]
"""Told of each refusal: the error, the request, and the problem's instance."""

DEFAULT_RETRY_AFTER_S = 1
SANDBOX = (b"ngsp-sandbox", b"true")
"""Marks whatever a client of the sandbox is told."""
_WAITS = (LimitReached, Unavailable, ProviderUnavailable, InMaintenance)

_HEADS: dict[Language, list[tuple[bytes, bytes]]] = {
    language: [
        (b"content-type", b"application/problem+json"),
        (b"content-language", language.encode()),
        (b"cache-control", b"no-store"),
    ]
    for language in LANGUAGES
}


def render(
    error: NgspError,
    language: Language,
    instance: str | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of the response to `error`.

    `instance`: the transaction's address where there is one; otherwise the problem gets an id of its own
    (`urn:uuid:…`). `headers` are added as they are. `Retry-After` is there, an integer of at least 1, wherever waiting
    helps. Pure but for that id.
    """
    body = orjson.dumps(error.problem(language, instance or new_instance()))
    found = [*_HEADS[language], (b"content-length", b"%d" % len(body)), *fields_of(error), *headers]
    return error.status, found, body


def fields_of(error: NgspError) -> list[tuple[bytes, bytes]]:
    """The header fields that an error has of its own, whatever its body looks like."""
    found = []
    if error.retry_after_s is not None or isinstance(error, _WAITS):
        found.append((b"retry-after", b"%d" % retry_after_s(error)))
    if isinstance(error, Unauthenticated):
        found.append((b"www-authenticate", b'Bearer realm="ngsp", error="invalid_token"'))
    elif isinstance(error, ScopeMissing):
        found.append((b"www-authenticate", b'Bearer realm="ngsp", error="insufficient_scope"'))
    if error.sandbox:
        found.append(SANDBOX)
    return found


def new_instance() -> str:
    """The id of one problem that belongs to no transaction."""
    return f"urn:uuid:{uuid7()}"


def retry_after_s(error: NgspError) -> int:
    """Whole seconds to wait, at least 1."""
    wished_s = error.retry_after_s
    if wished_s is None or not math.isfinite(wished_s):
        return DEFAULT_RETRY_AFTER_S
    return max(1, math.ceil(wished_s))


def language_from(headers: Mapping[str, str]) -> Language:
    return language_of(headers.get("accept-language"))


def response(
    error: NgspError,
    request: Request,
    instance: str | None = None,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> Response:
    """The same for FastAPI's side, in the language that `request` asks for."""
    status, rendered, body = render(error, language_from(request.headers), instance, headers)
    answer = Response(status_code=status)
    answer.body = body
    answer.raw_headers = rendered
    return answer


def install(app: FastAPI, *, translate: Translate | None = None, on_refusal: OnRefusal | None = None) -> None:
    """Makes every error of `app` a problem document.

    `translate` gives foreign exceptions (a lost database) their meaning before they count as defects. `on_refusal` is
    told of what was refused; without it a known caller's refusal is a line of the log, and others are counted by
    `app.state.parts.refusals`, where there is one.
    """
    refused = on_refusal or _log_refusal

    async def on_ngsp_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, NgspError)
        tx = error.transaction
        instance = f"/v1/transactions/{tx}" if tx else new_instance()
        if isinstance(error, Internal):
            _log_defect(error, request.scope, instance)
        else:
            refused(error, request, instance)
        return response(error, request, instance, [(b"ngsp-transaction", tx.encode())] if tx else ())

    async def on_validation_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        known_names: frozenset[str] = getattr(request.scope.get("route"), "known_names", frozenset())
        return await on_ngsp_error(request, validation_error(error, known_names))

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        meaning = _framework_error(error)
        instance = new_instance()
        if isinstance(meaning, Internal):
            _log_defect(error, request.scope, instance)
        else:
            refused(meaning, request, instance)
        allow = [(b"allow", _methods_allowed(request))] if error.status_code == 405 else []
        return response(meaning, request, instance, allow)

    app.add_exception_handler(NgspError, on_ngsp_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_middleware(LastResort, translate=translate, refused=refused)


_FRAMEWORK_ERRORS: dict[int, type[NgspError]] = {
    401: Unauthenticated,
    403: ScopeMissing,
    404: NotFound,
    405: MethodNotAllowed,
    406: NotAcceptable,
    413: BodyTooLarge,
    415: UnsupportedType,
}


def _framework_error(error: HTTPException) -> NgspError:
    """What Starlette or FastAPI meant; its own detail may hold input and is left out."""
    kind = _FRAMEWORK_ERRORS.get(error.status_code)
    if kind is None:
        kind = MalformedHttp if 400 <= error.status_code < 500 else Internal
    return kind(reason=f"framework {error.status_code}")


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


def _methods_allowed(request: Request) -> bytes:
    """All methods of this address: Starlette names those of the first route only (RFC 9110 §10.2.1 wants all)."""
    routes = request.app.router.routes
    allowed = [
        method
        for method in _METHODS
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return ", ".join(allowed).encode()


class LastResort:
    """Pure ASGI, just inside the server: what no handler caught becomes `internal` and a line of the log.

    Starlette's own last resort raises the exception again, and the server then prints it with its text, which may hold
    what nobody may read. Here the log gets the kinds of the exceptions and where they came from, never their texts.
    """

    def __init__(self, app: ASGIApp, *, translate: Translate | None = None, refused: OnRefusal | None = None) -> None:
        self.app = app
        self.translate = translate
        self.refused = refused or _log_refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watching(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watching)
        except ClientDisconnect:
            # Nobody is left to answer.
            return
        except Exception as error:  # noqa: BLE001 - the seam where defects end; logged below
            meaning = None if started else self._meaning(error)
            request = Request(scope)
            instance = new_instance()
            if meaning is None:
                _log_defect(error, scope, instance)
            else:
                self.refused(meaning, request, instance)
            if started:
                raise AnswerCutShort from None
            await response(meaning or Internal(), request, instance)(scope, receive, send)

    def _meaning(self, error: Exception) -> NgspError | None:
        if isinstance(error, NgspError):
            return None if isinstance(error, Internal) else error
        return self.translate(error) if self.translate else None


class AnswerCutShort(Exception):
    """An answer failed after its first bytes: the connection must be closed, so that it is not taken for whole."""


def _log_refusal(error: NgspError, request: Request, instance: str) -> None:
    """One line for a caller that is known; others are counted by address and minute, so that nobody floods the log."""
    if "caller" not in request.scope.get("state", {}):
        held = getattr(request.app.state, "parts", None)
        refusals = getattr(held, "refusals", None)
        if held is not None and refusals is not None:
            refusals.count(error.code, client_address(request.scope, held.settings.trusted_proxies))
            return
    log = logger.warning if isinstance(error, BusError) else logger.info
    said = {"code": error.code, "reason": error.reason, "status": error.status, "instance": instance}
    log("request.refused", **said, **about(request))


def about(request: Request) -> dict[str, Any]:
    """What the log may say of a request: method, the route's template and the client, never path or query as sent."""
    route = request.scope.get("route")
    caller = request.scope.get("state", {}).get("caller")
    found = {"method": request.method, "route": getattr(route, "path", None)}
    if caller is not None:
        found["client"] = caller.client.id
    return found


def _log_defect(error: BaseException, scope: Scope, instance: str) -> None:
    logger.error("request.defect", instance=instance, causes=causes(error), **about(Request(scope)))


def causes(error: BaseException) -> list[dict[str, Any]]:
    """The chain of exceptions by kind and place, outermost first, without their texts; `reason` of our own is ours."""
    found: list[dict[str, Any]] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(found) < 8:
        seen.add(id(current))
        entry: dict[str, Any] = {"type": f"{type(current).__module__}.{type(current).__qualname__}"}
        if isinstance(current, NgspError):
            entry["reason"] = current.reason
        entry["frames"] = _frames(current)
        found.append(entry)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return found


def _frames(error: BaseException) -> list[str]:
    frames: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_qualname}")
        trace = trace.tb_next
    return frames[-12:]
