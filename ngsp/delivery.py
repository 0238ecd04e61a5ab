"""Submissions and deliveries after acceptance: the relay publishes what the outbox holds; outcomes close it.

At least once to the adapter, whose inbox makes the effect happen once; exactly one terminal entry, because the outbox
row can be closed only once. Losing a whole topic loses nothing: what has no outcome is published again.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import asyncpg
import structlog

from ngsp.access import covers
from ngsp.bus.base import Bus
from ngsp.conclusion import no_answer
from ngsp.config import Settings
from ngsp.errors import AgreementRevoked, BusUnavailable, ReplyErased
from ngsp.events.posting import Posting
from ngsp.messages import OUTCOMES_TOPIC, Envelope
from ngsp.outbox import ASIDE, BEHIND, POSTPONE, close, doubled_s, expired, next_pause_s, rows_with_entries
from ngsp.registry.model import Service, Snapshot, Subscription
from ngsp.registry.store import Registry
from ngsp.registry.waiting import missing_party
from ngsp.transactions import entry
from ngsp.transactions.extras import LOCK_LINES, line_lock
from ngsp.transactions.log import REQUEST_AAD, TransactionLog
from ngsp.transactions.work import Conclusion
from ngsp.vault import Vault, VaultError

HELD_EVERY_S = 1.0
ORDER_BYTES = 16
"""Of the order key, as many travel on the bus."""
NOT_SERVED_PAUSE = timedelta(seconds=30)
"""How long a submission is left alone whose service is disabled or retired."""

log = structlog.get_logger(__name__)

_ROOM = "(o.deadline <= $1 OR o.subscription IS NULL OR o.subscription <> ALL($3::text[]))"
"""Not of those whose webhooks have enough in work: theirs would take the places of others. What is too late needs no
room: it ends."""
_DUE = rows_with_entries(f"o.state = 'open' AND o.next_at <= $1 AND {_ROOM} ORDER BY o.next_at LIMIT $2")
_TO_WEBHOOKS = "o.subscription IN (SELECT id FROM subscriptions WHERE url <> '')"
_WITHOUT_BUS = rows_with_entries(
    f"o.state = 'open' AND (o.deadline <= $1 OR (o.next_at <= $1 AND {_TO_WEBHOOKS})) AND {_ROOM} LIMIT $2"
)
"""While the bus is away: what is too late, and what goes to webhooks."""
_TAKE = f"""
UPDATE outbox o SET attempts = o.attempts + 1, next_at = due.next_at
FROM (SELECT unnest($1::uuid[]) AS tx, unnest($2::timestamptz[]) AS next_at) due
WHERE o.tx = due.tx AND o.state = 'open' AND NOT ({BEHIND}) RETURNING o.tx::text AS id"""  # noqa: S608 - of constants
_SLEEP = f"""
UPDATE outbox o SET next_at = o.deadline
WHERE o.tx = ANY($1::uuid[]) AND o.state = 'open' AND {BEHIND}"""  # noqa: S608 - of constants
_DUE_AGAIN = "UPDATE outbox SET next_at = $2 WHERE state = 'open' AND next_at > $2 AND service = ANY($1::text[])"
_HOLD = "UPDATE outbox SET state = 'held' WHERE tx = $1 AND state = 'open'"
_HELD_TOO_LONG = "UPDATE outbox SET state = 'open', next_at = $1 WHERE state = 'held' AND deadline <= $1"

Standing = Literal["granted", "waits", "ended"]
"""What the agreement of a row says of it now. `waits`: until it is no longer suspended."""


@dataclass(frozen=True, slots=True)
class _Going:
    """A row that may go, and where to: decided once in a step, so that a change of the registry meanwhile is for later.

    `service`: the one that the message names. `webhook`: whose address it is posted to; None where it goes to the topic
    of `service`.
    """

    row: asyncpg.Record
    service: Service
    webhook: Subscription | None


class Relay:
    """Publishes due submissions. One gateway at a time holds its lease; two at once would only deliver twice."""

    def __init__(
        self, pool: asyncpg.Pool, bus: Bus, registry: Registry, transactions: TransactionLog, vault: Vault,
        settings: Settings, posting: Posting,
    ) -> None:  # fmt: skip
        self._pool, self._bus, self._registry, self._log = pool, bus, registry, transactions
        self._vault, self._settings, self._posting = vault, settings, posting
        self.wake = asyncio.Event()
        self._held_at = datetime.min.replace(tzinfo=UTC)
        self._known: Snapshot | None = None
        self._left = 0

    async def step(self) -> int:
        """Handle what is due, while the bus is away only what needs none; returns how many rows that were."""
        self._posting.let_go()
        self._left = 0
        now = entry.now()
        if now >= self._held_at:
            self._held_at = now + timedelta(seconds=HELD_EVERY_S)
            await self._pool.execute(_HELD_TOO_LONG, now)
        wanted = _WITHOUT_BUS if self._bus.trouble() else _DUE
        snapshot = self._registry.snapshot
        full = self._posting.full(snapshot)
        rows = await self._pool.fetch(wanted, now, self._settings.relay_batch, full)
        ready = [going for row in rows if (going := await self._where_to(row, snapshot, now)) is not None]
        if behind := [going.row for going in ready if going.row["behind"]]:
            await self._let_sleep(behind)
        if first := [going for going in ready if not going.row["behind"]]:
            await self._publish(first, now)
        return len(rows) - self._left

    async def _let_sleep(self, rows: list[asyncpg.Record]) -> None:
        """Until the submission before it in its line has ended: that commit makes it due again."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK_LINES, [line_lock(row["order_key"]) for row in rows])
            await connection.execute(_SLEEP, [row["tx"] for row in rows])

    async def _where_to(self, row: asyncpg.Record, snapshot: Snapshot, now: datetime) -> _Going | None:
        """Where `row` is to be published now; None where it has been ended, put off or left due here."""
        if row["deadline"] <= now:
            await self._end(row, self._too_late(row, snapshot), undone=row["undone"])
            return None
        standing = standing_of(row, snapshot, now)
        if standing == "ended":
            if row["undone"]:
                await self._end(row, Conclusion(entry.REFUSED, "access", AgreementRevoked()), undone=True)
            else:
                # It may be done already: it is not sent again. It ends with its outcome, as refused when the adapter
                # says that it was not begun in time, or as unknown.
                await self._pool.execute(POSTPONE, row["tx"], row["deadline"])
            return None
        path, webhook, takes = row["service"], None, standing == "granted"
        if row["subscription"] is not None:
            subscription = snapshot.subscriptions.get(row["subscription"])
            if subscription is None:
                takes = False
            else:
                takes = takes and subscription.active and not row["stopped"]
                takes = takes and not missing_party(subscription, snapshot, now)
                if subscription.url:
                    webhook = subscription
                else:
                    path = subscription.receiver
        service = snapshot.services.get(path)
        if not takes or service is None or (webhook is None and not service.serves(now)):
            until = service.away_until(now) if takes and service is not None else None
            await self._pool.execute(POSTPONE, row["tx"], min(row["deadline"], until or now + NOT_SERVED_PAUSE))
            return None
        if webhook is not None and not row["behind"] and not self._has_room(webhook.id, row["id"]):
            return None
        return _Going(row, service, webhook)

    def _has_room(self, subscription: str, tx: str) -> bool:
        """False where its webhook has enough in work: the row stays due, and is left out until there is room."""
        if self._posting.reserve(subscription, tx):
            return True
        self._left += 1
        return False

    async def on_change(self, snapshot: Snapshot) -> None:
        """What waits for a service that serves again, sooner than it had said or at all, is due at once."""
        now = entry.now()
        known = self._known.services if self._known is not None else {}
        serving = (path for path, service in snapshot.services.items() if service.serves(now))
        back = [path for path in serving if path in known and not known[path].serves(now)]
        if back:
            await self._pool.execute(_DUE_AGAIN, back, now)
            self.wake.set()
        self._known = snapshot

    def _too_late(self, row: asyncpg.Record, snapshot: Snapshot) -> Conclusion:
        service = snapshot.services.get(row["service"])
        return expired(row) if row["undone"] else no_answer(service)

    async def _end(self, row: asyncpg.Record, conclusion: Conclusion, *, undone: bool = False) -> None:
        await close(self._log, row, None, conclusion, undone=undone)

    async def _publish(self, ready: list[_Going], now: datetime) -> None:
        envelopes = []
        for going in ready:
            envelope = await self._envelope(going.row, going.service)
            if envelope is not None:
                envelopes.append((going, envelope))
        if not envelopes:
            return
        # Counted before it is published: a row with no attempt has surely never left.
        first_s = self._settings.redeliver_s
        longest_s = max(first_s, self._settings.retry_max_s)
        rows = [going.row for going, _ in envelopes]
        again = [now + timedelta(seconds=next_pause_s(first_s, row["attempts"], longest_s)) for row in rows]
        try:
            found = await self._pool.fetch(_TAKE, [row["tx"] for row in rows], again)
        except asyncpg.UniqueViolationError:
            # Another gateway, whose lease had ended, sent one of the same line in this moment. All are due still.
            log.warning("two relays met in a line; this one steps back")
            return
        taken = {record["id"] for record in found}
        await asyncio.gather(*(self._hand_over(*one) for one in envelopes if one[1].id in taken))

    async def _hand_over(self, going: _Going, envelope: Envelope) -> None:
        if going.webhook is not None:
            self._posting.start(going.row, going.webhook, envelope)
        else:
            await self._send(going.row, going.service.key.request_topic, envelope)

    async def _envelope(self, row: asyncpg.Record, target: Service) -> Envelope | None:
        """The message for `row`, or None where it cannot be opened: then it is ended or put aside."""
        if row["wrapped"] is None:
            await self._end(row, Conclusion(entry.FAILED, "erased", ReplyErased()))
            return None
        try:
            body = self._vault.unwrap(row["wrapped"], row["id"]).open(row["body"], REQUEST_AAD)
        except VaultError as error:
            log.error("a submission cannot be opened; it is put aside", transaction=row["id"], reason=str(error))
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_HOLD, row["tx"])
                await connection.execute(ASIDE, row["tx"], row["service"], "submission", str(error))
            return None
        granted = entry.read(row["accepted"])["grant"]
        is_delivery = row["subscription"] is not None
        return Envelope(
            id=row["id"],
            service=target.path,
            deadline_ms=int(row["deadline"].timestamp() * 1000),
            purpose=row["purpose"],
            fields=("",) if is_delivery else tuple(granted["fields"]),
            schema=target.schema_version,
            reply_to=OUTCOMES_TOPIC,
            body=body,
            attempt=row["attempts"] + 1,
            consumer=granted["provider" if is_delivery else "consumer"],
            officer=row["officer"],
            dossier=row["dossier"],
            traceparent=row["traceparent"],
            begin_by_ms=int((time.time() + self._begins_within_s(row)) * 1000),
            order=row["order_key"][:ORDER_BYTES].hex() if row["order_key"] else "",
        )

    def _begins_within_s(self, row: asyncpg.Record) -> float:
        """How long a delivery may lie about before it is begun. Never less than for the one before: when the last may
        not be begun any more, none may."""
        return doubled_s(self._settings.redeliver_s, row["attempts"], self._settings.retry_max_s)

    async def _send(self, row: asyncpg.Record, topic: str, envelope: Envelope) -> None:
        try:
            await self._bus.send(topic, envelope.headers(), envelope.body, envelope.order.encode())
        except BusUnavailable as error:
            log.warning("a submission was not published; it is tried again", transaction=row["id"], reason=error.reason)
            await self._pool.execute(POSTPONE, row["tx"], entry.now() + timedelta(seconds=self._settings.retry_min_s))
            return
        await self._log.delivered(row["id"], envelope.attempt)


def standing_of(row: asyncpg.Record, snapshot: Snapshot, now: datetime) -> Standing:
    """Whether `row` may still go by its agreement. A delivery holds data: what was granted when it was made must be
    granted now, and one whose agreement is only suspended waits."""
    agreement, is_delivery = snapshot.in_force(row["agreement"], now), row["subscription"] is not None
    if agreement is None:
        governing = snapshot.agreements.get(row["agreement"])
        return "waits" if is_delivery and governing is not None and governing.state == "suspended" else "ended"
    if not is_delivery or agreement.version == row["agreement_version"] or row["accepted"] is None:
        return "granted"
    fields = tuple(entry.read(row["accepted"])["grant"]["fields"])
    return "granted" if row["purpose"] in agreement.purposes and covers(agreement.fields, fields) else "ended"
