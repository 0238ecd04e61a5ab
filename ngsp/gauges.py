"""What a gateway shows of its insides: each gauge, and where its figure comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from ngsp.bus import Bus
from ngsp.gate import Gate
from ngsp.metrics import Metrics
from ngsp.registry.store import Registry
from ngsp.transactions.writer import LogWriter

if TYPE_CHECKING:
    import asyncpg

SLOW_GAUGES = {
    "ngsp_outbox_open": "SELECT count(*) FROM outbox WHERE state = 'open' AND subscription IS NULL",
    "ngsp_outbox_oldest_seconds": """SELECT extract(epoch FROM now() - min(accepted_at)) FROM outbox
        WHERE state = 'open' AND subscription IS NULL""",
    "ngsp_deliveries_open": "SELECT count(*) FROM outbox WHERE subscription IS NOT NULL AND state <> 'closed'",
    "ngsp_events_behind_seconds": """SELECT extract(epoch FROM now() - min(first.at))
        FROM subscription_progress p JOIN subscriptions s ON s.id = p.subscription AND s.active
        CROSS JOIN LATERAL (SELECT at FROM events e WHERE e.service = s.service AND (e.xid, e.seq) > (p.xid, p.seq)
            ORDER BY e.xid, e.seq LIMIT 1) first""",
    "ngsp_subscriptions_failing": "SELECT count(*) FROM subscription_progress WHERE failing_since IS NOT NULL",
    "ngsp_subscriptions_stopped": "SELECT count(*) FROM subscription_progress WHERE stopped <> ''",
    "ngsp_quarantine_held": "SELECT count(*) FROM quarantine WHERE state = 'held'",
    "ngsp_projection_lag_seconds": """SELECT extract(epoch FROM now() - min(at)) FROM (
        SELECT e.at FROM entries e, projection p WHERE (e.xid, e.seq) > (p.xid, p.seq)
        ORDER BY e.xid, e.seq LIMIT 1) behind""",
}


def watch(
    metrics: Metrics,
    *,
    gate: Gate,
    writer: LogWriter,
    registry: Registry,
    bus: Bus,
    groups: Callable[[], Mapping[str, str]],
    rows: asyncpg.Pool,
) -> None:
    """`groups`: topic → the consumer group that works on it, as the registry is now."""
    metrics.gauge("ngsp_in_flight", lambda: gate.in_flight)
    metrics.gauge("ngsp_room", lambda: gate.room)
    metrics.gauge("ngsp_log_queue", lambda: writer.queued)
    metrics.gauge("ngsp_log_batch_size", lambda: writer.last_batch)
    metrics.gauge("ngsp_log_oldest_seconds", writer.oldest_age_s)
    metrics.gauge("ngsp_log_broken", lambda: int(bool(writer.trouble())))
    metrics.gauge("ngsp_registry_age_seconds", lambda: registry.age_s)
    metrics.gauge("ngsp_bus_up", lambda: int(not bus.trouble()))
    metrics.slow_gauge("ngsp_consumer_lag", lambda: bus.lag(groups()))
    for name, statement in SLOW_GAUGES.items():
        metrics.slow_gauge(name, partial(_figure, rows, statement))


async def _figure(rows: asyncpg.Pool, statement: str) -> float:
    return float(await rows.fetchval(statement) or 0)
