"""Refusals before authentication, counted by address and minute instead of logged one by one.

Nobody is known yet, so anybody could fill a log with them. A count costs a dictionary entry; every few seconds the
counts are added to the table `refusals`. Memory and table are bounded: beyond so many addresses in a minute the rest
are counted together, and so is what a long absence of the database piles up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import asyncpg
import structlog

from ngsp.errors import ERRORS
from ngsp.transactions.gateways import DATABASE_TROUBLE

MOST_A_MINUTE: Final = 1_000
"""Different (address, code) pairs of one minute; a botnet's further ones are counted under OTHER."""
MOST_PENDING: Final = 20_000
"""Pairs in memory, reached where the database is away; beyond, OTHER of the hour takes them."""
OTHER: Final = "other"
UNKNOWN: Final = "unknown"
LOCAL: Final = "local"
_UNIX: Final = frozenset(("", LOCAL, "unix"))
"""What callers over a Unix socket have for an address."""
FLUSH_TIMEOUT_S: Final = 5.0
LARGEST_COUNT: Final = 2**31 - 1

log = structlog.get_logger(__name__)

# A commit in doubt is added again with the next flush: a count may be too high then, never too low.
_ADD = """
INSERT INTO refusals (minute, address, code, gateway, count)
SELECT minute, address, code, $1, count
FROM unnest($2::timestamptz[], $3::text[], $4::text[], $5::int[]) AS r (minute, address, code, count)
ON CONFLICT (minute, address, code, gateway)
DO UPDATE SET count = least(refusals.count::bigint + excluded.count, $6::bigint)"""

_Key = tuple[int, str, str]
"""Minutes since 1970, address, code."""


class Refusals:
    """The counter of one gateway. `clock()`: Unix seconds."""

    def __init__(self, pool: asyncpg.Pool, gateway: str, clock: Callable[[], float] = time.time) -> None:
        self._pool, self._gateway, self._clock = pool, gateway, clock
        self._pending: dict[_Key, int] = {}
        self._minute = 0
        self._pairs: set[tuple[str, str]] = set()
        self._failing = False

    @property
    def pending(self) -> int:
        """Rows that the next flush writes."""
        return len(self._pending)

    def count(self, code: str, address: str) -> None:
        """Count one refusal. `code`: of the error tree. `address`: the caller's, as the connection has it."""
        minute = int(self._clock()) // 60
        pair = network_of(address), code if code in ERRORS else OTHER
        key = (minute, *pair)
        if key in self._pending:
            self._pending[key] += 1
            return
        if minute != self._minute:
            self._minute = minute
            self._pairs.clear()
        if pair not in self._pairs:
            if len(self._pairs) >= MOST_A_MINUTE:
                pair = OTHER, pair[1]
            else:
                self._pairs.add(pair)
        self._add((minute, *pair), 1)

    def _add(self, key: _Key, count: int) -> None:
        if key not in self._pending and len(self._pending) >= MOST_PENDING:
            key = key[0] // 60 * 60, OTHER, key[2]
        self._pending[key] = min(self._pending.get(key, 0) + count, LARGEST_COUNT)

    async def flush(self) -> int:
        """The job that adds what was counted to the table, to be done every few seconds; always 0.

        Where the database is away the counts are kept for the next time.
        """
        taken, self._pending = self._pending, {}
        if not taken:
            return 0
        minutes, addresses, codes = zip(*taken, strict=True)
        moments = [datetime.fromtimestamp(minute * 60, UTC) for minute in minutes]
        counts = list(taken.values())
        written = False
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self._pool.execute(_ADD, self._gateway, moments, addresses, codes, counts, LARGEST_COUNT)
            written = True
        except DATABASE_TROUBLE as error:
            if not self._failing:
                log.warning("refusals could not be written; they are kept", error=type(error).__name__)
        finally:
            self._failing = not written
            if not written:  # cancelled too: the last flush at the stop has them
                for key, count in taken.items():
                    self._add(key, count)
        return 0


@lru_cache(maxsize=8_192)
def network_of(address: str) -> str:
    """An IPv4 address as it is; of an IPv6 address its /64, which is what one household or host has.

    `local` for a Unix socket, `unknown` for what is no address: nothing else gets into the table.
    """
    if address in _UNIX:
        return LOCAL
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(found, IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> 64 << 64)}/64"
