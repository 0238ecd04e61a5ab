"""One row for each transaction, kept from the entries: what lists, filters and streams read.

Entries commit out of order across gateways. The projector takes what lies below the oldest transaction still running
(`pg_snapshot_xmin`), in the order of (xid, seq), and gives each new transaction its place: none is passed over, none
gets two, and nothing waits on the hot path. It works inside the database, where the entries are: no entry comes into
the gateway's process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
import structlog

from ngsp.transactions.rows import ADVANCES, COLUMNS, FOLDED, FOLDING, REACHED

MOST_AT_ONCE: Final = 4_000
"""Entries in one statement, about a tenth of a second of the database's time."""
BROKEN_ENTRY: Final = "entry"

log = structlog.get_logger(__name__)

# The projection can be made again from the log, and what is durable after it in the write-ahead log makes it durable
# too: it need not wait for the disk. The planner is kept to the indexes: right after a burst its statistics are old,
# and one scan of the whole table would cost more than all probes of a batch.
_PREPARE = """
SET LOCAL synchronous_commit = off; SET LOCAL jit = off; SET LOCAL work_mem = '32MB';
SET LOCAL enable_seqscan = off; SET LOCAL enable_mergejoin = off; SET LOCAL random_page_cost = 1.1"""
_TAKE = """
SELECT xid, seq, horizon, place, pg_snapshot_xmin(pg_current_snapshot()) AS bound
FROM projection WHERE id = 1 FOR UPDATE SKIP LOCKED"""
_READ = """
    SELECT xid, seq, at, tx, kind, body FROM entries
    WHERE (xid, seq) > ($1::xid8, $2::integer) AND xid < $3::xid8 ORDER BY xid, seq LIMIT {most:d}"""
_PROJECT = """
WITH batch AS MATERIALIZED (
    SELECT xid, seq, at, tx, kind, convert_from(body, 'UTF8')::jsonb AS b FROM ({read}) e
), {folding}, inserted AS (
    INSERT INTO transactions (place, {columns})
    SELECT $4::bigint + row_number() OVER (ORDER BY f.xid, f.seq), {folded}
    FROM folded f WHERE f.opens AND NOT EXISTS (SELECT 1 FROM transactions t WHERE t.tx = f.tx)
    RETURNING 1
), updated AS (
    UPDATE transactions t SET {reached}
    FROM folded f WHERE t.tx = f.tx AND f.standing = 1 AND NOT f.opened AND {advances}
)
SELECT count(*) OVER () AS read, xid, seq, (SELECT count(*) FROM inserted) AS opened
FROM batch ORDER BY xid DESC, seq DESC LIMIT 1"""
_ADVANCE = """
UPDATE projection SET xid = $1::xid8, seq = $2, place = place + $3, horizon = greatest(horizon, $4::xid8)
WHERE id = 1"""
_PUT_ASIDE = "INSERT INTO quarantine (tx, service, what, reason) VALUES ($1, '', $2, $3)"

_ENTRY_AT_FAULT = ("22", "23", "54")
"""Classes of SQLSTATE that speak of the data: not of its form, against a constraint, over a limit of PostgreSQL."""


def _statement(most: int) -> str:
    # The number stands in the text: a parameter would make the planner expect a tenth of the log.
    return _PROJECT.format(
        read=_READ.format(most=most),
        folding=FOLDING,
        columns=", ".join(COLUMNS),
        folded=FOLDED,
        reached=REACHED,
        advances=ADVANCES,
    )


class Projector:
    """Projects what the log holds, batch by batch. Several may run: one works, the others find nothing to do."""

    def __init__(self, pool: asyncpg.Pool, most_at_once: int = MOST_AT_ONCE) -> None:
        self._pool = pool
        self._steps = _steps(most_at_once)
        self._step = 0
        self.projected = 0
        """Entries projected since the start, those passed over included."""

    async def run_once(self) -> int:
        """Project one batch, all or nothing. Returns its size where more may be waiting, 0 where all was read.

        A batch with an entry that cannot be projected is tried again in smaller ones until that entry stands alone: it
        is put in quarantine (`what` = entry) and passed over.
        """
        most = self._steps[self._step]
        try:
            read = await self._project(most)
        except asyncpg.PostgresError as error:
            if most == 1 or not _at_fault(error):
                raise
            self._step += 1
            return most
        self.projected += read
        if read < most:
            self._step = 0
            return 0
        self._step = max(self._step - 1, 0)
        return read

    async def _project(self, most: int) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_PREPARE)
            state = await connection.fetchrow(_TAKE)
            if state is None:
                return 0
            position = (state["xid"], state["seq"], state["bound"])
            try:
                async with connection.transaction():
                    found = await connection.fetchrow(_statement(most), *position, state["place"])
            except asyncpg.PostgresError as error:
                if most > 1 or not _at_fault(error):
                    raise
                return await _put_aside(connection, await connection.fetchrow(_READ.format(most=1), *position), error)
            if found is None:
                await connection.execute(_ADVANCE, state["xid"], state["seq"], 0, state["bound"])
                return 0
            # Below the horizon nothing is left to project; of a full batch the last transaction may go on.
            horizon = found["xid"] if found["read"] == most else state["bound"]
            await connection.execute(_ADVANCE, found["xid"], found["seq"], found["opened"], horizon)
            return int(found["read"])


async def _put_aside(connection: asyncpg.Connection, entry: asyncpg.Record, error: asyncpg.PostgresError) -> int:
    """Note the entry in quarantine and pass it over. Its bytes stay where they are, in the log."""
    place = f"{entry['xid']}-{entry['seq']}"
    reason = f"entry {place} cannot be projected: {error.sqlstate} {type(error).__name__}"
    await connection.execute(_PUT_ASIDE, entry["tx"], BROKEN_ENTRY, reason)
    await connection.execute(_ADVANCE, entry["xid"], entry["seq"], 0, entry["xid"])
    log.error("an entry cannot be projected; it was put aside", entry=place, sqlstate=error.sqlstate)
    return 1


def _at_fault(error: asyncpg.PostgresError) -> bool:
    return (error.sqlstate or "")[:2] in _ENTRY_AT_FAULT


def _steps(most: int) -> Sequence[int]:
    """Batch sizes from `most` down to one."""
    found = [most]
    while found[-1] > 1:
        found.append(max(found[-1] // 16, 1))
    return found
