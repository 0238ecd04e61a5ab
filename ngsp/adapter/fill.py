"""How much an inbox holds, and how much it may."""

from __future__ import annotations

from dataclasses import dataclass

COUNT_EVERY_S = 600.0
FULL = "inbox-full"
"""Code of a reply `retry` to a message that was not begun because its reply could not be kept."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """`rows`: messages that an inbox remembers. `reply_bytes`: of their replies, sealed."""

    rows: int = 1_000_000
    reply_bytes: int = 2 << 30


DEFAULT_BOUNDS = Bounds()


class Fill:
    """What is in an inbox, as far as this process knows: counted now and then, and added to in between.

    What is in work comes on top, and what other processes have put into the same table since the last count.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._rows = self._reply_bytes = 0
        self._count_at = 0.0

    @property
    def is_full(self) -> bool:
        return self._rows >= self._bounds.rows or self._reply_bytes >= self._bounds.reply_bytes

    def added(self, reply_bytes: int) -> None:
        self._rows += 1
        self._reply_bytes += reply_bytes

    def counted(self, rows: int, reply_bytes: int, now: float) -> None:
        self._rows, self._reply_bytes = rows, reply_bytes
        self._count_at = now + COUNT_EVERY_S

    def is_to_be_counted(self, now: float) -> bool:
        """From time to time; each time that somebody asks where more than half of a bound is taken."""
        half = self._rows * 2 >= self._bounds.rows or self._reply_bytes * 2 >= self._bounds.reply_bytes
        return half or now >= self._count_at
