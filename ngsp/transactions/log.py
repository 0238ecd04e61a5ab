"""The log as the request path uses it: accept, conclude, refuse, resolve. Each returns when it is durable."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Literal

from ngsp.errors import ERRORS, BadReply, Expired, LogUnavailable, NgspError, NoAnswer
from ngsp.text import Text
from ngsp.transactions import entry
from ngsp.transactions.extras import (
    AttemptRow,
    DeliveryRow,
    EventRow,
    Extras,
    KeyClaim,
    KeyName,
    OutboxRow,
    QuarantineRow,
    StoredReply,
)
from ngsp.transactions.work import Conclusion, Delivered, Published, Transaction
from ngsp.transactions.writer import LogWriter, Write
from ngsp.vault import RecordKey, Vault

REPLY_AAD = b"reply"
REQUEST_AAD = b"request"
QUARANTINE_AAD = b"quarantine"
EVENT_AAD = b"event"

_IN_DOUBT = Text(
    "Chưa rõ yêu cầu đã được ghi nhận hay chưa. Hãy gửi lại đúng yêu cầu này với cùng Idempotency-Key.",
    "It is not known whether the request was taken. Send the very same again under the same Idempotency-Key.",
)
_NEVER_TOLD = {"class": "log", "code": "log-unavailable", "status": 503}


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
        client, grant = transaction.key_holder, transaction.grant
        request = f"{client}\0{grant.service.path}\0{grant.purpose}\0{transaction.mode}\0".encode()
        keys = self._vault.comparison_digests(f"{client}\0key\0{transaction.idempotency_key}".encode())
        digests = self._vault.comparison_digests(request + transaction.body)
        return tuple(map(KeyName, keys, digests))

    async def accept(self, transaction: Transaction) -> Literal["accepted", "key-taken"]:
        """MUST return `accepted` only when the entry, and for a submission its outbox row, is durable.

        `key-taken`: an earlier transaction holds the idempotency key; nothing was stored.
        """
        t = transaction
        extras = None
        if t.idempotency_key or t.subjects or t.mode == "submission":
            extras = self._extras(t)
        # A submission that is stored goes its way, whatever its caller was told: it is known by its key.
        undo = None if t.mode == "submission" else lambda: self._undo(t, extras)
        return await self._store(Write((self._accepted(t, t.body),), extras, undo=undo))

    async def record(self, transaction: Transaction, conclusion: Conclusion) -> Literal["accepted", "key-taken"]:
        """A call of the sandbox: its acceptance and its outcome in one commit. Nothing for the relay, no subjects.

        MUST return `accepted` only when both are durable. `key-taken`: as `accept` has it.
        """
        t = transaction
        timings_us = t.stages_us if t.mode == "query" else None
        rows = self._accepted(t, t.body), self._ended(t.id, t.key, conclusion, timings_us=timings_us)
        extras = None
        if t.idempotency_key or t.mode == "submission":
            extras = Extras(claim=self._claimed(t), reply=self._stored(t.id, t.key, conclusion))
        return "key-taken" if await self._writer.submit(Write(rows, extras)) else "accepted"

    async def publish(self, transaction: Transaction, event: Published) -> Literal["accepted", "key-taken"]:
        """A publication: acceptance, success and the event in one commit.

        MUST return `accepted` only when all are durable. `key-taken`: as `accept` has it. LogUnavailable (503): not
        published, or not known whether, which the same again finds out.
        """
        t = transaction
        conclusion = Conclusion(entry.SUCCEEDED)
        line = self._line(t, event.key) if event.key else None
        extras = Extras(
            claim=self._claimed(t),
            reply=self._stored(t.id, t.key, conclusion),
            event=EventRow(t.grant.service.path, event.type, t.id, t.at, line, t.key.seal(event.body, EVENT_AAD)),
            subjects=self._hashed(t),
        )
        rows = self._accepted(t, event.body), self._ended(t.id, t.key, conclusion)
        return await self._store(Write(rows, extras))

    async def deliver(self, transaction: Transaction, event: Delivered) -> bool:
        """Accepts the delivery of an event to a subscription, with its outbox row; False where it was made before.

        MUST return only when that is durable, whoever made it.
        """
        t = transaction
        order_key = self._line(t, event.line) if event.line else None
        extras = Extras(
            outbox=self._outbox(t, order_key, event.subscription),
            subjects=self._hashed(t),
            delivery=DeliveryRow(
                event.subscription, event.run, event.xid, event.seq, t.id, event.publication, event.type, t.at
            ),
        )
        return await self._writer.submit(Write((self._accepted(t, t.body),), extras)) is None

    def _accepted(self, t: Transaction, body: bytes) -> entry.Row:
        """The entry of acceptance. `body`: what was sent, of which size and digest are kept."""
        digest, wrapped = t.key.digest(body), t.key.wrapped
        return self._scribe.accepted(t.id, t.at, t.grant, t.mode, t.call, t.deadline, len(body), digest, wrapped)

    async def _store(self, write: Write) -> Literal["accepted", "key-taken"]:
        """LogUnavailable tells of the doubt where an acceptance may be stored all the same, and nothing undoes it."""
        try:
            return "key-taken" if await self._writer.submit(write) else "accepted"
        except LogUnavailable as error:
            if write.in_doubt and write.undo is None:
                raise _in_doubt(error) from error
            raise

    def _undo(self, t: Transaction, extras: Extras | None) -> Write:
        """Closes a query whose caller was told 503 while its acceptance was in doubt; its key is free again."""
        row = self._scribe.ended(entry.FAILED, t.id, entry.now(), dict(_NEVER_TOLD))
        claim = extras.claim if extras else None
        return Write((row,), Extras(release=claim) if claim else None, keep=True)

    def _extras(self, t: Transaction) -> Extras:
        outbox = None
        if t.mode == "submission":
            outbox = self._outbox(t, self._line(t, t.line) if t.line else None)
        return Extras(claim=self._claimed(t), outbox=outbox, subjects=self._hashed(t))

    def _outbox(self, t: Transaction, order_key: bytes | None, subscription: str | None = None) -> OutboxRow:
        agreement = t.grant.agreement
        return OutboxRow(
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
            order_key=order_key,
            subscription=subscription,
        )

    def _hashed(self, t: Transaction) -> tuple[tuple[bytes, str, datetime], ...]:
        return tuple((self._vault.subject_hash(number), t.id, t.at) for number in t.subjects)

    def _claimed(self, t: Transaction) -> KeyClaim | None:
        if not t.idempotency_key:
            return None
        return KeyClaim(t.key_holder, self.key_names(t), t.id, t.mode, t.at, t.at + self._key_life)

    def _line(self, transaction: Transaction, line: bytes) -> bytes:
        """What stands for the line in the database and on the bus: it may be a dossier or an identity number."""
        subscription = transaction.call.get("subscription", "")
        head = f"order\0{transaction.grant.service.path}\0" + (f"{subscription}\0" if subscription else "")
        return self._vault.comparison_digests(head.encode() + line)[0]

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
        attempt: AttemptRow | None = None,
    ) -> bool:
        """The terminal entry of a submission, by whoever gets there first; False where it was closed before.

        `line`: the order key of its outbox row: who comes after it there is due then.
        `undone`: only where surely nothing was done, whoever else may be about to publish it. `attempt`: of a delivery
        to a webhook, the one that ended it.
        Not kept where it takes too long: the outcome is still on the bus, or the row still due, and comes again.
        """
        row = self._ended(tx, key, conclusion)
        reply = self._stored(tx, key, conclusion)
        aside = self._aside(tx, service, key, conclusion)
        extras = Extras(close=tx, line=line, undone=undone, reply=reply, aside=aside, attempt=attempt)
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

    async def probing(self, id: str, call: dict[str, str], probe: dict[str, str]) -> None:
        """MUST return only when it is durable that this probe is about to be sent. LogUnavailable where it is not."""
        await self._writer.submit(Write((self._scribe.probing(id, entry.now(), call, probe),)))

    async def probed(
        self, id: str, call: dict[str, str], probe: dict[str, str], code: str, timings_us: dict[str, int]
    ) -> None:
        """A probe as it went, durably; `code`: why it was not answered well, empty where it was."""
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


def _in_doubt(error: LogUnavailable) -> LogUnavailable:
    """What the caller is told who must not take 503 for *nothing was done*."""
    members = {"outcome_unknown": True, "safe_to_repeat": True}
    return LogUnavailable(_IN_DOUBT, retry_after_s=2, members=members, reason=error.reason)


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
