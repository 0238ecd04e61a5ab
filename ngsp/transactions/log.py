"""The log as the request path uses it: accept, conclude, refuse, resolve. Each returns when it is durable."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from ngsp.errors import ERRORS, BadReply, Expired, LogUnavailable, NgspError, NoAnswer
from ngsp.messages import TransactionMode
from ngsp.registry.model import Grant
from ngsp.text import Text
from ngsp.transactions import entry
from ngsp.transactions.extras import Extras, KeyClaim, KeyName, OutboxRow, QuarantineRow, StoredReply
from ngsp.transactions.writer import LogWriter, Write
from ngsp.vault import RecordKey, Vault

REPLY_AAD = b"reply"
REQUEST_AAD = b"request"
QUARANTINE_AAD = b"quarantine"

_IN_DOUBT = Text(
    "Chưa rõ yêu cầu đã được ghi nhận hay chưa. Hãy gửi lại đúng yêu cầu này với cùng Idempotency-Key.",
    "It is not known whether the request was taken. Send the very same again under the same Idempotency-Key.",
)
_NEVER_TOLD = {"class": "log", "code": "log-unavailable", "status": 503}


@dataclass(slots=True)
class Transaction:
    """One exchange in work (giao dịch).

    `call`: client, and officer, dossier, procedure, consent, trace where given, as the entry keeps them.
    `line`: what it is ordered by among the service's submissions, empty where by nothing.
    `idempotency_key`: as sent, empty without. `stages_us`: what each stage took, in order, microseconds.
    """

    id: str
    at: datetime
    grant: Grant
    mode: TransactionMode
    call: dict[str, str]
    deadline: datetime
    body: bytes
    key: RecordKey
    idempotency_key: str = ""
    traceparent: str = ""
    subjects: list[str] = field(default_factory=list)
    line: bytes = b""
    stages_us: dict[str, int] = field(default_factory=dict)

    @property
    def deadline_ms(self) -> int:
        return int(self.deadline.timestamp() * 1000)

    def remaining_s(self) -> float:
        return self.deadline.timestamp() - time.time()


@dataclass(frozen=True, slots=True)
class PutAside:
    """What goes to quarantine with a conclusion. `what`: reply, submission or outcome. `reason` holds no data."""

    what: str
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Conclusion:
    """How a transaction ended. `kind`: of the entry. `error`: what the caller is told, None for success with `body`."""

    kind: int
    failure_class: str = ""
    error: NgspError | None = None
    body: bytes = b""
    provider_code: str = ""
    adapter: str = ""
    aside: PutAside | None = None

    @property
    def code(self) -> str:
        return self.error.code if self.error else ""

    def outcome(self) -> dict[str, str | int]:
        """The entry's member `outcome`."""
        members: dict[str, str | int] = {"status": self.error.status if self.error else 200}
        if self.error:
            members["code"] = self.error.code
            members["class"] = self.failure_class
        if self.provider_code:
            members["provider_code"] = self.provider_code
        if self.adapter:
            members["adapter"] = self.adapter
        return members


class TransactionLog:
    """The log of one gateway."""

    def __init__(
        self,
        writer: LogWriter,
        scribe: entry.Scribe,
        vault: Vault,
        *,
        key_life: timedelta,
        reply_life: timedelta,
        on_ended: Callable[[str, str, str], None] = lambda service, outcome, code: None,
    ) -> None:
        """`on_ended`: told of each submission that ends here: its service, outcome and error code."""
        self._on_ended = on_ended
        self._writer, self._scribe, self._vault = writer, scribe, vault
        self._key_life, self._reply_life = key_life, reply_life

    @property
    def writer(self) -> LogWriter:
        return self._writer

    def key_names(self, transaction: Transaction) -> tuple[KeyName, ...]:
        """The transaction's idempotency key and what was asked under it, by each key-encryption key held."""
        client, grant = transaction.call["client"], transaction.grant
        request = f"{client}\0{grant.service.path}\0{grant.purpose}\0{transaction.mode}\0".encode()
        keys = self._vault.comparison_digests(f"{client}\0key\0{transaction.idempotency_key}".encode())
        digests = self._vault.comparison_digests(request + transaction.body)
        return tuple(map(KeyName, keys, digests))

    async def accept(self, transaction: Transaction) -> Literal["accepted", "key-taken"]:
        """MUST return `accepted` only when the entry, and for a submission its outbox row, is durable.

        `key-taken`: an earlier transaction holds the idempotency key; nothing was stored.
        """
        t = transaction
        digest = t.key.digest(t.body)
        row = self._scribe.accepted(t.id, t.at, t.grant, t.mode, t.call, t.deadline, len(t.body), digest, t.key.wrapped)
        extras = None
        if t.idempotency_key or t.subjects or t.mode == "submission":
            extras = self._extras(t)
        # A submission that is stored goes its way, whatever its caller was told: it is known by its key.
        undo = None if t.mode == "submission" else lambda: self._undo(t, extras)
        write = Write((row,), extras, undo=undo)
        try:
            answer = await self._writer.submit(write)
        except LogUnavailable as error:
            if t.mode == "submission" and write.in_doubt:
                members = {"outcome_unknown": True, "safe_to_repeat": True}
                raise LogUnavailable(_IN_DOUBT, retry_after_s=2, members=members, reason=error.reason) from error
            raise
        return "key-taken" if answer else "accepted"

    async def record(self, transaction: Transaction, conclusion: Conclusion) -> Literal["accepted", "key-taken"]:
        """A call of the sandbox: its acceptance and its outcome in one commit. Nothing for the relay, no subjects.

        MUST return `accepted` only when both are durable. `key-taken`: as `accept` has it.
        """
        t = transaction
        digest = t.key.digest(t.body)
        row = self._scribe.accepted(t.id, t.at, t.grant, t.mode, t.call, t.deadline, len(t.body), digest, t.key.wrapped)
        timings_us = t.stages_us if t.mode == "query" else None
        ended = self._ended(t.id, t.key, conclusion, timings_us=timings_us)
        extras = None
        if t.idempotency_key or t.mode == "submission":
            extras = Extras(claim=self._claimed(t), reply=self._stored(t.id, t.key, conclusion))
        return "key-taken" if await self._writer.submit(Write((row, ended), extras)) else "accepted"

    def _undo(self, t: Transaction, extras: Extras | None) -> Write:
        """Closes a query whose caller was told 503 while its acceptance was in doubt; its key is free again."""
        row = self._scribe.ended(entry.FAILED, t.id, entry.now(), dict(_NEVER_TOLD))
        claim = extras.claim if extras else None
        return Write((row,), Extras(release=claim) if claim else None, keep=True)

    def _extras(self, t: Transaction) -> Extras:
        outbox = None
        if t.mode == "submission":
            agreement = t.grant.agreement
            outbox = OutboxRow(
                tx=t.id,
                service=t.grant.service.path,
                agreement=agreement.id,
                agreement_version=agreement.version,
                purpose=t.grant.purpose,
                client=t.call["client"],
                officer=t.call.get("officer", ""),
                dossier=t.call.get("dossier", ""),
                traceparent=t.traceparent,
                accepted_at=t.at,
                deadline=t.deadline,
                body=t.key.seal(t.body, REQUEST_AAD),
                order_key=self._order_key(t) if t.line else None,
            )
        subjects = tuple((self._vault.subject_hash(number), t.id, t.at) for number in t.subjects)
        return Extras(claim=self._claimed(t), outbox=outbox, subjects=subjects)

    def _claimed(self, t: Transaction) -> KeyClaim | None:
        if not t.idempotency_key:
            return None
        return KeyClaim(t.call["client"], self.key_names(t), t.id, t.mode, t.at, t.at + self._key_life)

    def _order_key(self, transaction: Transaction) -> bytes:
        """What stands for the line in the database and on the bus: it may be a dossier or an identity number."""
        head = f"order\0{transaction.grant.service.path}\0"
        return self._vault.comparison_digests(head.encode() + transaction.line)[0]

    async def conclude(self, transaction: Transaction, conclusion: Conclusion) -> None:
        """The terminal entry of a query. MUST return only when it is durable: success is reported after it."""
        t = transaction
        row = self._ended(t.id, t.key, conclusion, timings_us=t.stages_us)
        extras = None
        if t.idempotency_key or conclusion.aside:
            reply = self._stored(t.id, t.key, conclusion) if t.idempotency_key else None
            extras = Extras(reply=reply, aside=self._aside(t.id, t.grant.service.path, t.key, conclusion))
        await self._writer.submit(Write((row,), extras=extras, keep=True))

    async def conclude_submission(
        self,
        tx: str,
        service: str,
        key: RecordKey | None,
        conclusion: Conclusion,
        *,
        line: bytes | None = None,
        undone: bool = False,
    ) -> bool:
        """The terminal entry of a submission, by whoever gets there first; False where it was closed before.

        `line`: the order key of its outbox row: who comes after it there is due then.
        `undone`: only where surely nothing was done, whoever else may be about to publish it.
        Not kept where it takes too long: the outcome is still on the bus, or the row still due, and comes again.
        """
        row = self._ended(tx, key, conclusion)
        reply = self._stored(tx, key, conclusion)
        extras = Extras(
            close=tx, line=line, undone=undone, reply=reply, aside=self._aside(tx, service, key, conclusion)
        )
        if await self._writer.submit(Write((row,), extras=extras)) is not None:
            return False
        self._on_ended(service, entry.KINDS[conclusion.kind], conclusion.code)
        return True

    async def resolve(self, tx: str, key: RecordKey, conclusion: Conclusion, store: bool) -> bool:
        """A late reply to an *unknown*: the one *resolved* entry; False where there is one already."""
        outcome = conclusion.outcome() | {"state": entry.KINDS[conclusion.kind]}
        row = self._ended(tx, key, conclusion, kind=entry.RESOLVED, outcome=outcome)
        reply = self._stored(tx, key, conclusion) if store else None
        extras = Extras(once=(tx, "resolved"), reply=reply)
        return await self._writer.submit(Write((row,), extras=extras, keep=True)) is None

    async def close_orphan(self, tx: str, conclusion: Conclusion) -> bool:
        """The terminal entry of a query whose gateway died; once, whoever sweeps."""
        row = self._scribe.ended(conclusion.kind, tx, entry.now(), dict(conclusion.outcome()))
        stored = self._stored(tx, None, conclusion)
        extras = Extras(once=(tx, "swept"), reply=stored)
        return await self._writer.submit(Write((row,), extras=extras, keep=True)) is None

    async def repeated(self, tx: str, adapter: str) -> None:
        """A reply that came when another had been taken: recorded once, delivered never."""
        row = self._scribe.ended(entry.REPEATED, tx, entry.now(), {"adapter": adapter, "class": "repeated-reply"})
        await self._writer.submit(Write((row,), extras=Extras(once=(tx, "repeated")), keep=True))

    async def delivered(self, tx: str, attempt: int) -> None:
        """The first hand-over of a submission to the bus; nothing where it has ended meanwhile."""
        row = self._scribe.delivered(tx, entry.now(), attempt)
        await self._writer.submit(Write((row,), extras=Extras(delivered=tx, once=(tx, "delivered"))))

    async def probed(
        self, id: str, call: dict[str, str], probe: dict[str, str], code: str, timings_us: dict[str, int]
    ) -> None:
        """A probe as it went; `code`: why it was not answered well, empty where it was."""
        outcome: dict[str, str | int] = {"class": "probe", "code": code} if code else {"status": 200}
        row = self._scribe.probed(id, entry.now(), call, probe, outcome, timings_us)
        await self._writer.submit(Write((row,)))

    async def refuse(self, tx: str, call: dict[str, str], asked: dict[str, str], error: NgspError) -> None:
        """A call of a known client refused before acceptance: its one entry, with the reason for operators."""
        row = self._scribe.refused_call(tx, entry.now(), call, asked, error.code, error.status, error.reason[:200])
        await self._writer.submit(Write((row,)))

    def _ended(
        self,
        tx: str,
        key: RecordKey | None,
        conclusion: Conclusion,
        *,
        kind: int | None = None,
        outcome: dict[str, str | int] | None = None,
        timings_us: dict[str, int] | None = None,
    ) -> entry.Row:
        reply = None
        if conclusion.error is None and key is not None:
            reply = (len(conclusion.body), key.digest(conclusion.body))
        return self._scribe.ended(
            kind or conclusion.kind, tx, entry.now(), outcome or conclusion.outcome(), reply, timings_us
        )

    def _aside(self, tx: str, service: str, key: RecordKey | None, conclusion: Conclusion) -> QuarantineRow | None:
        aside = conclusion.aside
        if aside is None or key is None:
            return None
        sealed = key.seal(aside.body, QUARANTINE_AAD)
        return QuarantineRow(tx, service, aside.what, aside.reason[:500], key.wrapped, sealed)

    def _stored(self, tx: str, key: RecordKey | None, conclusion: Conclusion) -> StoredReply:
        at = entry.now()
        body = None
        if conclusion.error is None and key is not None:
            body = key.seal(conclusion.body, REPLY_AAD)
        return StoredReply(tx, at, at + self._reply_life, conclusion.code, conclusion.provider_code, body)


def error_of(code: str, provider_code: str) -> NgspError:
    """The stored outcome as the error a repeat is answered with."""
    kind = ERRORS.get(code, BadReply)
    members: dict[str, str | bool] = {"provider_code": provider_code} if provider_code else {}
    if issubclass(kind, NoAnswer):
        unknown = kind is not Expired
        members |= {"outcome_unknown": unknown, "safe_to_repeat": not unknown}
    return kind(members=members, retry_after_s=1 if kind.status in (429, 502, 503) else None)


def trace_id(traceparent: str) -> str:
    return traceparent.split("-")[1] if traceparent else ""
