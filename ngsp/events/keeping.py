"""How long events are kept, and what that means for whoever has not come so far."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import asyncpg
import structlog

from ngsp.registry.model import GAP

MOST_AT_ONCE = 5_000

log = structlog.get_logger(__name__)

_OLD = "SELECT service, xid::text AS xid, seq FROM events WHERE at < $1 ORDER BY at LIMIT $2"
_STOP = """
UPDATE subscription_progress p SET stopped = $4 FROM subscriptions s
WHERE s.id = p.subscription AND s.service = $1 AND p.stopped <> $4
    AND (p.xid, p.seq) < ($2::text::xid8, $3) RETURNING p.subscription"""
_DROP = """
DELETE FROM events e USING unnest($1::text[], $2::text[], $3::int[]) AS old (service, xid, seq)
WHERE e.service = old.service AND e.xid = old.xid::xid8 AND e.seq = old.seq"""
_DROP_DELIVERIES = """
WITH old AS (
    SELECT d.tx FROM deliveries d WHERE d.at < $1
        AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.tx = d.tx AND o.state <> 'closed') ORDER BY d.at LIMIT $2
), attempts AS (DELETE FROM delivery_attempts a USING old WHERE a.tx = old.tx)
DELETE FROM deliveries d USING old WHERE d.tx = old.tx"""


async def retire(connection: asyncpg.Connection, now: datetime, keep_days: int) -> int:
    """Drops what is older than `keep_days`; returns how many events that were.

    MUST stop every subscription that has not passed an event before the event goes, also one that is inactive or was
    stopped for another reason and may go on one day: never passed over in silence.
    """
    before = now - timedelta(days=keep_days)
    dropped = 0
    while rows := await connection.fetch(_OLD, before, MOST_AT_ONCE):
        async with connection.transaction():
            for service, (xid, seq) in _last(rows).items():
                for stopped in await connection.fetch(_STOP, service, xid, seq, GAP):
                    log.error("a subscription fell behind what is kept", subscription=stopped["subscription"])
            await connection.execute(_DROP, *(list(column) for column in zip(*rows, strict=True)))
        dropped += len(rows)
    while await connection.execute(_DROP_DELIVERIES, before, MOST_AT_ONCE) != "DELETE 0":
        pass
    return dropped


def _last(rows: list[asyncpg.Record]) -> dict[str, tuple[str, int]]:
    """Service → the place of its last event among `rows`."""
    last: dict[str, Any] = {}
    for row in rows:
        place = int(row["xid"]), row["seq"]
        last[row["service"]] = max(last.get(row["service"], place), place)
    return {service: (str(xid), seq) for service, (xid, seq) in last.items()}
