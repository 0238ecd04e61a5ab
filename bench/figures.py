"""What a load run found, and the arithmetic of percentiles and medians."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

Mode = Literal["closed", "open"]


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile of values in ascending order: the least value with `percent` % at or below it.

    No value, or a percentage outside 0 to 100: ValueError.
    """
    if not 0 <= percent <= 100:
        raise ValueError("a percentile lies between 0 and 100")
    if not ordered:
        raise ValueError("no value, no percentile")
    rank = math.ceil(len(ordered) * percent / 100)
    return ordered[max(rank, 1) - 1]


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle. No value: ValueError."""
    if not values:
        raise ValueError("no value, no median")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the start of a request (open loop: its scheduled start) to the last byte of its answer."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of_seconds(cls, latencies_s: Sequence[float]) -> Latency | None:
        """None of none: a run in which nothing was answered has no latency, and must not look like a fast one."""
        if not latencies_s:
            return None
        ordered = sorted(latencies_s)
        return cls(*(round(percentile(ordered, percent) * 1000, 3) for percent in (50, 95, 99, 100)))


@dataclass(frozen=True, slots=True)
class Errors:
    """Everything that was not a 2xx answer, over the whole run, the warm-up included.

    `refused` counts answers by status; `broken` connections that ended, or spoke no HTTP we understand, with a request
    outstanding, or could not be made again; `unanswered` requests still outstanding when the grace after the end was
    over. `example` is the first refusal or breakage, as text.
    """

    refused: dict[str, int]
    broken: int
    unanswered: int
    example: str | None

    @property
    def total(self) -> int:
        return sum(self.refused.values()) + self.broken + self.unanswered


@dataclass(frozen=True, slots=True)
class Schedule:
    """How an open loop kept its own schedule, over the measured window.

    `scheduled` requests fell due; `behind_max` is the most that were due and not yet sent at one moment (warm-up
    included), `behind_at_end` those never sent because the window ended; `send_lag_p99_ms` how late the sending was,
    None where nothing was sent. `kept_up` is false where more than 1 % of the schedule was never sent: the rate was
    then not held, and the latencies speak of overload.
    """

    scheduled: int
    behind_max: int
    behind_at_end: int
    send_lag_p99_ms: float | None
    kept_up: bool


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One run. `answered` and `latency` count 2xx answers of the measured window alone.

    Closed loop: answers that arrived in the window, and `throughput_per_s` is their rate. Open loop: answers to the
    requests scheduled in the window, whenever they came, and `throughput_per_s` is those that came within it.
    `cpu_s` is the generator's own processor time, and `answered_in_all` the 2xx answers, of the whole run.
    `served_latency` and `refusal_latency` are of all 2xx answers that arrived in the window, and of all others, from
    the sending of the request: what the server alone is answerable for. `goodput_per_s`: how many of the former came,
    whenever they had been due; beyond what the server can carry, an open loop sends ever older ones.
    """

    mode: Mode
    connections: int
    rate_per_s: float | None
    window_s: float
    answered: int
    answered_in_all: int
    throughput_per_s: float
    latency: Latency | None
    errors: Errors
    schedule: Schedule | None
    cpu_s: float
    served_latency: Latency | None = None
    refusal_latency: Latency | None = None
    goodput_per_s: float = 0.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LoadResult:
        fields: dict[str, Any] = json.loads(text)
        for name in ("latency", "served_latency", "refusal_latency"):
            fields[name] = Latency(**fields[name]) if fields.get(name) else None
        fields["errors"] = Errors(**fields["errors"])
        fields["schedule"] = Schedule(**fields["schedule"]) if fields["schedule"] else None
        return cls(**fields)
