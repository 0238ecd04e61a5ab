"""How deliveries to each subscription went last: noted in memory, written together every moment, never each alone."""

from __future__ import annotations

from datetime import datetime

import asyncpg

from ngsp.transactions import entry

_FLUSH = """
UPDATE subscription_progress p SET delivered_at = greatest(p.delivered_at, n.delivered_at),
    failing_since = CASE WHEN n.failing THEN coalesce(p.failing_since, n.at) END
FROM unnest($1::text[], $2::timestamptz[], $3::boolean[], $4::timestamptz[])
    AS n (subscription, delivered_at, failing, at)
WHERE p.subscription = n.subscription"""


class Progress:
    """The notes of one gateway."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._notes: dict[str, tuple[datetime | None, bool, datetime]] = {}

    def note(self, subscription: str, *, well: bool) -> None:
        """That a delivery was taken, or not."""
        at = entry.now()
        delivered_at, _, _ = self._notes.get(subscription, (None, False, at))
        self._notes[subscription] = (at if well else delivered_at, not well, at)

    async def flush(self) -> int:
        """Writes what was noted; returns for how many subscriptions. Kept for the next time where that fails."""
        if not self._notes:
            return 0
        notes, self._notes = self._notes, {}
        try:
            await self._pool.execute(_FLUSH, list(notes), *map(list, zip(*notes.values(), strict=True)))
        except BaseException:
            self._notes = notes | self._notes
            raise
        return len(notes)
