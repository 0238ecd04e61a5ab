"""What adapters answer to submissions and deliveries: taken from one topic by all gateways, and so they end."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import structlog

from ngsp.bus.base import Bus, Message, Subscription
from ngsp.conclusion import conclude
from ngsp.config import Settings
from ngsp.errors import AgreementRevoked, InvalidIdentifier, NgspError, OutcomeUnknown, ReplyErased
from ngsp.events.progress import Progress
from ngsp.messages import (
    GATEWAYS_GROUP,
    IN_DOUBT,
    OUTCOMES_TOPIC,
    TOO_OLD,
    TRANSACTION_ID,
    Reply,
    check_identifier,
)
from ngsp.outbox import ASIDE, NOTHING_DONE, POSTPONE, close, expired, next_pause_s, rows_with_entries
from ngsp.registry.store import Registry
from ngsp.strays import Strays, grant_of
from ngsp.text import Text
from ngsp.transactions import entry
from ngsp.transactions.gateways import DATABASE_TROUBLE
from ngsp.transactions.log import TransactionLog
from ngsp.transactions.work import Conclusion, PutAside
from ngsp.vault import Vault, VaultError

MOST_OUTCOMES_IN_WORK = 256
_ID = Text("Mã giao dịch", "the transaction's id")
_ONE = rows_with_entries("o.tx = $1")

log = structlog.get_logger(__name__)


class Outcomes:
    """Takes replies to submissions, as one group with the other gateways, and ends the transactions."""

    def __init__(
        self, pool: asyncpg.Pool, bus: Bus, registry: Registry, transactions: TransactionLog, vault: Vault,
        strays: Strays, settings: Settings, progress: Progress,
    ) -> None:  # fmt: skip
        self._pool, self._bus, self._registry, self._log = pool, bus, registry, transactions
        self._vault, self._strays, self._settings, self._progress = vault, strays, settings, progress
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
            await self._pool.execute(ASIDE, reply.id, reply.service[:200], "outcome", type(error).__name__)

    async def _settle(self, reply: Reply) -> None:
        row = await self._pool.fetchrow(_ONE, reply.id)
        if row is None:
            log.error("an outcome of no known submission was dropped", transaction=reply.id, adapter=reply.adapter)
        elif row["state"] == "closed":
            await self._strays.handle(reply)
        elif reply.status == "retry":
            await self._nothing_done(row, reply)
            await self._retry_later(row, reply)
            if row["subscription"] is not None:
                self._progress.note(row["subscription"], well=False)
        elif not await self._conclude(row, reply):
            await self._strays.handle(reply)

    async def _nothing_done(self, row: asyncpg.Record, reply: Reply) -> bool:
        """Keeps that the delivery which `reply` answers was not done; True where that holds for each there was."""
        if reply.code == IN_DOUBT or not self._speaks_for(row, reply):
            return False
        return bool(await self._pool.fetchval(NOTHING_DONE, reply.id, reply.attempt, row["service"]))

    def _speaks_for(self, row: asyncpg.Record, reply: Reply) -> bool:
        """Whether `reply` names the service that `row` went to."""
        if row["subscription"] is None:
            return bool(reply.service == row["service"])
        subscription = self._registry.snapshot.subscriptions.get(row["subscription"])
        return subscription is not None and reply.service == subscription.receiver

    async def _retry_later(self, row: asyncpg.Record, reply: Reply) -> None:
        if reply.code == TOO_OLD:
            await self._look_again(row, reply)
            return
        pause_s = next_pause_s(self._settings.retry_min_s, row["attempts"], self._settings.retry_max_s)
        at = entry.now() + timedelta(seconds=pause_s)
        await self._pool.execute(POSTPONE, row["tx"], min(at, row["deadline"]))

    async def _look_again(self, row: asyncpg.Record, reply: Reply) -> None:
        """The adapter was away, and is back: what may still go goes at once, what was revoked meanwhile ends here."""
        if reply.attempt < row["attempts"]:
            return  # the last delivery is on its way
        snapshot, now = self._registry.snapshot, entry.now()
        service = snapshot.services.get(row["service"])
        if snapshot.in_force(row["agreement"], now) or service is None or service.effect == "idempotent":
            await self._pool.execute(POSTPONE, row["tx"], now)
            return
        # The inbox knows of no delivery that was begun, and none can be any more.
        conclusion = Conclusion(entry.REFUSED, "access", AgreementRevoked(), adapter=reply.adapter)
        await close(self._log, row, None, conclusion)

    async def _conclude(self, row: asyncpg.Record, reply: Reply) -> bool:
        snapshot = self._registry.snapshot
        if row["wrapped"] is None:
            conclusion = Conclusion(entry.FAILED, "erased", ReplyErased())
            return await close(self._log, row, None, conclusion)
        try:
            key = self._vault.unwrap(row["wrapped"], row["id"])
        except VaultError as error:
            # How it ended is known and recorded; the reply itself cannot be kept.
            log.error("a record's key does not open; its reply is lost", transaction=row["id"], reason=str(error))
            await self._pool.execute(ASIDE, row["tx"], row["service"], "outcome", str(error))
            key = None
        grant = grant_of(snapshot, entry.read(row["accepted"]), reply)
        if grant is None:
            aside = PutAside("outcome", "the service or agreement is no longer known", reply.body)
            conclusion = Conclusion(entry.FAILED, "access", AgreementRevoked(), adapter=reply.adapter, aside=aside)
        elif reply.status == "expired" and row["attempts"] > 1 and grant.service.effect == "idempotent":
            if await self._nothing_done(row, reply):
                conclusion = expired(row, reply.adapter)
                return await close(self._log, row, key, conclusion, undone=True)
            # Another delivery of the same message may have been done: only an inbox could say that none was.
            members = {"outcome_unknown": True, "safe_to_repeat": True}
            conclusion = Conclusion(entry.UNKNOWN, "deadline", OutcomeUnknown(members=members), adapter=reply.adapter)
        else:
            conclusion = conclude(grant, reply)
        closed = await close(self._log, row, key, conclusion)
        if row["subscription"] is not None:
            self._progress.note(row["subscription"], well=conclusion.error is None)
        return closed
