"""Handing deliveries to webhooks, beside the relay: a receiver that hangs holds up nobody but itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import asyncpg
import structlog

from ngsp.config import Settings
from ngsp.errors import NgspError, ProviderRefused
from ngsp.events.progress import Progress
from ngsp.events.webhooks import Attempt, Webhooks
from ngsp.messages import Envelope
from ngsp.outbox import POSTPONE, close, next_pause_s
from ngsp.registry.model import Snapshot, Subscription
from ngsp.transactions import entry
from ngsp.transactions.extras import ATTEMPTS, AttemptRow, attempt_values
from ngsp.transactions.gateways import DATABASE_TROUBLE
from ngsp.transactions.log import TransactionLog
from ngsp.transactions.work import Conclusion
from ngsp.vault import Vault

MOST_AT_ONCE = 256
MOST_FOR_ONE = 8
"""Requests under way, in all and to one subscription."""
MOST_WAITING = 64
"""Deliveries to one subscription taken from the outbox, under way or not; of one whose last was not taken, a single
one. New ones are taken when half of the room is free."""
CERTAIN_BELOW = 500
"""A status from here on may come from a proxy that passed the request on: the event may have been taken."""
MOST_IN_ALL = 2_048
"""Deliveries taken from the outbox, of all subscriptions."""
GONE = "gone"
"""Why a subscription is stopped whose receiver answered 410: by Standard Webhooks it wants no more."""

log = structlog.get_logger(__name__)

_NOT_DONE = """
UPDATE outbox SET answered = answered + int4multirange(int4range($2, $2 + 1)), next_at = $3
WHERE tx = $1 AND state = 'open'"""
_STOP = """
WITH there AS (SELECT id FROM subscriptions WHERE id = $1 AND url = $3 FOR SHARE), stopped AS (
    UPDATE subscription_progress p SET stopped = $2 FROM there WHERE p.subscription = there.id AND p.stopped = '')
SELECT count(*) > 0 FROM there"""
"""Whether the receiver that is gone is the subscription's yet. Who is stopped already stays so for its own reason."""


class Posting:
    """The posts of one gateway. `on_room`: called when more may be taken. `may_go`: whether a delivery may still go."""

    def __init__(
        self, pool: asyncpg.Pool, webhooks: Webhooks, transactions: TransactionLog, vault: Vault, progress: Progress,
        settings: Settings, on_room: Callable[[], None], may_go: Callable[[asyncpg.Record], bool],
    ) -> None:  # fmt: skip
        self._pool, self._webhooks, self._log, self._vault = pool, webhooks, transactions, vault
        self._progress, self._settings = progress, settings
        self._on_room, self._may_go = on_room, may_go
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
        self._places = asyncio.Semaphore(MOST_AT_ONCE)
        self._places_of: dict[str, asyncio.Semaphore] = {}
        self._reserved: dict[str, str] = {}
        self._failing: set[str] = set()

    async def stop(self) -> None:
        """What is under way is given up: its row is due again later."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def reserve(self, subscription: str, tx: str) -> bool:
        """Keeps room for the delivery `tx` until it is started, or all that was kept is let go. False where there is
        none: because enough is under way, or it is itself."""
        if tx in self._tasks or self._busy[subscription] >= self._most(subscription):
            return False
        self._reserved[tx] = subscription
        self._busy[subscription] += 1
        return True

    def full(self, snapshot: Snapshot) -> list[str]:
        """The subscriptions of which no delivery is to be taken from the outbox now."""
        if len(self._tasks) >= MOST_IN_ALL:
            return [subscription.id for subscription in snapshot.subscriptions.values() if subscription.url]
        return [id for id, busy in self._busy.items() if busy > self._most(id) // 2]

    def _most(self, subscription: str) -> int:
        return 1 if subscription in self._failing else MOST_WAITING

    def let_go(self) -> None:
        """Room that was kept and not used is free again."""
        while self._reserved:
            self._less_busy(self._reserved.popitem()[1])

    def start(self, row: asyncpg.Record, subscription: Subscription, envelope: Envelope) -> None:
        """Posts the delivery in `row`, for which room was kept and whose attempt is counted; ends by itself."""
        del self._reserved[envelope.id]
        task = asyncio.create_task(self._post(row, subscription, envelope), name="webhook")
        self._tasks[envelope.id] = task

        def ended(_: asyncio.Task[None]) -> None:
            del self._tasks[envelope.id]
            self._less_busy(subscription.id)

        task.add_done_callback(ended)

    def _less_busy(self, subscription: str) -> None:
        self._busy[subscription] -= 1
        if not self._busy[subscription]:
            del self._busy[subscription]
            self._places_of.pop(subscription, None)
        if self._busy.get(subscription, 0) == self._most(subscription) // 2:
            self._on_room()

    async def _post(self, row: asyncpg.Record, subscription: Subscription, envelope: Envelope) -> None:
        places = self._places_of.setdefault(subscription.id, asyncio.Semaphore(MOST_FOR_ONE))
        try:
            async with places, self._places:
                at = entry.now()
                if not self._may_go(row):  # too late, or granted no more, since it waits for its turn: the relay's
                    await self._not_done(row, envelope, at)
                    return
                attempt = await self._send(row, subscription, envelope)
            await self._settle(row, subscription, envelope, attempt, at)
        except (NgspError, *DATABASE_TROUBLE) as error:
            # The row is open still, and due again: the receiver knows the event by its id.
            log.warning("a delivery could not be settled", transaction=envelope.id, error=type(error).__name__)

    async def _send(self, row: asyncpg.Record, subscription: Subscription, envelope: Envelope) -> Attempt:
        event = entry.read(row["accepted"])["call"]["event"]
        headers = {"Ngsp-Transaction": envelope.id}
        if envelope.traceparent:
            headers["traceparent"] = envelope.traceparent
        return await self._webhooks.send(subscription, event, envelope.body, headers)

    async def _settle(
        self, row: asyncpg.Record, subscription: Subscription, envelope: Envelope, attempt: Attempt, at: datetime
    ) -> None:
        """Its end and the attempt in one commit, or when the next one is."""
        noted = AttemptRow(envelope.id, envelope.attempt, at, attempt.status, attempt.problem, attempt.duration_us)
        self._progress.note(subscription.id, well=attempt.accepted)
        (self._failing.discard if attempt.accepted else self._failing.add)(subscription.id)
        if attempt.accepted:
            key = self._vault.unwrap(row["wrapped"], envelope.id)
            await close(self._log, row, key, Conclusion(entry.SUCCEEDED), attempt=noted)
        elif attempt.gone and await self._pool.fetchval(_STOP, subscription.id, GONE, subscription.url):
            refused = ProviderRefused(members={"provider_code": "410"})
            conclusion = Conclusion(entry.REFUSED, "provider-no", refused, provider_code="410")
            await close(self._log, row, None, conclusion, attempt=noted)
        else:
            await self._pool.execute(ATTEMPTS, *([value] for value in attempt_values(noted)))
            pause_s = next_pause_s(self._settings.retry_min_s, envelope.attempt, self._settings.retry_max_s)
            next_at = entry.now() + timedelta(seconds=max(pause_s, attempt.retry_after_s or 0))
            if not attempt.sent or (attempt.status or CERTAIN_BELOW) < CERTAIN_BELOW:
                await self._not_done(row, envelope, next_at)
            else:
                await self._pool.execute(POSTPONE, row["tx"], min(next_at, row["deadline"]))

    async def _not_done(self, row: asyncpg.Record, envelope: Envelope, next_at: datetime) -> None:
        """That this attempt surely came to nothing, and when there may be another."""
        await self._pool.execute(_NOT_DONE, row["tx"], envelope.attempt, min(next_at, row["deadline"]))
