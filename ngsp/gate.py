"""Admission: who may enter when there is more work than the gateway can carry. Decided before anything is parsed.

Room is a number of exchanges in flight and the age of the log writer's queue. Replies need no admission: what is in
flight always gets to its end. A client that holds more than its share is refused (429) while others are about, and
even alone it never gets the last of the room, so that one client's flood does not become everybody's 503.

The room is as wide as the settings say until somebody is refused. From then on it is narrowed while the event loop is
late: with more in flight the loop answers no more, each only waits longer, the refused too. A room that is full of
calls which wait for a slow provider stays wide, for they do not make the loop late. Whoever holds less than the others
is not refused for the narrowness.
"""

from __future__ import annotations

import asyncio
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

LOOK_S = 0.01
"""Between two looks at the loop's lateness, while calls are refused."""
QUIET_LOOKS = 10
"""So many without a refusal, and the room is wide again."""
TRIAL_LOOKS, TRIAL_EVERY = QUIET_LOOKS + 3, 2_000
"""How long, and every how many looks, the room is wide for a trial. Callers who come back at once, whatever they are
told, keep the loop late by being refused: a narrow room would stay narrow though all of them would find a place."""
LATE_S = 0.002
"""How late a timer may be on the average, which is half a turn of the loop; a refusal waits for one or two turns."""
WEIGHT = 0.05
"""Of the newest look in the average: a fifth of a second decides."""
NARROWER, WIDER = 0.98, 1.01
LEAST_ROOM = 64
"""With fewer in flight a commit carries too little."""


class Gate:
    """Counts exchanges in flight, in all and by client (by address where the client is not known yet).

    `refusing`: somebody was refused in the last tenth of a second.
    """

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
        self._most, self._client_share, self._most_log_wait_s = most, client_share, most_log_wait_s
        self._log_age_s, self._log_trouble = log_age_s, log_trouble
        self._most_body_bytes = most_body_bytes
        self._held: dict[str, int] = {}
        self._body_bytes = 0
        self.refusing = False
        self._refused = False
        self._quiet, self._looks = 0, 0
        self._late_s = 0.0
        self.in_flight = 0
        self.draining = False
        self._narrow: float = most  # the room before a trial
        self._set_room(most)

    @property
    def room(self) -> int:
        """Exchanges that may be in flight now."""
        return int(self._room)

    def refusal(self, who: str) -> NgspError | None:
        """Why a call of `who` may not enter now; None where it may."""
        shut = self.shut(who)
        return shut.refusal() if shut is not None else None

    def shut(self, who: str) -> Shut | None:
        """The same at the cost of a few comparisons. To be asked in the event loop."""
        shut = self._shut(who)
        if shut is not None:
            self._refused = True
            if not self.refusing:
                self.refusing, self._looks = True, TRIAL_LOOKS
                self._look_later(asyncio.get_running_loop())
        return shut

    def _shut(self, who: str) -> Shut | None:
        if self.draining:
            return DRAINING
        if self._log_trouble():
            return LOG_BROKEN
        held = self._held.get(who, 0)
        # Alone, a client may have nearly the whole room; with others about, no more than its share of it.
        if held >= self._most_for_one and (held < self.in_flight or held >= self._most_alone):
            return OVER_SHARE
        # Narrowed, the room is for those who fill it: who holds less than the others may have what the settings allow.
        if self.in_flight >= self._room and (self.in_flight >= self._most or held >= self._room // len(self._held)):
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

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(LOOK_S, self._look, loop, loop.time() + LOOK_S)

    def _look(self, loop: asyncio.AbstractEventLoop, due_s: float) -> None:
        self._quiet = 0 if self._refused else self._quiet + 1
        self._refused = False
        if self._quiet >= QUIET_LOOKS:
            self.refusing, self._late_s = False, 0.0
            self._set_room(self._most)
            return
        self._looks += 1
        trial = self._looks % TRIAL_EVERY
        if trial == 0:
            self._narrow = self._room
            self._set_room(self._most)
        elif trial == TRIAL_LOOKS:
            self._set_room(self._narrow)
        elif trial > TRIAL_LOOKS:
            self.pace(loop.time() - due_s)
        self._look_later(loop)

    def pace(self, late_s: float) -> None:
        """Narrow or widen the room by how late the loop came to a timer."""
        self._late_s += (late_s - self._late_s) * WEIGHT
        if self._late_s > LATE_S:
            least = min(LEAST_ROOM, self._most)
            self._set_room(max(least, min(self._room, self.in_flight) * NARROWER))
        elif self._late_s < LATE_S * 0.7:
            self._set_room(min(self._most, self._room * WIDER))

    def _set_room(self, room: float) -> None:
        self._room = room
        self._most_for_one = max(1, int(room * self._client_share))
        self._most_alone = max(self._most_for_one, int(room - max(1, room // 10)))

    def reserve_body(self, size: int) -> bool:
        """Room for `size` bytes of bodies being read; False where all bodies together would be too much."""
        if self._body_bytes + size > self._most_body_bytes:
            return False
        self._body_bytes += size
        return True

    def release_body(self, size: int) -> None:
        self._body_bytes -= size
