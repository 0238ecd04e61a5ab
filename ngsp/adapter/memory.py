"""Replies that may be given again: to the same request, as long as the provider's system said that they hold."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MOST_BYTES = 32 << 20
LONGEST_S = 86_400.0


class Memory:
    """Of one service. The oldest go when there are too many bytes; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()
        self._bytes = 0

    def find(self, request: bytes) -> bytes | None:
        """The reply to `request`, byte for byte as it was first given; None where none holds."""
        found = self._kept.get(request)
        if found is None:
            return None
        if found[0] <= self._clock():
            self._forget(request)
            return None
        return found[1]

    def keep(self, request: bytes, reply: bytes, seconds: float) -> None:
        """For `seconds`, a day at most; not at all for none."""
        if request in self._kept:
            self._forget(request)
        if seconds > 0 and len(request) + len(reply) <= MOST_BYTES:
            self._kept[request] = (self._clock() + min(seconds, LONGEST_S), reply)
            self._bytes += len(request) + len(reply)
        while self._bytes > MOST_BYTES:
            self._forget(next(iter(self._kept)))

    def _forget(self, request: bytes) -> None:
        _, reply = self._kept.pop(request)
        self._bytes -= len(request) + len(reply)
