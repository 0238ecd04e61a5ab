"""THE request path. `Exchange.call` reads top to bottom as the life of a request.

    authenticate → service and agreement → strict parse, schema → quota → log ACCEPTED (durable) → bus → adapter →
    reply → schema, cut to the granted fields → log OUTCOME (durable) → answer

A refusal, a timeout, a caller that went away and a crash each end in a terminal entry: refusals here, timeouts as
*unknown*, crashes by the sweep (`ngsp/sweep.py`). Submissions leave after ACCEPTED; `ngsp/delivery.py` goes on.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

from ngsp.access import authorise, line_of, subjects_in, try_out
from ngsp.asking import Asker
from ngsp.conclusion import conclude, no_answer
from ngsp.errors import (
    BusUnavailable,
    InMaintenance,
    InvalidIdentifier,
    KeyRequired,
    LogUnavailable,
    MalformedHeader,
    NgspError,
    QuotaExhausted,
    SchemaMismatch,
    ScopeMissing,
)
from ngsp.identity.model import Caller
from ngsp.identity.tokens import Tokens, UnknownKey
from ngsp.messages import ServiceKey, TransactionMode, call_headers
from ngsp.metrics import Metrics
from ngsp.quota import Quotas
from ngsp.registry.model import Client, Grant, Service, Snapshot
from ngsp.registry.store import Registry
from ngsp.repeats import Repeats
from ngsp.sandbox import rehearse
from ngsp.strictjson import parse
from ngsp.text import Text
from ngsp.transactions import entry
from ngsp.transactions.log import TransactionLog, trace_id
from ngsp.transactions.work import Conclusion, Transaction
from ngsp.vault import Vault

_PERSONAL = re.compile(r"[0-9]{9,}")
"""May be an identity number."""
_NOT_SANDBOX = Text(
    "Hệ thống này không phải hệ thống thử nghiệm: yêu cầu có Ngsp-Sandbox không được chuyển đi.",
    "This client is none of the sandbox: a request with Ngsp-Sandbox is not passed on.",
)


@dataclass(slots=True)
class Call:
    """A call as HTTP brought it: headers read and checked for form, the body not yet read. Never changed.

    `path`: of the service. `wait_s`: the caller's own limit, 0 for none. `read_body(most)` gives the body's bytes or
    raises what is wrong with it.
    """

    transaction: str
    path: str
    authorization: bytes
    purpose: str
    read_body: Callable[[int], Awaitable[bytes]]
    agreement: str = ""
    officer: str = ""
    dossier: str = ""
    procedure: str = ""
    consent: str = ""
    idempotency_key: str = ""
    traceparent: str = ""
    wait_s: float = 0.0
    respond_async: bool = False
    route: str = ""
    """The compatible route that it came by, empty without."""
    sandbox: bool = False
    """The caller says that it means the sandbox: a client that is none of it is refused."""
    malformed: NgspError | None = None
    """What is wrong with the headers: told only to a caller who has been authenticated."""

    def kept(self, client: Client) -> dict[str, str]:
        """What the entry keeps of it; members without a value are left out."""
        found = {
            "client": client.id,
            "consent": self.consent,
            "dossier": self.dossier,
            "member": client.member,
            "officer": self.officer,
            "procedure": self.procedure,
            "route": self.route,
            "sandbox": "1" if client.sandbox else "",
            "trace": trace_id(self.traceparent),
        }
        return {name: value for name, value in found.items() if value}

    def asked(self) -> dict[str, str]:
        """What was asked for, as far as it has its form: a path that has not may hold anything, personal data too."""
        found = {"agreement": self.agreement, "purpose": self.purpose, "service": harmless(self.path)}
        return {name: value for name, value in found.items() if value}


def harmless(path: str) -> str:
    """`path` where it could be a service's and holds no digits that may be an identity number; else empty."""
    try:
        return "" if _PERSONAL.search(path) else ServiceKey.parse(path).path
    except InvalidIdentifier:
        return ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets where nothing went wrong: 200 with the reply's bytes, or 202 where it is on its way."""

    status: int
    transaction: str
    body: bytes = b""
    retry_after_s: int = 1
    """Of a 202: when it makes sense to ask."""
    sandbox: bool = False
    """It was made from the service's examples."""


def _away_s(service: Service, mode: TransactionMode) -> float:
    """How long the service's maintenance goes on, 0 where it is in none. `InMaintenance` (503) for what cannot wait.

    A submission waits in the outbox until its system is back: that is what the outbox is for, and a case must not
    depend on the hour at which it is sent. One whose deadline comes before is refused at once instead of expiring.
    """
    if service.maintenance is None:
        return 0.0
    now = entry.now()
    until = service.away_until(now)
    if until is None:
        return 0.0
    away_s = (until - now).total_seconds()
    if mode == "submission" and away_s < service.deadline_s:
        return away_s
    members = {"until": entry.moment(until)}
    raise InMaintenance(retry_after_s=away_s, members=members, reason="service is in maintenance")


@dataclass(slots=True)
class Clock:
    """Stage timings of one call, in microseconds."""

    started_ns: int = field(default_factory=time.perf_counter_ns)
    lap_ns: int = 0
    stages_us: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lap_ns = self.started_ns

    def lap(self, stage: str) -> None:
        now_ns = time.perf_counter_ns()
        self.stages_us[stage] = (now_ns - self.lap_ns) // 1000
        self.lap_ns = now_ns


class Exchange:
    """The request path of one gateway, with its collaborators."""

    def __init__(
        self,
        *,
        registry: Registry,
        tokens: Tokens,
        quotas: Quotas,
        log: TransactionLog,
        asker: Asker,
        repeats: Repeats,
        vault: Vault,
        metrics: Metrics,
        on_submission: Callable[[], None],
    ) -> None:
        self._registry, self._tokens, self._quotas, self._log = registry, tokens, quotas, log
        self._asker, self._repeats, self._vault, self._metrics = asker, repeats, vault, metrics
        self._on_submission = on_submission

    def holder(self, authorization: bytes) -> str:
        """The client behind a token seen before, empty where it is not known: enough to admit fairly, not to trust."""
        return self._tokens.holder(authorization)

    async def call(self, call: Call) -> Answer:
        """Carries `call` through. Raises the `NgspError` it ends with; its terminal entry is durable by then."""
        clock = Clock()
        snapshot, now_s = self._registry.snapshot, time.time()
        caller = await self._authenticate(call, snapshot, now_s)
        if caller.client.sandbox:
            return await self._try_out(call, caller, snapshot, clock)
        try:
            grant = self._authorise(call, caller, snapshot)
            mode = self._mode(call, grant.service)
            away_s = _away_s(grant.service, mode)
            body = await call.read_body(grant.service.max_body_bytes)
            request = self._validate(grant.service, body)
            transaction = self._open(call, caller, grant, mode, body, request, clock)
            charged_s = time.time()  # a slow body may have taken half a minute
            charged = self._quotas.try_charge(grant.agreement, charged_s) or await self._charge(transaction, charged_s)
        except NgspError as error:
            await self._refuse(call, caller, error)
            raise
        clock.lap("admit")
        if not charged:
            return await self._repeat(call, transaction)
        if await self._log.accept(transaction) == "key-taken":
            self._quotas.refund(grant.agreement, charged_s)
            return await self._repeat(call, transaction)
        clock.lap("log_accept")
        if mode == "submission":
            self._on_submission()
            self._metrics.exchange(grant.service.path, "accepted", "", clock.stages_us)
            return Answer(202, transaction.id, retry_after_s=max(1, math.ceil(away_s)))
        conclusion = await self._ask(transaction, clock)
        await self._conclude(transaction, conclusion)
        clock.lap("log_outcome")
        self._metrics.exchange(grant.service.path, entry.KINDS[conclusion.kind], conclusion.code, clock.stages_us)
        if conclusion.error is not None:
            raise conclusion.error
        return Answer(200, transaction.id, conclusion.body)

    async def _try_out(self, call: Call, caller: Caller, snapshot: Snapshot, clock: Clock) -> Answer:
        """A client of the sandbox is answered from examples; whatever it is told is marked."""
        try:
            return replace(await self._rehearse(call, caller, snapshot, clock), sandbox=True)
        except NgspError as error:
            error.sandbox = True
            raise

    async def _rehearse(self, call: Call, caller: Caller, snapshot: Snapshot, clock: Clock) -> Answer:
        """As `call`, less all that is real: no quota, no outbox, no bus. Both entries are durable in one commit."""
        try:
            grant = self._authorise(call, caller, snapshot)
            mode = self._mode(call, grant.service, on_bus=False)
            body = await call.read_body(grant.service.max_body_bytes)
            request = self._validate(grant.service, body)
            reply = rehearse(grant.service, request, call.transaction)
            transaction = self._open(call, caller, grant, mode, body, request, clock)
        except NgspError as error:
            await self._refuse(call, caller, error)
            raise
        clock.lap("admit")
        conclusion = conclude(grant, reply)
        if await self._log.record(transaction, conclusion) == "key-taken":
            return await self._repeat(call, transaction)
        if mode == "submission":
            return Answer(202, transaction.id)
        if conclusion.error is not None:
            raise conclusion.error
        return Answer(200, transaction.id, conclusion.body)

    async def _authenticate(self, call: Call, snapshot: Snapshot, now_s: float) -> Caller:
        try:
            return self._tokens.authenticate(call.authorization, snapshot, now_s)
        except UnknownKey:
            return await self._tokens.authenticate_fresh(call.authorization, snapshot, now_s)

    def _authorise(self, call: Call, caller: Caller, snapshot: Snapshot) -> Grant:
        if "exchange" not in caller.scopes:
            raise ScopeMissing(reason="the token has no exchange scope")
        if call.malformed is not None:
            raise call.malformed
        if call.path not in snapshot.services:
            ServiceKey.parse(call.path)
        if call.sandbox and not caller.client.sandbox:
            raise MalformedHeader(_NOT_SANDBOX, reason="Ngsp-Sandbox of a client that is none of the sandbox")
        decide = try_out if caller.client.sandbox else authorise
        return decide(
            snapshot,
            caller.client,
            call.path,
            purpose=call.purpose,
            agreement_id=call.agreement,
            officer=call.officer,
            consent=call.consent,
            now=entry.now(),
        )

    def _mode(self, call: Call, service: Service, *, on_bus: bool = True) -> TransactionMode:
        mode: TransactionMode = "submission" if call.respond_async or service.mode == "submission" else "query"
        if mode == "submission" and not call.idempotency_key:
            raise KeyRequired
        if mode == "query" and on_bus and (trouble := self._asker.trouble()):
            raise BusUnavailable(retry_after_s=2, reason=trouble)
        return mode

    def _validate(self, service: Service, body: bytes) -> object:
        request: object = parse(body)
        if faults := service.request_schema.faults(request):
            raise SchemaMismatch(faults=faults)
        return request

    async def _refuse(self, call: Call, caller: Caller, error: NgspError) -> None:
        self._metrics.refused(error.code)
        if isinstance(error, LogUnavailable):
            return  # there is nothing to write it to; the metric has it
        await self._log.refuse(call.transaction, call.kept(caller.client), call.asked(), error)

    def _open(
        self,
        call: Call,
        caller: Caller,
        grant: Grant,
        mode: TransactionMode,
        body: bytes,
        request: object,
        clock: Clock,
    ) -> Transaction:
        service, at = grant.service, entry.now()
        limit_s = min(service.deadline_s, call.wait_s) if call.wait_s and mode == "query" else service.deadline_s
        return Transaction(
            id=call.transaction,
            at=at,
            grant=grant,
            mode=mode,
            call=call.kept(caller.client),
            deadline=at + timedelta(seconds=limit_s),
            body=body,
            key=self._vault.new_record_key(call.transaction),
            idempotency_key=call.idempotency_key,
            traceparent=call.traceparent,
            subjects=subjects_in(request, service) if service.subjects else [],
            line=line_of(request, call.dossier, service) if service.order != "none" else b"",
            stages_us=clock.stages_us,
        )

    async def _charge(self, transaction: Transaction, charged_s: float) -> bool:
        """False where the quota is used up and the key is an earlier transaction's, whose outcome costs nothing."""
        try:
            await self._quotas.charge(transaction.grant.agreement, charged_s)
        except QuotaExhausted:
            if not transaction.idempotency_key:
                raise
            if not await self._repeats.known(transaction, self._log.key_names(transaction)):
                raise
            return False
        return True

    async def _repeat(self, call: Call, transaction: Transaction) -> Answer:
        """The key was taken: nothing was stored or charged; the earlier transaction answers."""
        try:
            found = await self._repeats.answer(transaction, self._log.key_names(transaction))
        except NgspError as error:
            self._metrics.refused(error.code)
            if error.code == "idempotency-mismatch":
                await self._log.refuse(call.transaction, transaction.call, call.asked(), error)
            raise
        return Answer(found.status, found.transaction, found.body)

    async def _conclude(self, transaction: Transaction, conclusion: Conclusion) -> None:
        """The outcome's entry stays queued until it is durable; a caller who cannot wait so long is told *unknown*."""
        try:
            await self._log.conclude(transaction, conclusion)
        except LogUnavailable as error:
            unknown = no_answer(transaction.grant.service).error
            raise unknown or error from error

    async def _ask(self, transaction: Transaction, clock: Clock) -> Conclusion:
        """Over the bus and back. Never raises: whatever happens after ACCEPTED is a conclusion."""
        t = transaction
        headers = t.grant.headers + call_headers(
            t.id,
            t.deadline_ms,
            self._asker.reply_topic,
            1,
            t.call.get("officer", ""),
            t.call.get("dossier", ""),
            t.traceparent,
        )
        topic = t.grant.service.key.request_topic
        try:
            reply = await self._asker.ask(t.id, topic, headers, t.body, t.remaining_s())
        except BusUnavailable as error:
            return Conclusion(entry.FAILED, "bus", error)
        clock.lap("bus")
        if reply is None:
            return no_answer(t.grant.service)
        conclusion = conclude(t.grant, reply)
        clock.lap("reply")
        return conclusion
