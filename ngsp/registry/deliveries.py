"""What was delivered to a subscription: the list, and each attempt at a webhook."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.errors import NotFound
from ngsp.registry.cursors import Place

MOST_SCANNED: Final = 2_000
"""Deliveries that one page looks at; where fewer of them fit the page is short, and its cursor leads on."""
LAST_PLACE: Final = 2**63 - 1
MOST_ATTEMPTS: Final = 1_000
_RETRYING: Final = frozenset(("open", "held"))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. `status`: of HTTP, None where there was no answer; `problem`: then the code of what was wrong."""

    attempt: int
    at: datetime
    status: int | None
    problem: str
    duration_us: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event to one subscription. `transaction`: the delivery's own; `publication`: that of the event, at `cursor`.

    `state`: as of transactions; as far as the log's projection has come, else as the outbox has it. `next_at`: when it
    is tried again, None where it is not. `last`: the last attempt at a webhook, where there was one.
    """

    place: int
    transaction: str
    publication: str
    type: str
    cursor: Place
    run: int
    at: datetime
    state: str
    code: str
    attempts: int
    next_at: datetime | None
    last: Attempt | None


_PAGE = text("""
WITH looked AS MATERIALIZED (
    SELECT d.place, d.tx, d.publication, d.type, CAST(CAST(d.xid AS text) AS bigint) AS xid, d.seq, d.run, d.at
    FROM deliveries d WHERE d.subscription = :id AND d.place < :below ORDER BY d.place DESC LIMIT :scanned
), known AS (
    SELECT l.*, t.code, o.state AS outbox, o.next_at, coalesce(o.attempts, a.attempt, 0) AS attempts,
        a.attempt AS last, a.at AS last_at, a.status AS last_status, a.problem AS last_problem,
        a.duration_us AS last_us,
        CASE WHEN t.ended_at IS NOT NULL THEN t.state
            WHEN o.attempts > 0 OR t.state = 'delivered' THEN 'delivered' ELSE 'accepted' END AS state
    FROM looked l
    LEFT JOIN transactions t ON t.tx = l.tx
    LEFT JOIN outbox o ON o.tx = l.tx
    LEFT JOIN LATERAL (
        SELECT * FROM delivery_attempts a WHERE a.tx = l.tx ORDER BY a.attempt DESC LIMIT 1) a ON true
)
SELECT k.*, (SELECT count(*) FROM looked) AS looked, (SELECT min(place) FROM looked) AS lowest FROM known k
WHERE :state = '' OR k.state = :state ORDER BY k.place DESC LIMIT :limit""")
_LOWEST = text("""
SELECT min(place) AS lowest, count(*) AS looked FROM (
    SELECT d.place FROM deliveries d WHERE d.subscription = :id AND d.place < :below
    ORDER BY d.place DESC LIMIT :scanned) looked""")
_MINE = text("SELECT 1 FROM deliveries WHERE subscription = :id AND tx = CAST(:tx AS uuid)")
_ATTEMPTS = text("SELECT * FROM delivery_attempts WHERE tx = CAST(:tx AS uuid) ORDER BY attempt DESC LIMIT :limit")


async def list_deliveries(
    connection: AsyncConnection, subscription: str, state: str, below: int, limit: int, scanned: int = MOST_SCANNED
) -> tuple[list[Delivery], int | None]:
    """At most `limit` deliveries of `subscription` from before `below`, newest first, of `state` where it is not empty;
    and the place before which the next page begins, None at the end."""
    scanned = scanned if state else limit + 1  # where all fit, no more need be looked at
    asked = {"id": subscription, "below": below, "scanned": scanned}
    found = (await connection.execute(_PAGE, asked | {"state": state, "limit": limit + 1})).mappings().all()
    page = [_delivery(row) for row in found[:limit]]
    if len(found) > limit:
        return page, page[-1].place
    whole = found[0] if found else (await connection.execute(_LOWEST, asked)).mappings().one()
    return page, whole["lowest"] if whole["looked"] == scanned else None


async def list_attempts(connection: AsyncConnection, subscription: str, transaction: str) -> list[Attempt]:
    """The attempts at one delivery, newest first. `NotFound` where it is none of `subscription`."""
    if (await connection.execute(_MINE, {"id": subscription, "tx": transaction})).first() is None:
        raise NotFound(reason="no such delivery of this subscription")
    rows = await connection.execute(_ATTEMPTS, {"tx": transaction, "limit": MOST_ATTEMPTS})
    return [
        Attempt(row["attempt"], row["at"], row["status"], row["problem"], row["duration_us"]) for row in rows.mappings()
    ]


def _delivery(row: RowMapping) -> Delivery:
    last: Any = row["last"]
    return Delivery(
        place=row["place"],
        transaction=str(row["tx"]),
        publication=str(row["publication"]),
        type=row["type"],
        cursor=Place(row["xid"], row["seq"]),
        run=row["run"],
        at=row["at"],
        state=row["state"],
        code=row["code"] or "",
        attempts=row["attempts"],
        next_at=row["next_at"] if row["outbox"] in _RETRYING else None,
        last=None
        if last is None
        else Attempt(last, row["last_at"], row["last_status"], row["last_problem"], row["last_us"]),
    )
