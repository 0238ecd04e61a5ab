"""When a request is repeated, and after how long: only where it is surely harmless."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from ngsp.client.errors import (
    CallError,
    ConnectionLost,
    InMaintenance,
    KeyInFlight,
    LimitReached,
    NoAnswer,
    NotUnderstood,
    Problem,
    ProviderUnavailable,
    RequestTimeout,
    Unavailable,
    Unreachable,
)

Kind = Literal["read", "keyed", "plain"]
"""`read`: changes nothing, or nothing more when done again. `keyed`: a call under an idempotency key, which is never
done twice. `plain`: a call without one, which may be repeated after a lost answer only where its service is
idempotent."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How patiently. `most`: repeats at most. Pauses double from `first_s` to `longest_s`, half of each is random.

    What the bus says in `Retry-After` comes before that. A pause that would outlast the deadline is not begun.
    """

    most: int = 4
    first_s: float = 0.2
    longest_s: float = 5.0

    def pause_s(self, error: CallError, repeats: int) -> float | None:
        """The pause before repeat number `repeats` + 1; None where enough is enough."""
        if isinstance(error, KeyInFlight) and self.most:
            # Another attempt of one's own: its end comes when it comes, and only the deadline bounds the wait.
            return (error.retry_after_s or 1.0) * random.uniform(1.0, 1.1)
        if repeats >= self.most:
            return None
        doubled_s = float(min(self.longest_s, self.first_s * 2 ** min(repeats, 20)))
        pause_s = doubled_s * random.uniform(0.5, 1.0)
        if error.retry_after_s is None:
            return pause_s
        return max(pause_s, error.retry_after_s + random.uniform(0.0, min(1.0, error.retry_after_s / 10)))


NEVER = Retry(most=0)
"""Nothing is ever repeated."""


def harmless(error: CallError, kind: Kind) -> bool | None:
    """Whether a repeat is harmless and may help; None where that hangs on whether the service is idempotent.

    Never after `safe_to_repeat: false`; never under the same key where the error is the outcome that the key holds.
    """
    if isinstance(error, Problem):
        return _after_a_problem(error, kind)
    if isinstance(error, Unreachable):
        return True
    if isinstance(error, ConnectionLost) or (isinstance(error, NotUnderstood) and error.status >= 500):
        return None if kind == "plain" else True
    return False


def _after_a_problem(error: Problem, kind: Kind) -> bool | None:
    if kind == "keyed" and isinstance(error, Unavailable):
        return True  # whatever became of it, under the same key it is answered and not done again
    if error.safe_to_repeat is False:
        return False
    if isinstance(error, LimitReached | Unavailable | RequestTimeout | KeyInFlight):
        return None if error.outcome_unknown and kind == "plain" else True
    if isinstance(error, InMaintenance):
        return True  # it was refused before it was accepted
    if isinstance(error, ProviderUnavailable):
        return kind != "keyed"
    if isinstance(error, NoAnswer):
        return kind != "keyed" and error.safe_to_repeat is True
    return False
