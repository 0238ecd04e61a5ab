"""Subscriptions as the registry shows them: what was put, how far it has come, and why it may be waiting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import RowMapping, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.errors import NotFound
from ngsp.registry import rows
from ngsp.registry.change import Row, Stored, fetch, find
from ngsp.registry.cursors import Place
from ngsp.registry.model import GAP, Snapshot, Subscription
from ngsp.registry.tables import services, subscriptions
from ngsp.registry.waiting import waits_for

SubscriptionState = Literal["active", "inactive", "waiting", "stopped", "gap"]

_PROGRESS = text("""
SELECT p.subscription, CAST(CAST(p.xid AS text) AS bigint) AS xid, p.seq, p.run, p.moved_at, p.delivered_at,
    p.failing_since, p.stopped,
    (SELECT count(*) FROM outbox o WHERE o.subscription = p.subscription AND o.state <> 'closed') AS open
FROM subscription_progress p WHERE p.subscription = ANY(:ids)""")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a subscription has come. `cursor`: the last event of which a delivery was made, in the `run` that began
    with the last replay. `open`: deliveries that are not ended. `delivered_at`: when one last succeeded;
    `failing_since`: from when on none has. `stopped`: why no more are made, empty where they are."""

    cursor: Place
    run: int
    open: int
    moved_at: datetime
    delivered_at: datetime | None
    failing_since: datetime | None
    stopped: str


@dataclass(frozen=True, slots=True)
class SubscriptionRecord:
    """A subscription with its progress. `provider`: of the service."""

    subscription: Subscription
    progress: Progress

    @property
    def provider(self) -> str:
        return self.subscription.service.partition("/")[0]

    def state(self, snapshot: Snapshot, now: datetime) -> tuple[SubscriptionState, str]:
        """The state at `now`, and of one that waits or is stopped the code of why."""
        if not self.subscription.active:
            return "inactive", ""
        if self.progress.stopped:
            return "gap" if self.progress.stopped == GAP else "stopped", self.progress.stopped
        reason = waits_for(self.subscription, snapshot, now)
        return ("waiting" if reason else "active"), reason


async def get_subscription(connection: AsyncConnection, id: str, member: str | None) -> Stored[SubscriptionRecord]:
    """`NotFound` where there is none that `member` may see: its own, and those on its services; None sees all."""
    row = await find(connection, subscriptions, id=id)
    if row is None or not (member is None or member in (row["member"], row["service"].partition("/")[0])):
        raise NotFound(reason="no such subscription of this member")
    return (await _records(connection, [row]))[0]


async def list_subscriptions(
    connection: AsyncConnection, after: str, limit: int, member: str | None
) -> list[Stored[SubscriptionRecord]]:
    """At most `limit` subscriptions whose id comes after `after`, by id; those `member` may see, where one is given."""
    statement = select(subscriptions).where(subscriptions.c.id > after).order_by(subscriptions.c.id).limit(limit)
    if member is not None:
        own = select(services.c.path).where(services.c.provider == member, services.c.mode == "event")
        statement = statement.where(or_(subscriptions.c.member == member, subscriptions.c.service.in_(own)))
    return await _records(connection, await fetch(connection, statement))


async def _records(connection: AsyncConnection, found: Sequence[Row]) -> list[Stored[SubscriptionRecord]]:
    progress = await connection.execute(_PROGRESS, {"ids": [row["id"] for row in found]})
    by_id = {row["subscription"]: _progress(row) for row in progress.mappings()}
    return [Stored(SubscriptionRecord(rows.subscription(row), by_id[row["id"]]), row["row_version"]) for row in found]


def _progress(row: RowMapping) -> Progress:
    return Progress(
        cursor=Place(row["xid"], row["seq"]),
        run=row["run"],
        open=row["open"],
        moved_at=row["moved_at"],
        delivered_at=row["delivered_at"],
        failing_since=row["failing_since"],
        stopped=row["stopped"],
    )
