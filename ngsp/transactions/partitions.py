"""The log's partitions, one for each month (UTC): made ahead of time, dropped whole when their retention has passed.

There is no default partition: an entry without its partition is refused, so that a mistake is seen and not stored. No
step here takes a lock that a writer of the log would wait behind: partitions are attached and detached, never made or
dropped in place.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg
import structlog

TABLE: Final = "entries"
MAKING_LOCK: Final = 0x6E677372
DROPPING_LOCK: Final = 0x6E677373
"""Advisory locks under which one gateway at a time makes and drops partitions."""
ROWS_AT_ONCE: Final = 2_000
PAGES_AT_ONCE: Final = 1_000
DETACH_TIMEOUT_S: Final = 60.0

_SUFFIX = re.compile(r"_p(\d{4})(\d{2})$")

log = structlog.get_logger(__name__)

_ATTACHED = """
SELECT c.relname AS name, i.inhdetachpending AS leaving FROM pg_inherits i
JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = $1::regclass"""
_GUARD = """
CREATE TRIGGER entries_never_emptied BEFORE TRUNCATE ON {name}
FOR EACH STATEMENT EXECUTE FUNCTION ngsp_append_only()"""
_LOOSE = r"SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relname ~ ('^' || $1 || '_p\d{6}$')"


def month_of(at: datetime, ahead: int = 0) -> datetime:
    """The first moment (UTC) of the month `ahead` months after that of `at`."""
    at = at.astimezone(UTC)
    number = at.year * 12 + at.month - 1 + ahead
    return datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC)


def name_of(month: datetime) -> str:
    return f"{TABLE}_p{month:%Y%m}"


async def ensure(connection: asyncpg.Connection, now: datetime, ahead_months: int = 2) -> list[str]:
    """Make the partitions of this month and the next `ahead_months`; returns the names of those that were missing.

    The month of yesterday is there too: a gateway whose clock is a little behind writes into it. Safe from several
    gateways at once; costs one read where nothing is missing. Not inside a transaction.
    """
    first = month_of(now - timedelta(days=1))
    months = [first]
    while months[-1] < month_of(now, ahead_months):
        months.append(month_of(months[-1], 1))
    if not await _missing(connection, months):
        return []
    made = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", MAKING_LOCK)
        for month in await _missing(connection, months):
            name = name_of(month)
            # Attaching lets writers go on; CREATE … PARTITION OF would stop them behind every open reader. The
            # triggers for rows come with the attaching; the one for TRUNCATE, being for statements, does not.
            await connection.execute(f"CREATE TABLE {name} (LIKE {TABLE} INCLUDING ALL)")
            await connection.execute(_GUARD.format(name=name))
            await connection.execute(
                f"ALTER TABLE {TABLE} ATTACH PARTITION {name}"
                f" FOR VALUES FROM ('{month.isoformat()}') TO ('{month_of(month, 1).isoformat()}')"
            )
            made.append(name)
    log.info("partitions made", partitions=made)
    return made


async def _missing(connection: asyncpg.Connection, months: list[datetime]) -> list[datetime]:
    there = {row["name"] for row in await connection.fetch(_ATTACHED, TABLE)}
    return [month for month in months if name_of(month) not in there]


async def retire(
    connection: asyncpg.Connection, now: datetime, months: int, detach_timeout_s: float = DETACH_TIMEOUT_S
) -> list[str]:
    """Drop what is older than `months` whole months, and the rows of that age beside it; returns dropped partitions.

    Replies go when they expire. One gateway at a time works; others return at once. Not inside a transaction. A reader
    that holds a partition for longer than `detach_timeout_s` leaves it to the next call.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", DROPPING_LOCK):
        return []
    try:
        cutoff = month_of(now, -months)
        await _detach(connection, cutoff, detach_timeout_s)
        dropped = await _drop_detached(connection, cutoff)
        await _delete_rows(connection, _EXPIRED_REPLIES, now)
        for statement in _AGED:
            await _delete_rows(connection, statement, cutoff)
        if dropped:
            for table, condition in _AGED_UNINDEXED:
                await _delete_by_pages(connection, table, condition, cutoff)
            log.info("partitions dropped", partitions=dropped)
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", DROPPING_LOCK)
    return dropped


async def _detach(connection: asyncpg.Connection, cutoff: datetime, timeout_s: float) -> None:
    for row in await connection.fetch(_ATTACHED, TABLE):
        if not _is_older(row["name"], cutoff):
            continue
        # A detachment that was interrupted is finished; either way writers are not stopped.
        how = "FINALIZE" if row["leaving"] else "CONCURRENTLY"
        try:
            await connection.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {row['name']} {how}", timeout=timeout_s)
        except TimeoutError:
            log.warning("a partition is still being read; it goes next time", partition=row["name"])


async def _drop_detached(connection: asyncpg.Connection, cutoff: datetime) -> list[str]:
    attached = {row["name"] for row in await connection.fetch(_ATTACHED, TABLE)}
    loose = [row["name"] for row in await connection.fetch(_LOOSE, TABLE) if row["name"] not in attached]
    dropped = [name for name in loose if _is_older(name, cutoff)]
    for name in dropped:
        await connection.execute(f"DROP TABLE {name}")
    return dropped


def _is_older(name: str, cutoff: datetime) -> bool:
    """True where the partition `name` ends at or before `cutoff`."""
    found = _SUFFIX.search(name)
    return found is not None and month_of(datetime(int(found[1]), int(found[2]), 1, tzinfo=UTC), 1) <= cutoff


# Each deletes at most ROWS_AT_ONCE rows that are older than $1, along an index.
_EXPIRED_REPLIES = f"""
DELETE FROM replies WHERE tx IN (
    SELECT tx FROM replies WHERE expires_at <= $1 ORDER BY expires_at LIMIT {ROWS_AT_ONCE})"""  # noqa: S608
_AGED = (
    f"""
DELETE FROM transactions WHERE tx IN (
    SELECT tx FROM (SELECT tx, accepted_at FROM transactions ORDER BY place LIMIT {ROWS_AT_ONCE}) oldest
    WHERE accepted_at < $1)""",  # noqa: S608
    f"""
DELETE FROM refusals WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM refusals WHERE minute < $1 ORDER BY minute LIMIT {ROWS_AT_ONCE}))""",  # noqa: S608
    f"""
DELETE FROM outbox WHERE tx IN (
    SELECT tx FROM outbox WHERE state = 'closed' AND deadline < $1 ORDER BY deadline LIMIT {ROWS_AT_ONCE})""",  # noqa: S608
)
_AGED_UNINDEXED = (
    ("subjects", "at < $1"),
    ("idempotency_keys", "at < $1"),
    ("resolutions", "at < $1"),
    ("quarantine", "at < $1 AND state <> 'held'"),
)
"""Tables without an index on age: gone through once when a month ends, some pages at a time."""


_PAGES = "SELECT pg_relation_size($1::regclass) / current_setting('block_size')::integer"


async def _delete_rows(connection: asyncpg.Connection, statement: str, before: datetime) -> None:
    while _rows(await connection.execute(statement, before)):
        continue


async def _delete_by_pages(connection: asyncpg.Connection, table: str, condition: str, before: datetime) -> None:
    pages = await connection.fetchval(_PAGES, table)
    for page in range(0, pages + 1, PAGES_AT_ONCE):
        await connection.execute(
            f"DELETE FROM {table} WHERE ctid >= '({page},0)' AND ctid < '({page + PAGES_AT_ONCE},0)' AND {condition}",  # noqa: S608
            before,
        )


def _rows(status: str) -> int:
    """The number in a command's status, e.g. `DELETE 12`."""
    return int(status.rpartition(" ")[2])
