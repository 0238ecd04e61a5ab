"""Failed client authentications over all gateways: once a second each tells what it counted, and hears the others.

A guesser gains little by going from gateway to gateway: each refuses or delays by what all of them had counted a second
or two ago, and each attempt that one lets through counts everywhere. No attempt waits for the database or writes to it:
a second's failures are one statement of at most `MOST_TOLD` rows, the highest counts first. While the database is away
each gateway goes by what it knows and counts, and tells it later.

The table holds digests, counts and times only. They are made with the first key-encryption key: while gateways disagree
about the first, each group counts for itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import structlog

from ngsp.identity.attempts import FORGET_S, KNOWN_GOOD_S, Attempts
from ngsp.transactions.gateways import DATABASE_TROUBLE

SHARE_EVERY_S: Final = 1.0
MOST_TOLD: Final = 100
"""Rows that a gateway writes in a second, whatever is tried at it."""
MOST_HEARD: Final = 1_000
OVERLAP: Final = timedelta(seconds=5)
"""Read again each time: longer than a statement here takes from its clock to its commit."""
TIMEOUT_S: Final = 2.0
PURGE_EVERY_S: Final = 600.0
KEPT_S: Final = 4 * FORGET_S
"""A count that nobody added to for so long is next to nothing."""

log = structlog.get_logger(__name__)

# In the order of the key, so that two gateways never wait for each other in a ring. A success begins a new count.
_TELL = f"""
INSERT INTO failed_attempts AS a (kind, key, failures, failed_at, good_at, changed_at)
SELECT kind, key, failures, clock_timestamp(), CASE WHEN good THEN clock_timestamp() END, clock_timestamp()
FROM unnest($1::text[], $2::bytea[], $3::int[], $4::bool[]) AS news (kind, key, failures, good) ORDER BY kind, key
ON CONFLICT (kind, key) DO UPDATE SET
    failures = least(1000000, excluded.failures + CASE WHEN excluded.good_at IS NULL THEN
        a.failures >> least(30, extract(epoch FROM excluded.failed_at - a.failed_at)::int / {FORGET_S:.0f}) ELSE 0 END),
    failed_at = CASE WHEN excluded.failures > 0 THEN excluded.failed_at ELSE a.failed_at END,
    good_at = coalesce(excluded.good_at, a.good_at), changed_at = excluded.changed_at"""  # noqa: S608  # a constant
_HEAR = """
SELECT kind, key, failures, extract(epoch FROM clock_timestamp() - failed_at)::float8 AS failed_ago_s,
       extract(epoch FROM clock_timestamp() - good_at)::float8 AS good_ago_s, changed_at
FROM failed_attempts WHERE changed_at > $1 ORDER BY changed_at LIMIT $2"""
_PURGE = """
DELETE FROM failed_attempts WHERE changed_at < now() - $1::interval
AND (good_at IS NULL OR good_at < now() - $2::interval)"""


class Sharing:
    """What one gateway's `attempts` have in common with the others'. `clock()`: that of the attempts."""

    def __init__(self, pool: asyncpg.Pool, attempts: Attempts, clock: Callable[[], float] = time.time) -> None:
        self._pool, self._attempts, self._clock = pool, attempts, clock
        self._heard_at: datetime | None = None
        self._purged_s = float("-inf")
        self._failing = False

    async def step(self) -> int:
        """The job, to be done every second: tell, hear, and now and then purge. Always 0."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._tell()
                await self._hear()
                if time.monotonic() - self._purged_s > PURGE_EVERY_S:
                    await self._pool.execute(_PURGE, timedelta(seconds=KEPT_S), timedelta(seconds=KNOWN_GOOD_S))
                    self._purged_s = time.monotonic()
        except DATABASE_TROUBLE as error:
            if not self._failing:
                log.warning("failed attempts are counted here alone", error=type(error).__name__)
            self._failing = True
        else:
            self._failing = False
        return 0

    async def _tell(self) -> None:
        """A commit in doubt is told again: a count may then be too high, never too low."""
        news = self._attempts.news(MOST_TOLD)
        if not news:
            return
        told = False
        try:
            rows = [(one.kind, one.key, one.failures, one.good) for one in news]
            await self._pool.execute(_TELL, *zip(*rows, strict=True))
            told = True
        finally:
            if not told:
                self._attempts.put_back(news)

    async def _hear(self) -> None:
        since = self._heard_at - OVERLAP if self._heard_at else None
        while True:
            since = since or await self._pool.fetchval("SELECT now() - $1::interval", timedelta(seconds=KNOWN_GOOD_S))
            rows = await self._pool.fetch(_HEAR, since, MOST_HEARD)
            now_s = self._clock()
            for row in rows:
                good_s = None if row["good_ago_s"] is None else now_s - row["good_ago_s"]
                self._attempts.hear(row["kind"], row["key"], row["failures"], now_s - row["failed_ago_s"], good_s)
            if rows:
                self._heard_at = since = rows[-1]["changed_at"]
            if len(rows) < MOST_HEARD:
                return
