"""A circuit breaker: after several failures in a row a provider's system is left alone for a while.

    closed ── `threshold` failures in a row ──▶ open ── `open_s` ± jitter ──▶ half-open
       ▲                                         ▲                             │ one probe at a time
       └────────────── success ──────────────────┼─────────────────────────────┤
                                                 └────────── failure ──────────┘

Pure: no input or output, no task; clock and randomness are passed in. For one event loop, not for threads.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal

BreakerState = Literal["closed", "open", "half-open"]


class BreakerOpen(Exception):
    """The system is being left alone; ask again in `retry_after_s` seconds."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("breaker open")
        self.retry_after_s = retry_after_s


class Breaker:
    """`threshold`: failures in a row that open it. `open_s`: how long it stays open, spread by ± `jitter` (a part of
    1) so that many processes do not come back at once. `changed` hears of every change of state.
    """

    def __init__(
        self,
        *,
        threshold: int = 5,
        open_s: float = 5.0,
        jitter: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
        changed: Callable[[BreakerState], None] | None = None,
    ) -> None:
        if threshold < 1 or open_s <= 0 or not 0 <= jitter < 1:
            raise ValueError("threshold at least 1, open_s above 0, jitter from 0 up to 1")
        self._threshold, self._open_s, self._jitter = threshold, open_s, jitter
        self._clock, self._uniform = clock, uniform
        self._listeners = [changed] if changed else []
        self._state: BreakerState = "closed"
        self._open_until = 0.0
        self._probing = False
        self._generation = 0
        self.failures = 0
        """Failures in a row so far."""
        self.opened = 0
        """How often it opened since it was made."""

    def listen(self, changed: Callable[[BreakerState], None]) -> None:
        """`changed` hears of every change of state too."""
        self._listeners.append(changed)

    @property
    def state(self) -> BreakerState:
        return "half-open" if self._state == "open" and self._clock() >= self._open_until else self._state

    def admit(self) -> Permit:
        """Leave for one call, to be used as a context manager; BreakerOpen where there is none now."""
        if self._state == "open" and self._clock() >= self._open_until:
            self._become("half-open")
        if self._state == "open":
            raise BreakerOpen(self._open_until - self._clock())
        if self._state == "half-open":
            if self._probing:
                raise BreakerOpen(self._open_s * (1 - self._jitter))
            self._probing = True
        return Permit(self, self._generation)

    def _settle(self, generation: int, succeeded: bool | None) -> None:
        if generation != self._generation:
            return  # begun before the last change: it tells nothing of how the system is now
        self._probing = False
        if succeeded is None:
            return
        self.failures = 0 if succeeded else self.failures + 1
        if succeeded and self._state == "half-open":
            self._become("closed")
        elif not succeeded and (self._state == "half-open" or self.failures >= self._threshold):
            self._open_until = self._clock() + self._open_s * (1 + self._uniform(-self._jitter, self._jitter))
            self.opened += 1
            self._become("open")

    def _become(self, state: BreakerState) -> None:
        self._state = state
        self._generation += 1
        self._probing = False
        for listener in self._listeners:
            listener(state)


class Permit:
    """One admitted call. Say `succeeded` or `failed`; left without either (cancelled, a fault of ours) it counts as
    neither, and a probe's place is free again."""

    __slots__ = ("_breaker", "_generation", "_settled")

    def __init__(self, breaker: Breaker, generation: int) -> None:
        self._breaker, self._generation, self._settled = breaker, generation, False

    def succeeded(self) -> None:
        """The system answered, be it with a no."""
        self._end(True)

    def failed(self) -> None:
        """The system did not answer, or with an error of its own."""
        self._end(False)

    def _end(self, succeeded: bool | None) -> None:
        if not self._settled:
            self._settled = True
            self._breaker._settle(self._generation, succeeded)

    def __enter__(self) -> Permit:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(None)
