"""Admission: who may enter when there is more work than the gateway can carry. Decided before anything is parsed.

Room is a number of exchanges in flight and the age of the log writer's queue. Replies need no admission: what is in
flight always gets to its end. A client that holds more than its share is refused (429) while others are about, and
even alone it never gets the last of the room, so that one client's flood does not become everybody's 503.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ngsp.errors import Draining, LogUnavailable, NgspError, Overloaded, TooManyRequests


@dataclass(frozen=True, eq=False, slots=True)
class Shut:
    """Why a call may not enter now. There are five, each the same object whenever it is given."""

    error: type[NgspError]
    retry_after_s: int
    reason: str

    def refusal(self) -> NgspError:
        return self.error(retry_after_s=self.retry_after_s, reason=self.reason)


DRAINING = Shut(Draining, 1, "")
LOG_BROKEN = Shut(LogUnavailable, 2, "the log is broken")
OVER_SHARE = Shut(TooManyRequests, 1, "over the client's share")
FULL = Shut(Overloaded, 1, "too many in flight")
LOG_BEHIND = Shut(Overloaded, 1, "the log writer is behind")


class Gate:
    """Counts exchanges in flight, in all and by client (by address where the client is not known yet)."""

    def __init__(
        self,
        *,
        most: int,
        client_share: float,
        most_log_wait_s: float,
        log_age_s: Callable[[], float],
        log_trouble: Callable[[], str],
        most_body_bytes: int,
    ) -> None:
        self._most, self._most_log_wait_s = most, most_log_wait_s
        self._most_for_one = max(1, int(most * client_share))
        self._most_alone = max(self._most_for_one, most - max(1, most // 10))
        self._log_age_s, self._log_trouble = log_age_s, log_trouble
        self._most_body_bytes = most_body_bytes
        self._held: dict[str, int] = {}
        self._body_bytes = 0
        self.in_flight = 0
        self.draining = False

    def refusal(self, who: str) -> NgspError | None:
        """Why a call of `who` may not enter now; None where it may."""
        shut = self.shut(who)
        return shut.refusal() if shut is not None else None

    def shut(self, who: str) -> Shut | None:
        """The same at the cost of a few comparisons."""
        if self.draining:
            return DRAINING
        if self._log_trouble():
            return LOG_BROKEN
        held = self._held.get(who, 0)
        # Alone, a client may have nearly the whole room; with others about, no more than its share of it.
        if held >= self._most_for_one and (held < self.in_flight or held >= self._most_alone):
            return OVER_SHARE
        if self.in_flight >= self._most:
            return FULL
        return LOG_BEHIND if self._log_age_s() > self._most_log_wait_s else None

    def enter(self, who: str) -> None:
        self.in_flight += 1
        self._held[who] = self._held.get(who, 0) + 1

    def leave(self, who: str) -> None:
        self.in_flight -= 1
        left = self._held[who] - 1
        if left:
            self._held[who] = left
        else:
            del self._held[who]

    def reserve_body(self, size: int) -> bool:
        """Room for `size` bytes of bodies being read; False where all bodies together would be too much."""
        if self._body_bytes + size > self._most_body_bytes:
            return False
        self._body_bytes += size
        return True

    def release_body(self, size: int) -> None:
        self._body_bytes -= size
