"""Handing deliveries to webhooks, beside the relay: a receiver that hangs holds up nobody but itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import asyncpg
import structlog

from ngsp.config import Settings
from ngsp.errors import NgspError, ProviderRefused
from ngsp.events.progress import Progress
from ngsp.events.webhooks import Attempt, Webhooks
from ngsp.messages import Envelope
from ngsp.outbox import NOTHING_DONE, POSTPONE, close, next_pause_s
from ngsp.registry.model import Subscription
from ngsp.transactions import entry
from ngsp.transactions.gateways import DATABASE_TROUBLE
from ngsp.transactions.log import TransactionLog
from ngsp.transactions.work import Conclusion
from ngsp.vault import Vault

MOST_AT_ONCE = 256
MOST_FOR_ONE = 8
"""Requests under way, in all and to one subscription; to one whose last was not taken it is a single one."""
CERTAIN_BELOW = 500
"""A status from here on may come from a proxy that passed the request on: the event may have been taken."""
GONE = "gone"
"""Why a subscription is stopped whose receiver answered 410: by Standard Webhooks it wants no more."""

log = structlog.get_logger(__name__)

_ATTEMPT = """
INSERT INTO delivery_attempts (tx, attempt, at, status, problem, duration_us) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING"""
_STOP = "UPDATE subscription_progress SET stopped = $2 WHERE subscription = $1"


class Posting:
    """The posts of one gateway."""

    def __init__(
        self, pool: asyncpg.Pool, webhooks: Webhooks, transactions: TransactionLog, vault: Vault, progress: Progress,
        settings: Settings,
    ) -> None:  # fmt: skip
        self._pool, self._webhooks, self._log, self._vault = pool, webhooks, transactions, vault
        self._progress, self._settings = progress, settings
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._busy: Counter[str] = Counter()
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
        if len(self._tasks) + len(self._reserved) >= MOST_AT_ONCE or tx in self._tasks:
            return False
        if self._busy[subscription] >= (1 if subscription in self._failing else MOST_FOR_ONE):
            return False
        self._reserved[tx] = subscription
        self._busy[subscription] += 1
        return True

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

    async def _post(self, row: asyncpg.Record, subscription: Subscription, envelope: Envelope) -> None:
        at = entry.now()
        event = entry.read(row["accepted"])["call"]["event"]
        headers = {"Ngsp-Transaction": envelope.id}
        if envelope.traceparent:
            headers["traceparent"] = envelope.traceparent
        attempt = await self._webhooks.send(subscription, event, envelope.body, headers)
        try:
            await self._pool.execute(
                _ATTEMPT, row["tx"], envelope.attempt, at, attempt.status, attempt.problem, attempt.duration_us
            )
            await self._settle(row, subscription, envelope, attempt)
        except (NgspError, *DATABASE_TROUBLE) as error:
            # The row is open still, and due again: the receiver knows the event by its id.
            log.warning("a delivery could not be settled", transaction=envelope.id, error=type(error).__name__)

    async def _settle(
        self, row: asyncpg.Record, subscription: Subscription, envelope: Envelope, attempt: Attempt
    ) -> None:
        self._progress.note(subscription.id, well=attempt.accepted)
        (self._failing.discard if attempt.accepted else self._failing.add)(subscription.id)
        if attempt.accepted:
            key = self._vault.unwrap(row["wrapped"], envelope.id)
            await close(self._log, row, key, Conclusion(entry.SUCCEEDED))
        elif attempt.gone:
            await self._pool.execute(_STOP, subscription.id, GONE)
            refused = ProviderRefused(members={"provider_code": "410"})
            await close(self._log, row, None, Conclusion(entry.REFUSED, "provider-no", refused, provider_code="410"))
        else:
            if not attempt.sent or (attempt.status or CERTAIN_BELOW) < CERTAIN_BELOW:
                await self._pool.execute(NOTHING_DONE, row["tx"], envelope.attempt, row["service"])
            pause_s = next_pause_s(self._settings.retry_min_s, envelope.attempt, self._settings.retry_max_s)
            next_at = entry.now() + timedelta(seconds=max(pause_s, attempt.retry_after_s or 0))
            await self._pool.execute(POSTPONE, row["tx"], min(next_at, row["deadline"]))
