"""The compatible door: takes what systems send that were written for existing national and provincial platforms.

Stands between the hot door and the FastAPI application, in plain ASGI as they are. A request whose path is that of a
compatible route (tuyến tương thích) is read by the route's terms and becomes a call like any other: it goes through
`Exchange.call`, so that log, rights, quotas and limits are the same. The answer and the errors take the old shape with
the statuses they have everywhere, and always name the transaction. Any other request costs one look into a table.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from ngsp.access import is_entitled
from ngsp.api.address import client_address, throttle_group
from ngsp.api.compatible_request import Reading, read, read_headers, read_query
from ngsp.api.front import Visit, combined, takes_json
from ngsp.api.problems import SANDBOX, fields_of
from ngsp.errors import (
    AccessDenied,
    BodyTooLarge,
    Internal,
    KeyRequired,
    MalformedHttp,
    MethodNotAllowed,
    NgspError,
    NotAcceptable,
    RegistryStale,
    Unauthenticated,
)
from ngsp.exchange import Answer, Call, Exchange
from ngsp.gate import Gate
from ngsp.identity.model import Caller
from ngsp.identity.partners import HEADER, Partners, are_of
from ngsp.identity.tokens import Tokens
from ngsp.mapping import MappingError
from ngsp.messages import uuid7
from ngsp.metrics import Metrics
from ngsp.refusals import Refusals
from ngsp.registry.model import Service, Snapshot
from ngsp.registry.routes import CompatibleRoute, Found
from ngsp.registry.store import Registry
from ngsp.text import Text
from ngsp.transactions import entry

_PARTNER = HEADER.encode()
_TYPE = (b"content-type", b"application/json; charset=utf-8")
_CODE_MISSING = Text("Yêu cầu thiếu mã yêu cầu.", "The request's own code is missing.")
_NO_BODY = Text("Yêu cầu này không có nội dung (body).", "This request has no body.")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CompatibleParts:
    """What the door works with."""

    exchange: Exchange
    gate: Gate
    refusals: Refusals
    metrics: Metrics
    registry: Registry
    tokens: Tokens
    partners: Partners
    trusted_proxies: str


class CompatibleDoor:
    """An ASGI application before `inner`, which gets whatever no compatible route is for."""

    def __init__(self, inner: ASGIApp, parts: CompatibleParts) -> None:
        self._inner, self._parts = inner, parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # As last known: where the registry is stale the visit says so, and other paths need not know.
            found = self._parts.registry.routes.find(scope["raw_path"])
            if found is not None:
                await CompatibleVisit(scope, receive, send, self._parts, found, self._inner).run()
                return
        await self._inner(scope, receive, send)


class CompatibleVisit(Visit):
    """One request by a compatible route."""

    __slots__ = ("_allow", "_found", "_inner", "_parts", "_reading", "_route")

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, parts: CompatibleParts, found: Found, inner: ASGIApp
    ) -> None:
        super().__init__(scope, receive, send, parts.exchange, parts.gate, parts.refusals, parts.metrics)
        self._parts, self._found, self._inner = parts, found, inner
        self._reading: Reading | None = None
        self._route: CompatibleRoute
        self._allow: list[str] = []

    async def run(self) -> None:
        self._headers = combined(self._scope["headers"])
        self._who = self._holder() or self._address()
        routes, _ = self._found
        route = routes.get(self._scope["method"])
        if route is None:
            self._allow = await self._allowed()
            if not self._allow:
                await self._inner(self._scope, self._receive, self._send)
                return
            route = routes[self._allow[0]]
        self._id, self._route = uuid7(), route
        refusal = self._gate.refusal(self._who)
        if refusal is None:
            await self._carry()
        else:
            await self._refuse(refusal)

    async def _carry(self) -> None:
        try:
            snapshot = self._parts.registry.snapshot
            caller, authorization, denial = await self._authenticate(snapshot)
        except NgspError as error:  # nobody is known to log it under
            await self._refuse(error)
            return
        self._who = caller.client.id
        refusal = self._gate.refusal(self._who)  # a slow proof may have taken a while
        if refusal is not None:
            await self._refuse(refusal)
            return
        self._gate.enter(self._who)
        try:
            call = await self._read_call(caller, authorization, snapshot, denial)
            answer = await self._exchange.call(call)
            body = self._body_of(answer)
        except (Unauthenticated, RegistryStale) as error:
            await self._refuse(error)
        except NgspError as error:
            await self._fail(error)
        except Exception as error:
            log.error("a call failed inside", transaction=self._id, error=type(error).__name__, exc_info=True)
            await self._fail(Internal(reason=type(error).__name__))
        else:
            await self._give(answer, body)
        finally:
            self._gate.leave(self._who)

    async def _refuse(self, error: NgspError) -> None:
        self._refusals.count(error.code, self._address())
        self._metrics.refused(error.code)
        await self._fail(error)

    # Who calls

    def _partner(self) -> bytes:
        """The partner's header, or the same value as some clients send it: as `Authorization`, without a scheme."""
        authorization = self._headers.get(b"authorization", b"")
        return self._headers.get(_PARTNER) or (authorization if b" " not in authorization else b"")

    def _holder(self) -> str:
        partner = self._partner()
        if partner:
            return self._parts.partners.holder(partner)
        return self._exchange.holder(self._headers.get(b"authorization", b""))

    async def _authenticate(self, snapshot: Snapshot) -> tuple[Caller, bytes, NgspError | None]:
        """The caller, a bearer token of it, and why it may not call all the same.

        By a token, by the partner's header, or by both, which are then of one client. `Unauthenticated` otherwise.
        """
        partner, authorization = self._partner(), self._headers.get(b"authorization", b"")
        now_s = time.time()
        if authorization not in (b"", partner) and b" " not in authorization:
            raise Unauthenticated(reason="two proofs that differ")
        if not partner:
            caller = await self._parts.tokens.authenticate_fresh(authorization, snapshot, now_s)
            return caller, authorization, None
        proved = await self._parts.partners.prove(partner, snapshot, self._caller_address, now_s)
        if b" " not in authorization:
            authorization = proved.authorization
        caller = await self._parts.tokens.authenticate_fresh(authorization, self._parts.registry.snapshot, now_s)
        if caller.client.id != proved.client:
            raise Unauthenticated(reason="two proofs of two clients")
        if not are_of(proved.units, snapshot.members.get(caller.client.member)):
            return caller, authorization, AccessDenied(reason="PartnerCode is not of the client's member")
        return caller, authorization, None

    def _caller_address(self) -> str:
        """Where its attempts are counted."""
        return throttle_group(client_address(self._scope, self._parts.trusted_proxies))

    async def _allowed(self) -> list[str]:
        """The methods that this path has for this caller; none for who has no agreement: the path is unknown then."""
        try:
            snapshot = self._parts.registry.snapshot
            caller, _, denial = await self._authenticate(snapshot)
        except NgspError as error:
            self._refusals.count(error.code, self._address())
            return []
        routes, now = self._found[0].items(), entry.now()
        may_call = denial is None and "exchange" in caller.scopes
        return [
            method
            for method, route in sorted(routes)
            if may_call and is_entitled(snapshot, caller.client, route.service, now)
        ]

    # What is asked

    async def _read_call(
        self, caller: Caller, authorization: bytes, snapshot: Snapshot, denial: NgspError | None
    ) -> Call:
        """The call. What is wrong with the request is told by `Exchange.call`, which writes it down."""
        route = self._route
        fields: dict[str, Any] = {}
        malformed = denial
        if self._allow and malformed is None:
            malformed = MethodNotAllowed(reason="another method of a compatible route")
        service = snapshot.services.get(route.service)
        entitled = "exchange" in caller.scopes and is_entitled(snapshot, caller.client, route.service, entry.now())
        if malformed is None and service is not None and entitled:
            try:  # who may not call is refused before anything of the body is read
                self._reading = reading = await self._read(service)
                fields = dict(reading.fields)
            except NgspError as error:
                malformed = error
        return Call(
            transaction=self._id,
            path=route.service,
            authorization=authorization,
            purpose=fields.pop("purpose", route.purpose),
            read_body=self._payload,
            agreement=route.agreement_of(caller.client.member, snapshot.agreements),
            traceparent=self._traceparent(),
            route=route.id,
            malformed=malformed,
            **fields,
        )

    async def _read(self, service: Service) -> Reading:
        route, terms = self._route, self._route.terms
        accept = self._headers.get(b"accept", b"")
        if accept and not takes_json(accept):
            raise NotAcceptable
        query = read_query(self._scope["query_string"], terms.get("query", ()))
        headers = read_headers(self._scope["headers"], terms.get("headers", ()))
        body = None
        if route.takes_body:
            if wrong := self._unacceptable():
                raise wrong
            body = await self._read_body(service.max_body_bytes)
        elif self._headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in self._headers:
            raise MalformedHttp(_NO_BODY, reason="a body where none is read")
        path = route.named(self._found[1])
        reading = read(route, self._scope["method"], path, query, headers, body)
        if service.mode == "submission" and "idempotency_key" not in reading.fields:
            raise KeyRequired(_CODE_MISSING, reason="the request's own code is missing")
        return reading

    async def _payload(self, most: int) -> bytes:
        payload = self._reading.payload if self._reading else b""
        if len(payload) > most:
            raise BodyTooLarge(reason="the payload made of the request")
        return payload

    # What is answered

    def _body_of(self, answer: Answer) -> bytes:
        """The body in the old shape. What went wrong here is ours: the transaction has its outcome in the log."""
        route, payload = self._route, self._reading.value if self._reading else None
        root: dict[str, Any] = {"payload": payload, "id": answer.transaction}
        if answer.status == 200:
            shape, root["body"] = route.expressions.get("reply"), None
            if shape is None:
                return answer.body
            root["body"] = orjson.loads(answer.body)
        else:
            shape, root["location"] = route.expressions.get("accepted"), f"/v1/transactions/{answer.transaction}"
            if shape is None:
                return orjson.dumps({"transaction": answer.transaction})
        try:
            return orjson.dumps(shape(root))
        except (MappingError, TypeError) as error:
            log.error("compatible.reply_has_no_shape", route=route.id, transaction=answer.transaction)
            raise Internal(reason=f"the answer of route {route.id} cannot be worked out") from error

    async def _give(self, answer: Answer, body: bytes) -> None:
        id = answer.transaction.encode()
        fields = [
            _TYPE,
            (b"content-length", b"%d" % len(body)),
            (b"ngsp-transaction", id),
            (b"cache-control", b"no-store"),
        ]
        if answer.sandbox:
            fields.append(SANDBOX)
        if answer.status == 202:
            fields += [(b"location", b"/v1/transactions/" + id), (b"retry-after", b"1")]
        await self._send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await self._send({"type": "http.response.body", "body": body})

    async def _fail(self, error: NgspError) -> None:
        language = self._language()
        id = error.transaction or self._id
        problem = {"errors": None, "provider_code": None, **error.problem(language), "id": id}
        body = self._error_body(problem)
        fields = [
            _TYPE,
            (b"content-length", b"%d" % len(body)),
            (b"content-language", language.encode()),
            (b"cache-control", b"no-store"),
            (b"ngsp-transaction", id.encode()),
            *fields_of(error),
        ]
        if isinstance(error, MethodNotAllowed):
            fields.append((b"allow", ", ".join(self._allow).encode()))
        await self._send({"type": "http.response.start", "status": error.status, "headers": fields})
        await self._send({"type": "http.response.body", "body": body})

    def _error_body(self, problem: dict[str, Any]) -> bytes:
        shape = self._route.expressions.get("error")
        if shape is not None:
            try:
                return orjson.dumps(shape(problem))
            except (MappingError, TypeError):
                log.error("compatible.error_has_no_shape", route=self._route.id)
        said = {"code": problem["code"], "message": problem["title"], "description": problem["detail"]}
        said |= {"errors": problem["errors"]} if problem["errors"] else {}
        return orjson.dumps(said | {"transaction": problem["id"]})
