"""What happens again and again is said at once, then only now and then, with how often it was held back meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 10.0
MOST_KINDS: Final = 500
LIBRARIES: Final = ("aiokafka",)
"""These say the same several times a second while a broker is away."""


class Seldom:
    """One voice. `every_s`: the least time between two times that the same thing is said."""

    def __init__(self, every_s: float = EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock = every_s, clock
        self._said: dict[str, tuple[float, int]] = {}  # what → when it was last said, how often held back since

    def held_back(self, what: str) -> int | None:
        """None where `what` is not to be said now; else how often it was not said since the last time."""
        now = self._clock()
        said_at, held = self._said.get(what, (float("-inf"), 0))
        if now - said_at < self._every_s:
            self._said[what] = (said_at, held + 1)
            return None
        if len(self._said) >= MOST_KINDS:
            self._said.clear()
        self._said[what] = (now, 0)
        return held


class SeldomFilter(logging.Filter):
    """For a handler: of what `LIBRARIES` say, the same literal is let through seldom, with `held_back` on it."""

    def __init__(self, every_s: float = EVERY_S) -> None:
        super().__init__()
        self._seldom = Seldom(every_s)

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(LIBRARIES):
            return True
        held = self._seldom.held_back(f"{record.name} {record.msg}")
        if held:
            record.held_back = held
        return held is not None
