"""The dispatcher: reads on from each subscription's cursor and makes of each event a delivery in the outbox.

One gateway at a time holds its lease. What two of them made at once, or one before it died, is made once: the place of
an event, the subscription and its run are unique together. Only what is committed below every open transaction of the
database is read, in the order of (xid, seq): nothing can appear before it any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import structlog

from ngsp.access import authorise_delivery, cut, subjects_in
from ngsp.errors import AccessDenied, LogUnavailable, QuotaExhausted
from ngsp.messages import TRACEPARENT, uuid7
from ngsp.outbox import ACCEPTANCE
from ngsp.quota import Quotas
from ngsp.registry.model import Grant, Subscription
from ngsp.registry.store import Registry
from ngsp.transactions import entry
from ngsp.transactions.log import EVENT_AAD, TransactionLog
from ngsp.transactions.work import Delivered, Transaction
from ngsp.vault import Vault, VaultError

MOST_AT_ONCE = 200
"""Events read for one subscription in one step."""
MOST_BYTES_AT_ONCE = 8 << 20
"""Of the bodies read for one subscription, but for the last of them; and of those opened that are kept for others."""

log = structlog.get_logger(__name__)

_WAITING = """
SELECT p.subscription, p.xid::text AS xid, p.seq, p.run,
    (SELECT count(*) FROM outbox o WHERE o.subscription = p.subscription AND o.state <> 'closed') AS open
FROM subscription_progress p JOIN subscriptions s ON s.id = p.subscription
WHERE s.active AND p.stopped = '' AND EXISTS (
    SELECT 1 FROM events e WHERE e.service = s.service AND (e.xid, e.seq) > (p.xid, p.seq)
        AND e.xid < pg_snapshot_xmin(pg_current_snapshot()))"""
_NEXT = f"""
WITH page AS MATERIALIZED (
    SELECT *, cardinality($5::text[]) = 0 OR type = ANY($5) AS wanted FROM events
    WHERE service = $1 AND (xid, seq) > ($2::text::xid8, $3) AND xid < pg_snapshot_xmin(pg_current_snapshot())
    ORDER BY xid, seq LIMIT $4
), e AS MATERIALIZED (
    SELECT *, coalesce(sum(octet_length(body)) FILTER (WHERE wanted) OVER (
        ORDER BY xid, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before FROM page
)
SELECT e.xid::text AS xid, e.seq, e.type, e.tx::text AS tx, e.line,
    CASE WHEN e.wanted THEN e.body END AS body, a.wrapped
FROM e {ACCEPTANCE.format(row="e", at="at")} WHERE e.before < $6 ORDER BY e.xid, e.seq"""  # noqa: S608 - of constants
_MOVE = """
UPDATE subscription_progress SET xid = $3::text::xid8, seq = $4, moved_at = now()
WHERE subscription = $1 AND run = $2 AND (xid, seq) < ($3::text::xid8, $4)"""
_ASIDE = """
INSERT INTO quarantine (tx, service, what, reason) SELECT $1, $2, 'event', $3
WHERE NOT EXISTS (SELECT 1 FROM quarantine WHERE tx = $1 AND what = 'event' AND state = 'held')"""
"""Once, however many subscriptions come to it."""


@dataclass(frozen=True, slots=True)
class _Event:
    """An event opened. `value` is what it holds; `body` its bytes."""

    value: dict[str, Any]
    body: bytes


class Dispatcher:
    """Makes deliveries. `window`: how many of one subscription are open at most. `on_made`: called after some were."""

    def __init__(
        self, pool: asyncpg.Pool, registry: Registry, transactions: TransactionLog, quotas: Quotas, vault: Vault,
        window: int, on_made: Callable[[], None],
    ) -> None:  # fmt: skip
        self._pool, self._registry, self._log = pool, registry, transactions
        self._quotas, self._vault, self._window = quotas, vault, window
        self._on_made = on_made
        self.wake = asyncio.Event()

    async def step(self) -> int:
        """Every subscription with news gets a page of deliveries, as far as its window goes; returns how many events
        were passed, also those that were not wanted."""
        opened: dict[str, _Event | None] = {}
        passed = 0
        for row in await self._pool.fetch(_WAITING):
            subscription = self._registry.snapshot.subscriptions.get(row["subscription"])
            if sum(len(event.body) for event in opened.values() if event is not None) > MOST_BYTES_AT_ONCE:
                opened.clear()
            room = min(self._window - row["open"], MOST_AT_ONCE)
            if subscription is None or not subscription.active or room < 1:
                continue
            try:
                grant = authorise_delivery(self._registry.snapshot, subscription, entry.now())
            except AccessDenied:
                continue  # the cursor stays; `GET /v1/subscriptions/{id}` says why
            passed += await self._on(row, subscription, grant, room, opened)
        return passed

    async def _on(
        self, row: asyncpg.Record, subscription: Subscription, grant: Grant, room: int,
        opened: dict[str, _Event | None],
    ) -> int:  # fmt: skip
        """Deliveries of what follows the cursor in `row`, at most `room`; then the cursor moves behind them. Returns
        how many events that passed."""
        types = sorted(subscription.types)
        place = subscription.service, row["xid"], row["seq"]
        page = await self._pool.fetch(_NEXT, *place, MOST_AT_ONCE, types, MOST_BYTES_AT_ONCE)
        under_way: list[asyncio.Future[bool]] = []
        passed = 0
        for found in page:
            event = await self._open(found, grant, opened) if subscription.wants(found["type"]) else None
            if event is not None:
                if len(under_way) == room or not await self._charge(grant):
                    break
                under_way.append(self._deliver(row["run"], found, event, subscription, grant))
            passed += 1
        results = await asyncio.gather(*under_way, return_exceptions=True)
        for result in results:
            if isinstance(result, LogUnavailable):
                return 0  # what was made is found made when this is read again
            if isinstance(result, BaseException):
                raise result
        if passed:
            last = page[passed - 1]
            await self._pool.execute(_MOVE, subscription.id, row["run"], last["xid"], last["seq"])
        if under_way:
            self._on_made()
        return passed

    async def _open(self, found: asyncpg.Record, grant: Grant, opened: dict[str, _Event | None]) -> _Event | None:
        """None for an event that was erased, or that does not open: that one is put aside, once, for an operator."""
        tx = found["tx"]
        if tx not in opened:
            opened[tx] = None
            if found["wrapped"] is not None:
                try:
                    body = self._vault.unwrap(found["wrapped"], tx).open(found["body"], EVENT_AAD)
                    opened[tx] = _Event(orjson.loads(body), body)
                except VaultError as error:
                    log.error("an event cannot be opened; it is put aside", transaction=tx, reason=str(error))
                    await self._pool.execute(_ASIDE, tx, grant.service.path, str(error))
        return opened[tx]

    async def _charge(self, grant: Grant) -> bool:
        """False where the agreement's quota is used up: the rest comes when there is some again."""
        now_s = time.time()
        try:
            if not self._quotas.try_charge(grant.agreement, now_s):
                await self._quotas.charge(grant.agreement, now_s)
        except (QuotaExhausted, LogUnavailable):
            return False
        return True

    def _deliver(
        self, run: int, found: asyncpg.Record, event: _Event, subscription: Subscription, grant: Grant
    ) -> asyncio.Future[bool]:
        at, tx = entry.now(), uuid7()
        transaction = Transaction(
            id=tx,
            at=at,
            grant=grant,
            mode="delivery",
            call={
                "client": subscription.client,
                "event": found["tx"],
                "member": subscription.member,
                "subscription": subscription.id,
            },
            deadline=at + timedelta(seconds=grant.service.deadline_s),
            body=granted(event.value, event.body, grant),
            key=self._vault.new_record_key(tx),
            traceparent=_traceparent(event.value),
            subjects=subjects_in(event.value["data"], grant.service) if grant.service.subjects else [],
        )
        place = int(found["xid"]), found["seq"]
        delivered = Delivered(subscription.id, run, *place, found["tx"], found["type"], bytes(found["line"] or b""))
        return asyncio.ensure_future(self._log.deliver(transaction, delivered))


def _traceparent(value: dict[str, Any]) -> str:
    """Of the CloudEvents extension Distributed Tracing; empty where there is none that is one."""
    found = value.get("traceparent")
    return found if isinstance(found, str) and TRACEPARENT.fullmatch(found) else ""


def granted(value: dict[str, Any], body: bytes, grant: Grant) -> bytes:
    """The event as the subscriber gets it: `data` cut to the granted fields; the provider's own bytes where all are."""
    if grant.whole:
        return body
    return orjson.dumps(value | {"data": cut(value["data"], grant.agreement.fields)})
