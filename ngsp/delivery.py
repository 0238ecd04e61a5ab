"""Submissions after acceptance: the relay publishes what the outbox holds, the outcomes come back and close it.

At least once to the adapter, whose inbox makes the effect happen once; exactly one terminal entry, because the outbox
row can be closed only once. Losing a whole topic loses nothing: what has no outcome is published again.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from ngsp.bus.base import Bus, Message, Subscription
from ngsp.conclusion import conclude, no_answer
from ngsp.config import Settings
from ngsp.errors import (
    AgreementRevoked,
    BusUnavailable,
    Expired,
    InvalidIdentifier,
    NgspError,
    OutcomeUnknown,
    ReplyErased,
)
from ngsp.messages import (
    GATEWAYS_GROUP,
    IN_DOUBT,
    OUTCOMES_TOPIC,
    TOO_OLD,
    TRANSACTION_ID,
    Envelope,
    Reply,
    check_identifier,
)
from ngsp.registry.model import Snapshot
from ngsp.registry.store import Registry
from ngsp.strays import Strays, grant_of
from ngsp.text import Text
from ngsp.transactions import entry
from ngsp.transactions.extras import LOCK_LINES, line_lock
from ngsp.transactions.gateways import DATABASE_TROUBLE
from ngsp.transactions.log import REQUEST_AAD, Conclusion, PutAside, TransactionLog
from ngsp.vault import RecordKey, Vault, VaultError

MOST_OUTCOMES_IN_WORK = 256
HELD_EVERY_S = 1.0
ORDER_BYTES = 16
"""Of the order key, as many travel on the bus."""
NOT_SERVED_PAUSE = timedelta(seconds=30)
"""How long a submission is left alone whose service is disabled or retired."""
_ID = Text("Mã giao dịch", "the transaction's id")

log = structlog.get_logger(__name__)

_BEHIND = """o.attempts = 0 AND o.order_key IS NOT NULL AND EXISTS (
    SELECT 1 FROM outbox e WHERE e.order_key = o.order_key AND e.state <> 'closed' AND e.tx <> o.tx
        AND (e.place < o.place OR e.attempts > 0))"""
"""True for a submission that has another before it in its line: not ended, and accepted earlier or on its way."""
_WITH_ENTRY = f"""
SELECT o.*, o.tx::text AS id, o.answered @> int4range(1, o.attempts + 1) AS undone, {_BEHIND} AS behind,
    a.wrapped, a.body AS accepted
FROM outbox o
LEFT JOIN entries a ON a.tx = o.tx AND a.kind = 1 AND a.at = o.accepted_at"""  # noqa: S608 - of constants
_DUE = _WITH_ENTRY + " WHERE o.state = 'open' AND o.next_at <= $1 ORDER BY o.next_at LIMIT $2"
_LATE = _WITH_ENTRY + " WHERE o.state = 'open' AND o.deadline <= $1 LIMIT $2"
_ONE = _WITH_ENTRY + " WHERE o.tx = $1"
_TAKE = f"""
UPDATE outbox o SET attempts = o.attempts + 1, next_at = due.next_at
FROM (SELECT unnest($1::uuid[]) AS tx, unnest($2::timestamptz[]) AS next_at) due
WHERE o.tx = due.tx AND o.state = 'open' AND NOT ({_BEHIND}) RETURNING o.tx::text AS id"""  # noqa: S608 - of constants
_SLEEP = f"""
UPDATE outbox o SET next_at = o.deadline
WHERE o.tx = ANY($1::uuid[]) AND o.state = 'open' AND {_BEHIND}"""  # noqa: S608 - of constants
_POSTPONE = "UPDATE outbox SET next_at = $2 WHERE tx = $1 AND state = 'open'"
_NOTHING_DONE = """
UPDATE outbox SET answered = answered + int4multirange(int4range($2, $2 + 1))
WHERE tx = $1 AND service = $3 AND state = 'open' AND $2 BETWEEN 1 AND attempts
RETURNING answered @> int4range(1, attempts + 1)"""
_DUE_AGAIN = "UPDATE outbox SET next_at = $2 WHERE state = 'open' AND next_at > $2 AND service = ANY($1::text[])"
_HOLD = "UPDATE outbox SET state = 'held' WHERE tx = $1 AND state = 'open'"
_HELD_TOO_LONG = "UPDATE outbox SET state = 'open', next_at = $1 WHERE state = 'held' AND deadline <= $1"
_ASIDE = "INSERT INTO quarantine (tx, service, what, reason) VALUES ($1, $2, $3, $4)"


class Relay:
    """Publishes due submissions. One gateway at a time holds its lease; two at once would only deliver twice."""

    def __init__(
        self, pool: asyncpg.Pool, bus: Bus, registry: Registry, transactions: TransactionLog, vault: Vault,
        settings: Settings,
    ) -> None:  # fmt: skip
        self._pool, self._bus, self._registry, self._log = pool, bus, registry, transactions
        self._vault, self._settings = vault, settings
        self.wake = asyncio.Event()
        self._held_at = datetime.min.replace(tzinfo=UTC)
        self._known: Snapshot | None = None

    async def step(self) -> int:
        """Handle what is due, while the bus is away only what is too late; returns how many submissions that were."""
        now = entry.now()
        if now >= self._held_at:
            self._held_at = now + timedelta(seconds=HELD_EVERY_S)
            await self._pool.execute(_HELD_TOO_LONG, now)
        wanted = _LATE if self._bus.trouble() else _DUE
        rows = await self._pool.fetch(wanted, now, self._settings.relay_batch)
        snapshot = self._registry.snapshot
        ready = [row for row in rows if await self._may_go(row, snapshot, now)]
        if behind := [row for row in ready if row["behind"]]:
            await self._let_sleep(behind)
        if first := [row for row in ready if not row["behind"]]:
            await self._publish(first, now)
        return len(rows)

    async def _let_sleep(self, rows: list[asyncpg.Record]) -> None:
        """Until the submission before it in its line has ended: that commit makes it due again."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(LOCK_LINES, [line_lock(row["order_key"]) for row in rows])
            await connection.execute(_SLEEP, [row["tx"] for row in rows])

    async def _may_go(self, row: asyncpg.Record, snapshot: Snapshot, now: datetime) -> bool:
        """True where `row` is to be published now; otherwise it has been ended or put off here."""
        if row["deadline"] <= now:
            await self._end(row, self._too_late(row, snapshot), undone=row["undone"])
            return False
        if snapshot.in_force(row["agreement"], now) is None:
            if row["undone"]:
                await self._end(row, Conclusion(entry.REFUSED, "access", AgreementRevoked()), undone=True)
            else:
                # It may be done already: it is not sent again. It ends with its outcome, as refused when the adapter
                # says that it was not begun in time, or as unknown.
                await self._pool.execute(_POSTPONE, row["tx"], row["deadline"])
            return False
        service = snapshot.services.get(row["service"])
        if service is None or not service.serves(now):
            until = service.away_until(now) if service is not None else None
            await self._pool.execute(_POSTPONE, row["tx"], min(row["deadline"], until or now + NOT_SERVED_PAUSE))
            return False
        return True

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
        return _expired(row) if row["undone"] else no_answer(service)

    async def _end(self, row: asyncpg.Record, conclusion: Conclusion, *, undone: bool = False) -> None:
        await _close(self._log, row, None, conclusion, undone=undone)

    async def _publish(self, rows: list[asyncpg.Record], now: datetime) -> None:
        envelopes = []
        for row in rows:
            envelope = await self._envelope(row)
            if envelope is not None:
                envelopes.append((row, envelope))
        if not envelopes:
            return
        # Counted before it is published: a row with no attempt has surely never left.
        first_s = self._settings.redeliver_s
        longest_s = max(first_s, self._settings.retry_max_s)
        again = [now + timedelta(seconds=_pause_s(first_s, row["attempts"], longest_s)) for row, _ in envelopes]
        try:
            found = await self._pool.fetch(_TAKE, [row["tx"] for row, _ in envelopes], again)
        except asyncpg.UniqueViolationError:
            # Another gateway, whose lease had ended, sent one of the same line in this moment. All are due still.
            log.warning("two relays met in a line; this one steps back")
            return
        taken = {record["id"] for record in found}
        await asyncio.gather(*(self._send(row, envelope) for row, envelope in envelopes if envelope.id in taken))

    async def _envelope(self, row: asyncpg.Record) -> Envelope | None:
        """The message for `row`, or None where it cannot be opened: then it is ended or put aside."""
        if row["wrapped"] is None:
            await self._end(row, Conclusion(entry.FAILED, "erased", ReplyErased()))
            return None
        snapshot = self._registry.snapshot
        try:
            body = self._vault.unwrap(row["wrapped"], row["id"]).open(row["body"], REQUEST_AAD)
        except VaultError as error:
            log.error("a submission cannot be opened; it is put aside", transaction=row["id"], reason=str(error))
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_HOLD, row["tx"])
                await connection.execute(_ASIDE, row["tx"], row["service"], "submission", str(error))
            return None
        granted = entry.read(row["accepted"])["grant"]
        return Envelope(
            id=row["id"],
            service=row["service"],
            deadline_ms=int(row["deadline"].timestamp() * 1000),
            purpose=row["purpose"],
            fields=tuple(granted["fields"]),
            schema=snapshot.services[row["service"]].schema_version,
            reply_to=OUTCOMES_TOPIC,
            body=body,
            attempt=row["attempts"] + 1,
            consumer=granted["consumer"],
            officer=row["officer"],
            dossier=row["dossier"],
            traceparent=row["traceparent"],
            begin_by_ms=int((time.time() + self._begins_within_s(row)) * 1000),
            order=row["order_key"][:ORDER_BYTES].hex() if row["order_key"] else "",
        )

    def _begins_within_s(self, row: asyncpg.Record) -> float:
        """How long a delivery may lie about before it is begun. Never less than for the one before: when the last may
        not be begun any more, none may."""
        return _doubled_s(self._settings.redeliver_s, row["attempts"], self._settings.retry_max_s)

    async def _send(self, row: asyncpg.Record, envelope: Envelope) -> None:
        topic = self._registry.snapshot.services[row["service"]].key.request_topic
        try:
            await self._bus.send(topic, envelope.headers(), envelope.body, envelope.order.encode())
        except BusUnavailable as error:
            log.warning("a submission was not published; it is tried again", transaction=row["id"], reason=error.reason)
            await self._pool.execute(_POSTPONE, row["tx"], entry.now() + timedelta(seconds=self._settings.retry_min_s))
            return
        await self._log.delivered(row["id"], envelope.attempt)


def _pause_s(first_s: float, attempts: int, longest_s: float) -> float:
    """Doubles from `first_s` to `longest_s`, half of it random, so that retries do not come in step."""
    return _doubled_s(first_s, attempts, longest_s) * random.uniform(0.5, 1.0)


def _doubled_s(first_s: float, attempts: int, longest_s: float) -> float:
    return float(min(max(first_s, longest_s), first_s * 2 ** min(attempts, 20)))


def _expired(row: asyncpg.Record, adapter: str = "") -> Conclusion:
    """Surely not done before the deadline: never published, or each delivery was answered with that."""
    failure_class = "provider-unavailable" if row["attempts"] > 0 else "deadline"
    members = {"outcome_unknown": False, "safe_to_repeat": True}
    return Conclusion(entry.EXPIRED, failure_class, Expired(members=members), adapter=adapter)


async def _close(
    log: TransactionLog, row: asyncpg.Record, key: RecordKey | None, conclusion: Conclusion, *, undone: bool = False
) -> bool:
    return await log.conclude_submission(
        row["id"], row["service"], key, conclusion, line=row["order_key"], undone=undone
    )


class Outcomes:
    """Takes replies to submissions, as one group with the other gateways, and ends the transactions."""

    def __init__(
        self, pool: asyncpg.Pool, bus: Bus, registry: Registry, transactions: TransactionLog, vault: Vault,
        strays: Strays, settings: Settings,
    ) -> None:  # fmt: skip
        self._pool, self._bus, self._registry, self._log = pool, bus, registry, transactions
        self._vault, self._strays, self._settings = vault, strays, settings
        self.subscription: Subscription | None = None

    async def start(self) -> None:
        self.subscription = await self._bus.work([OUTCOMES_TOPIC], GATEWAYS_GROUP, self._take, MOST_OUTCOMES_IN_WORK)

    async def stop(self, timeout_s: float) -> None:
        if self.subscription:
            await self.subscription.stop(timeout_s)

    async def _take(self, message: Message) -> None:
        """MUST raise while the outcome cannot be written: the message then comes again."""
        try:
            reply = Reply.read(message.headers, message.value)
            check_identifier(reply.id, TRANSACTION_ID, _ID)
        except (AttributeError, InvalidIdentifier, KeyError, TypeError, ValueError) as error:
            log.error("a message that is no outcome was dropped", topic=message.topic, error=type(error).__name__)
            return
        try:
            await self._settle(reply)
        except (NgspError, *DATABASE_TROUBLE):
            raise
        except Exception as error:  # poisonous: it would fail again and again
            log.error("an outcome was put aside", transaction=reply.id, error=type(error).__name__, exc_info=True)
            await self._pool.execute(_ASIDE, reply.id, reply.service[:200], "outcome", type(error).__name__)

    async def _settle(self, reply: Reply) -> None:
        row = await self._pool.fetchrow(_ONE, reply.id)
        if row is None:
            log.error("an outcome of no known submission was dropped", transaction=reply.id, adapter=reply.adapter)
        elif row["state"] == "closed":
            await self._strays.handle(reply)
        elif reply.status == "retry":
            await self._nothing_done(reply)
            await self._retry_later(row, reply)
        elif not await self._conclude(row, reply):
            await self._strays.handle(reply)

    async def _nothing_done(self, reply: Reply) -> bool:
        """Keeps that the delivery which `reply` answers was not done; True where that holds for each there was."""
        if reply.code == IN_DOUBT:
            return False
        return bool(await self._pool.fetchval(_NOTHING_DONE, reply.id, reply.attempt, reply.service))

    async def _retry_later(self, row: asyncpg.Record, reply: Reply) -> None:
        if reply.code == TOO_OLD:
            await self._look_again(row, reply)
            return
        pause_s = _pause_s(self._settings.retry_min_s, row["attempts"], self._settings.retry_max_s)
        at = entry.now() + timedelta(seconds=pause_s)
        await self._pool.execute(_POSTPONE, row["tx"], min(at, row["deadline"]))

    async def _look_again(self, row: asyncpg.Record, reply: Reply) -> None:
        """The adapter was away, and is back: what may still go goes at once, what was revoked meanwhile ends here."""
        if reply.attempt < row["attempts"]:
            return  # the last delivery is on its way
        snapshot, now = self._registry.snapshot, entry.now()
        service = snapshot.services.get(row["service"])
        if snapshot.in_force(row["agreement"], now) or service is None or service.effect == "idempotent":
            await self._pool.execute(_POSTPONE, row["tx"], now)
            return
        # The inbox knows of no delivery that was begun, and none can be any more.
        conclusion = Conclusion(entry.REFUSED, "access", AgreementRevoked(), adapter=reply.adapter)
        await _close(self._log, row, None, conclusion)

    async def _conclude(self, row: asyncpg.Record, reply: Reply) -> bool:
        snapshot = self._registry.snapshot
        if row["wrapped"] is None:
            conclusion = Conclusion(entry.FAILED, "erased", ReplyErased())
            return await _close(self._log, row, None, conclusion)
        try:
            key = self._vault.unwrap(row["wrapped"], row["id"])
        except VaultError as error:
            # How it ended is known and recorded; the reply itself cannot be kept.
            log.error("a record's key does not open; its reply is lost", transaction=row["id"], reason=str(error))
            await self._pool.execute(_ASIDE, row["tx"], row["service"], "outcome", str(error))
            key = None
        grant = grant_of(snapshot, entry.read(row["accepted"])["grant"])
        if grant is None:
            aside = PutAside("outcome", "the service or agreement is no longer known", reply.body)
            conclusion = Conclusion(entry.FAILED, "access", AgreementRevoked(), adapter=reply.adapter, aside=aside)
        elif reply.status == "expired" and row["attempts"] > 1 and grant.service.effect == "idempotent":
            if await self._nothing_done(reply):
                conclusion = _expired(row, reply.adapter)
                return await _close(self._log, row, key, conclusion, undone=True)
            # Another delivery of the same message may have been done: only an inbox could say that none was.
            members = {"outcome_unknown": True, "safe_to_repeat": True}
            conclusion = Conclusion(entry.UNKNOWN, "deadline", OutcomeUnknown(members=members), adapter=reply.adapter)
        else:
            conclusion = conclude(grant, reply)
        return await _close(self._log, row, key, conclusion)
