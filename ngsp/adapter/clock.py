"""The time of this machine, and what is known of how far it is off.

Deadlines travel as absolute times and are held against this clock. Where it is ahead, what has time yet is answered as
expired, or with *retry* once that is known; where it is behind, work is begun whose caller has gone. Neither loses or
doubles anything, and neither goes unseen: the gateway tells its own time with each answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime

MOST_OFF_S = 60.0
OFF = "clock-off"


class Clock:
    """Called, it gives the time, Unix seconds. `now`: where it has it from."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self.off_s = 0.0
        """How far it is ahead of the gateway's at least, negative where it is behind; 0 while nothing says so."""

    def __call__(self) -> float:
        return self._now()

    @property
    def is_off(self) -> bool:
        return abs(self.off_s) > MOST_OFF_S

    def compare(self, date: str | None, asked_at: float, answered_at: float) -> None:
        """Holds it against the `Date` of an answer that was asked for and came at these times of this clock.

        That header has whole seconds, and was written somewhen in between: all of this is allowed for.
        """
        try:
            told_s = parsedate_to_datetime(date or "").timestamp()
        except (TypeError, ValueError):
            return
        ahead_s, behind_s = asked_at - (told_s + 1), told_s - answered_at
        self.off_s = ahead_s if ahead_s > 0 else -behind_s if behind_s > 0 else 0.0
