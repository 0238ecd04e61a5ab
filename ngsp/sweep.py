"""Closes what a crash left open: queries accepted by a gateway that has lost its epoch since.

A transaction is an orphan when its gateway's epoch is higher than the one it was accepted under. Because every batch
locks the epoch, no further entry of the old one can come; and the sweep looks only when the projection has passed the
fencing transaction, so that an outcome written just before is seen. Submissions need no sweep: their outbox row is
open until somebody closes it, and the relay ends it at its deadline.
"""

from __future__ import annotations

import asyncpg
import structlog

from ngsp.errors import OutcomeUnknown
from ngsp.transactions import entry
from ngsp.transactions.log import TransactionLog
from ngsp.transactions.work import Conclusion

MOST_AT_ONCE = 500

_ORPHANS = """
SELECT t.tx::text AS tx FROM transactions t JOIN gateways g ON g.instance = t.gateway
WHERE t.state = 'accepted' AND t.mode = 'query' AND t.epoch < g.epoch
  AND g.fenced_xid < (SELECT horizon FROM projection)
ORDER BY t.place LIMIT $1"""

log = structlog.get_logger(__name__)


class Sweep:
    """One step of it at a time; the caller holds the lease."""

    def __init__(self, pool: asyncpg.Pool, transactions: TransactionLog) -> None:
        self._pool, self._log = pool, transactions

    async def step(self) -> int:
        """Close up to 500 orphans as *unknown*; returns how many there were."""
        orphans = [row["tx"] for row in await self._pool.fetch(_ORPHANS, MOST_AT_ONCE)]
        error = OutcomeUnknown(members={"outcome_unknown": True, "safe_to_repeat": True})
        closed = 0
        for tx in orphans:
            closed += await self._log.close_orphan(tx, Conclusion(entry.UNKNOWN, "crash", error))
        if closed:
            log.warning("transactions left open by a crash were closed as unknown", count=closed)
        return closed
