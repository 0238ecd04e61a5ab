"""What was put aside: shown with its reason, then released or discarded by an operator, never by itself.

The payload stays sealed under its record's key and is shown to nobody; a discarded one is deleted, its row stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import asyncpg
import structlog

from ngsp.errors import NotFound, StateConflict
from ngsp.text import Text
from ngsp.transactions.entry import moment

State = Literal["held", "released", "discarded"]
LAST_ID: Final = (1 << 63) - 1
SUBMISSION: Final = "submission"
"""The one kind that can be released: its outbox row waits, and the relay takes it up again."""

log = structlog.get_logger(__name__)

_COLUMNS = "id, tx::text AS tx, service, what, reason, at, state, decided_by, decided_at, decision_reason"
_LIST = f"SELECT {_COLUMNS} FROM quarantine WHERE state = $1 AND id < $2 ORDER BY id DESC LIMIT $3"  # noqa: S608
_TAKE = "SELECT id, tx, what, state FROM quarantine WHERE id = $1 FOR UPDATE"
_DECIDE = f"""
UPDATE quarantine SET state = $2, decided_by = $3, decided_at = now(), decision_reason = $4,
    wrapped = CASE WHEN $2 = 'discarded' THEN NULL ELSE wrapped END,
    body = CASE WHEN $2 = 'discarded' THEN NULL ELSE body END
WHERE id = $1 RETURNING {_COLUMNS}"""  # noqa: S608  # constants only
_DUE_AGAIN = "UPDATE outbox SET state = 'open', next_at = now() WHERE tx = $1 AND state = 'held' RETURNING 1"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One thing put aside. `what`: submission, reply, outcome, event or entry. `reason` holds no personal data."""

    id: int
    tx: str | None
    service: str
    what: str
    reason: str
    at: datetime
    state: State
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None

    def item(self) -> dict[str, Any]:
        """The JSON that `GET /v1/quarantine` gives."""
        return {
            "id": self.id,
            "transaction": self.tx,
            "service": self.service or None,
            "what": self.what,
            "reason": self.reason,
            "at": moment(self.at),
            "state": self.state,
            "decided_by": self.decided_by,
            "decided_at": moment(self.decided_at) if self.decided_at else None,
            "decision_reason": self.decision_reason,
        }


async def list_quarantined(pool: asyncpg.Pool, state: State, below: int, limit: int) -> list[Quarantined]:
    """At most `limit` with an id under `below`, newest first."""
    return [Quarantined(**row) for row in await pool.fetch(_LIST, state, below, limit)]


async def decide(
    pool: asyncpg.Pool, id: int, decision: Literal["released", "discarded"], by: str, reason: str
) -> Quarantined:
    """Release or discard what is held; `by` is the client that decides, `reason` is kept with it.

    Raises NotFound, or StateConflict (409) where it was decided before or cannot be released.
    """
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow(_TAKE, id)
        if row is None:
            raise NotFound(reason="no such quarantine row")
        if row["state"] != "held":
            raise StateConflict(_DECIDED, reason=f"already {row['state']}")
        if decision == "released":
            await _release(connection, row)
        decided = Quarantined(**await connection.fetchrow(_DECIDE, id, decision, by, reason))
    log.warning(
        "quarantine.decided", id=id, decision=decision, what=decided.what, transaction=decided.tx, by=by, why=reason
    )
    return decided


async def _release(connection: asyncpg.Connection, row: asyncpg.Record) -> None:
    if row["what"] != SUBMISSION:
        raise StateConflict(_NOT_RELEASABLE, reason=f"a {row['what']} cannot be released")
    if await connection.fetchval(_DUE_AGAIN, row["tx"]) is None:
        raise StateConflict(_ENDED, reason="the submission is no longer held")


_DECIDED = Text("Mục này đã được xử lý trước đó.", "This was decided before.")
_NOT_RELEASABLE = Text(
    "Chỉ giải phóng được yêu cầu đang chờ gửi; mục này chỉ có thể hủy bỏ.",
    "Only a submission can be released; this can only be discarded.",
)
_ENDED = Text(
    "Yêu cầu này không còn chờ gửi: giao dịch đã có kết quả hoặc đã quá hạn.",
    "The submission no longer waits: its transaction has ended or its deadline has passed.",
)
