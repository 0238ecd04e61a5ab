"""What a write may carry besides entries: keys claimed, submissions for the outbox, outcomes only one may write.

All of it happens in the writer's transaction, set by set, before the COPY of the entries. A write that loses (its key
is taken, its transaction is closed already) stores nothing and gets the reason as its answer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass, field, fields
from datetime import datetime
from operator import attrgetter
from typing import Literal

import asyncpg


@dataclass(frozen=True, slots=True)
class KeyName:
    """An idempotency key as the database has it, under one key-encryption key.

    `key` stands for it: callers put dossier or identity numbers into keys. `digest` tells a repeat from another request
    under the same key; keyed, since a plain digest can be guessed.
    """

    key: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class KeyClaim:
    """An idempotency key under all its names, newest first: the first write with (client, key) wins.

    All names or none: two gateways that hold one key-encryption key in common never both take an idempotency key,
    whatever the order of theirs, and a claim from before a new one was put in front still stands.
    """

    client: str
    names: tuple[KeyName, ...]
    tx: str
    mode: str
    at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A submission as the relay finds it. `body` is sealed under the record's key. `order_key`: the line in which it
    waits, None where it waits in none. `subscription`: of a delivery."""

    tx: str
    service: str
    agreement: str
    agreement_version: int
    purpose: str
    client: str
    officer: str
    dossier: str
    traceparent: str
    accepted_at: datetime
    deadline: datetime
    body: bytes
    order_key: bytes | None = None
    subscription: str | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event as subscriptions read it. `body`: sealed under the record key of the publication `tx`."""

    service: str
    type: str
    tx: str
    at: datetime
    line: bytes | None
    body: bytes


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """That the transaction `tx` delivers the event at (xid, seq) to a subscription: one for each run of it."""

    subscription: str
    run: int
    xid: int
    seq: int
    tx: str
    publication: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """What one attempt at a webhook came to. `status`: of HTTP, None where there was no answer; then `problem` says
    why."""

    tx: str
    attempt: int
    at: datetime
    status: int | None
    problem: str
    duration_us: int


@dataclass(frozen=True, slots=True)
class StoredReply:
    """The outcome a repeat or the caller of a submission is given. `code`: of the error, empty for success."""

    tx: str
    at: datetime
    expires_at: datetime
    code: str
    provider_code: str
    body: bytes | None


@dataclass(frozen=True, slots=True)
class QuarantineRow:
    """What must not travel on, sealed under the record's key `wrapped`, with the reason for operators."""

    tx: str
    service: str
    what: str
    reason: str
    wrapped: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Extras:
    """`close`: the submission whose outbox row must not be closed yet and is closed by this write; with `undone` only
    where surely nothing was done: each attempt to publish it that was begun has been answered with that. `line`: its
    order key; the next in that line is due with the same commit.

    `once`: (transaction, what) that only one write ever may do, e.g. resolve an unknown.
    `delivered`: a submission whose first publication this write records, if it is still open.
    `release`: a claim that won but must not hold its key. `delivery`: only one write ever may make it.
    """

    claim: KeyClaim | None = None
    release: KeyClaim | None = None
    outbox: OutboxRow | None = None
    close: str = ""
    line: bytes | None = None
    undone: bool = False
    once: tuple[str, str] | None = None
    delivered: str = ""
    reply: StoredReply | None = None
    subjects: tuple[tuple[bytes, str, datetime], ...] = ()
    aside: QuarantineRow | None = None
    event: EventRow | None = None
    delivery: DeliveryRow | None = None
    attempt: AttemptRow | None = None


Answer = Literal["key-taken", "closed", "done-before"]

_CLAIM = """
INSERT INTO idempotency_keys (client, key, digest, tx, mode, at, expires_at)
SELECT * FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::uuid[], $5::text[], $6::timestamptz[], $7::timestamptz[])
ON CONFLICT DO NOTHING RETURNING tx::text"""
_CLOSE = """
UPDATE outbox SET state = 'closed', body = ''
WHERE tx = ANY($1::uuid[]) AND state <> 'closed'
    AND (answered @> int4range(1, attempts + 1) OR NOT tx = ANY($2::uuid[])) RETURNING tx::text"""
LOCK_LINES = """
SELECT pg_advisory_xact_lock(line) FROM (SELECT DISTINCT line FROM unnest($1::bigint[]) line ORDER BY line) lines"""
"""Whoever puts a submission to sleep behind another, or wakes one up, has the lines of both to himself until the
commit; taken in one order, before any row. `line_lock` gives the numbers."""
_NEXT_IN_LINE = """
UPDATE outbox o SET next_at = now() FROM (
    SELECT DISTINCT ON (order_key) tx FROM outbox
    WHERE order_key = ANY($1::bytea[]) AND state <> 'closed' ORDER BY order_key, place) first
WHERE o.tx = first.tx AND o.state = 'open' AND o.attempts = 0"""
_OPEN = "SELECT tx::text FROM outbox WHERE tx = ANY($1::uuid[]) AND state = 'open' ORDER BY tx FOR SHARE"
_ONCE = """
INSERT INTO resolutions (tx, what) SELECT * FROM unnest($1::uuid[], $2::text[])
ON CONFLICT DO NOTHING RETURNING tx::text, what"""
_REPLY = """
INSERT INTO replies (tx, at, expires_at, code, provider_code, body)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::text[], $6::bytea[])
ON CONFLICT (tx) DO UPDATE SET at = excluded.at, expires_at = excluded.expires_at, code = excluded.code,
    provider_code = excluded.provider_code, body = excluded.body"""
_RELEASE = "DELETE FROM idempotency_keys WHERE client = $1 AND key = ANY($2::bytea[]) AND tx = $3"
_DELIVERIES = """
INSERT INTO deliveries (subscription, run, xid, seq, tx, publication, type, at)
SELECT subscription, run, xid::text::xid8, seq, tx, publication, type, at FROM unnest(
    $1::text[], $2::int[], $3::bigint[], $4::int[], $5::uuid[], $6::uuid[], $7::text[], $8::timestamptz[]
) AS made (subscription, run, xid, seq, tx, publication, type, at)
ON CONFLICT DO NOTHING RETURNING tx::text"""
ATTEMPTS = """
INSERT INTO delivery_attempts (tx, attempt, at, status, problem, duration_us)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::smallint[], $5::text[], $6::bigint[])
ON CONFLICT DO NOTHING"""
attempt_values = attrgetter(*(field.name for field in fields(AttemptRow)))
_OUTBOX_FIELDS = tuple(field.name for field in fields(OutboxRow))
_EVENT_FIELDS = tuple(field.name for field in fields(EventRow))
_event_values = attrgetter(*_EVENT_FIELDS)
_delivery_values = attrgetter(*(field.name for field in fields(DeliveryRow)))


@dataclass(slots=True)
class _Sorted:
    """The extras of a batch, kind by kind, with the index of the write each belongs to."""

    answers: dict[int, Answer] = field(default_factory=dict)

    def lose(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer


async def apply_extras(connection: asyncpg.Connection, extras: list[Extras | None]) -> dict[int, Answer]:
    """Does what `extras` ask, inside the writer's transaction. Returns the index of each write that lost, and why."""
    found = [(index, extra) for index, extra in enumerate(extras) if extra is not None]
    outcome = _Sorted()
    await _claim(connection, found, outcome)
    await _guard(connection, found, outcome)
    await _deliver(connection, found, outcome)
    for _, extra in found:
        if extra.release is not None:
            await _release(connection, extra.release)
    winners = [extra for index, extra in found if index not in outcome.answers]
    outbox = [extra.outbox for extra in winners if extra.outbox is not None]
    if outbox:
        waiting = [(*(getattr(row, name) for name in _OUTBOX_FIELDS), row.accepted_at, "open", 0) for row in outbox]
        await connection.copy_records_to_table(
            "outbox", records=waiting, columns=(*_OUTBOX_FIELDS, "next_at", "state", "attempts")
        )
    replies = {extra.reply.tx: extra.reply for extra in winners if extra.reply is not None}
    if replies:
        r = list(replies.values())
        await connection.execute(
            _REPLY,
            [x.tx for x in r],
            [x.at for x in r],
            [x.expires_at for x in r],
            [x.code for x in r],
            [x.provider_code for x in r],
            [x.body for x in r],
        )
    subjects = [subject for extra in winners for subject in dict.fromkeys(extra.subjects)]
    if subjects:
        await connection.copy_records_to_table("subjects", records=subjects, columns=("subject", "tx", "at"))
    events = [extra.event for extra in winners if extra.event is not None]
    if events:
        published = [(*_event_values(event), seq) for seq, event in enumerate(events)]
        await connection.copy_records_to_table("events", records=published, columns=(*_EVENT_FIELDS, "seq"))
    attempts = [extra.attempt for extra in winners if extra.attempt is not None]
    if attempts:
        await connection.execute(ATTEMPTS, *zip(*map(attempt_values, attempts), strict=True))
    aside = [astuple(extra.aside) for extra in winners if extra.aside is not None]
    if aside:
        columns = tuple(column.name for column in fields(QuarantineRow))
        await connection.copy_records_to_table("quarantine", records=aside, columns=columns)
    return outcome.answers


async def _deliver(connection: asyncpg.Connection, found: list[tuple[int, Extras]], outcome: _Sorted) -> None:
    """In the order of the events, which is the order of the key too: no two gateways wait for each other in a ring."""
    made = [(index, extra.delivery) for index, extra in found if extra.delivery is not None]
    if not made:
        return
    rows = sorted((delivery for _, delivery in made), key=lambda one: (one.subscription, one.run, one.xid, one.seq))
    columns = zip(*map(_delivery_values, rows), strict=True)
    won = {row["tx"] for row in await connection.fetch(_DELIVERIES, *columns)}
    for index, delivery in made:
        if delivery.tx not in won:
            outcome.lose(index, "done-before")


async def _claim(connection: asyncpg.Connection, found: list[tuple[int, Extras]], outcome: _Sorted) -> None:
    claims = [(index, extra.claim) for index, extra in found if extra.claim is not None]
    if not claims:
        return
    # In the order of the key: two gateways that claim the same keys at once never wait for each other in a ring.
    named = [(claim, name) for _, claim in claims for name in claim.names]
    named.sort(key=lambda one: (one[0].client, one[1].key))
    rows = [(c.client, name.key, name.digest, c.tx, c.mode, c.at, c.expires_at) for c, name in named]
    columns = zip(*rows, strict=True)
    taken = Counter(row["tx"] for row in await connection.fetch(_CLAIM, *columns))
    for index, claim in claims:
        if taken[claim.tx] < len(claim.names):
            outcome.lose(index, "key-taken")
            if taken[claim.tx]:  # some of the names were free: the earlier claim knew fewer keys
                await _release(connection, claim)


async def _release(connection: asyncpg.Connection, claim: KeyClaim) -> None:
    await connection.execute(_RELEASE, claim.client, [name.key for name in claim.names], claim.tx)


async def _guard(connection: asyncpg.Connection, found: list[tuple[int, Extras]], outcome: _Sorted) -> None:
    closing = [(index, extra.close) for index, extra in found if extra.close]
    lines = {extra.line for _, extra in found if extra.line is not None}
    if lines:
        await connection.execute(LOCK_LINES, [line_lock(line) for line in lines])
    if closing:
        await _lock_in_order(connection, [tx for _, tx in closing])
        undone = [extra.close for _, extra in found if extra.close and extra.undone]
        closed = {row["tx"] for row in await connection.fetch(_CLOSE, [tx for _, tx in closing], undone)}
        for index, tx in closing:
            if tx not in closed:
                outcome.lose(index, "closed")
            closed.discard(tx)
    if lines:
        await connection.execute(_NEXT_IN_LINE, list(lines))
    delivered = [(index, extra.delivered) for index, extra in found if extra.delivered]
    if delivered:
        still = {row["tx"] for row in await connection.fetch(_OPEN, [tx for _, tx in delivered])}
        for index, tx in delivered:
            if tx not in still:
                outcome.lose(index, "closed")
    once = [(index, extra.once) for index, extra in found if extra.once is not None and index not in outcome.answers]
    if once:
        pairs = sorted({pair for _, pair in once})
        rows = await connection.fetch(_ONCE, [tx for tx, _ in pairs], [what for _, what in pairs])
        won = {(row["tx"], row["what"]) for row in rows}
        for index, pair in once:
            if pair not in won:
                outcome.lose(index, "done-before")
            won.discard(pair)


def line_lock(order_key: bytes) -> int:
    return int.from_bytes(order_key[:8], "big", signed=True)


async def _lock_in_order(connection: asyncpg.Connection, txs: list[str]) -> None:
    """Row locks in one order everywhere, so that two gateways closing the same submissions never form a ring."""
    await connection.execute("SELECT 1 FROM outbox WHERE tx = ANY($1::uuid[]) ORDER BY tx FOR UPDATE", txs)
