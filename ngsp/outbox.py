"""The outbox as its readers see it: a row with what was accepted, how it is put off, how it ends."""

from __future__ import annotations

import random

import asyncpg

from ngsp.errors import Expired
from ngsp.transactions import entry
from ngsp.transactions.extras import AttemptRow
from ngsp.transactions.log import TransactionLog
from ngsp.transactions.work import Conclusion
from ngsp.vault import RecordKey

BEHIND = """o.attempts = 0 AND o.order_key IS NOT NULL AND EXISTS (
    SELECT 1 FROM outbox e WHERE e.order_key = o.order_key AND e.state <> 'closed' AND e.tx <> o.tx
        AND (e.place < o.place OR e.attempts > 0))"""
"""True for a row that has another before it in its line: not ended, and accepted earlier or on its way."""
ACCEPTANCE = """LEFT JOIN LATERAL (
    SELECT wrapped, body FROM entries WHERE tx = {row}.tx AND kind = 1 AND at = {row}.{at} LIMIT 1) a ON true"""
"""Joins the entry of acceptance to a few rows, by its index: whatever the statistics say of tables that were empty a
minute ago, the log is never read through."""


def rows_with_entries(condition: str) -> str:
    """SELECT of the rows `o` of the outbox that `condition` names (with ORDER BY and LIMIT, where it has any)."""
    return f"""
WITH o AS MATERIALIZED (SELECT * FROM outbox o WHERE {condition})
SELECT o.*, o.tx::text AS id, o.answered @> int4range(1, o.attempts + 1) AS undone, {BEHIND} AS behind,
    a.wrapped, a.body AS accepted, p.stopped <> '' AS stopped
FROM o {ACCEPTANCE.format(row="o", at="accepted_at")}
LEFT JOIN subscription_progress p ON p.subscription = o.subscription"""  # noqa: S608 - of constants


POSTPONE = "UPDATE outbox SET next_at = $2 WHERE tx = $1 AND state = 'open'"
NOTHING_DONE = """
UPDATE outbox SET answered = answered + int4multirange(int4range($2, $2 + 1))
WHERE tx = $1 AND service = $3 AND state = 'open' AND $2 BETWEEN 1 AND attempts
RETURNING answered @> int4range(1, attempts + 1)"""
ASIDE = "INSERT INTO quarantine (tx, service, what, reason) VALUES ($1, $2, $3, $4)"


def next_pause_s(first_s: float, attempts: int, longest_s: float) -> float:
    """Doubles from `first_s` to `longest_s`, half of it random, so that retries do not come in step."""
    return doubled_s(first_s, attempts, longest_s) * random.uniform(0.5, 1.0)


def doubled_s(first_s: float, attempts: int, longest_s: float) -> float:
    return float(min(max(first_s, longest_s), first_s * 2 ** min(attempts, 20)))


def expired(row: asyncpg.Record, adapter: str = "") -> Conclusion:
    """Surely not done before the deadline: never published, or each delivery was answered with that."""
    failure_class = "provider-unavailable" if row["attempts"] > 0 else "deadline"
    members = {"outcome_unknown": False, "safe_to_repeat": True}
    return Conclusion(entry.EXPIRED, failure_class, Expired(members=members), adapter=adapter)


async def close(
    log: TransactionLog, row: asyncpg.Record, key: RecordKey | None, conclusion: Conclusion, *, undone: bool = False,
    attempt: AttemptRow | None = None,
) -> bool:  # fmt: skip
    return await log.conclude_submission(
        row["id"], row["service"], key, conclusion, line=row["order_key"], undone=undone, attempt=attempt
    )
