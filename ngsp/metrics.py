"""Metrics for Prometheus.

They are counted in plain dictionaries and lists and put into Prometheus' form when they are read: a call spends about
two microseconds on them. No label is ever a citizen, a transaction or a text that a client sent.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ngsp import __version__
from ngsp.errors import ERRORS, NgspError

STAGES: Final = ("admit", "log_accept", "bus", "reply", "log_outcome", "total")
"""Of a call, in order. `total` is the sum of the others."""
BOUNDS_US: Final = (
    *(100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000),
    *(75_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000),
)
OUTCOMES: Final = frozenset(("accepted", "succeeded", "refused", "failed", "expired", "unknown"))
GAUGES: Final[dict[str, tuple[str, str]]] = {
    "ngsp_in_flight": ("Exchanges in flight on this gateway.", ""),
    "ngsp_room": ("Exchanges that may be in flight now: fewer than the settings allow while the loop is late.", ""),
    "ngsp_log_queue": ("Writes that wait for the log writer.", ""),
    "ngsp_log_batch_size": ("Writes in the last committed batch.", ""),
    "ngsp_log_oldest_seconds": ("How long the oldest uncommitted write has waited.", ""),
    "ngsp_log_broken": ("1 while the log cannot be written.", ""),
    "ngsp_consumer_lag": ("Messages of a topic that its group has not finished yet.", "topic"),
    "ngsp_outbox_open": ("Submissions without an outcome, on all gateways.", ""),
    "ngsp_outbox_oldest_seconds": ("Age of the oldest submission without an outcome.", ""),
    "ngsp_projection_lag_seconds": ("How far the searchable transactions are behind the log.", ""),
    "ngsp_deliveries_open": ("Deliveries of events without an outcome.", ""),
    "ngsp_events_behind_seconds": ("Age of the oldest event that some subscription was not given yet.", ""),
    "ngsp_subscriptions_failing": ("Subscriptions whose last delivery was not taken.", ""),
    "ngsp_subscriptions_stopped": ("Subscriptions to which nothing is sent until their owner says so.", ""),
    "ngsp_quarantine_held": ("Messages in quarantine that an operator has not decided on.", ""),
    "ngsp_registry_age_seconds": ("Since the database last confirmed the registry's snapshot.", ""),
    "ngsp_bus_up": ("1 while messages can travel.", ""),
}
"""Every gauge there may be: what it says, and the name of its label where it has one."""
MOST_LABELS: Final = 2_000

Reading = float | Mapping[str, float]
"""A gauge's value; for one with a label, by the label's values, which come from the registry."""

log = structlog.get_logger(__name__)


class Metrics(Collector):
    """The figures of one gateway. `is_service(path)`: whether the registry knows a service, asked once for each label.

    For one event loop: nothing here is locked.
    """

    def __init__(self, is_service: Callable[[str], bool] = lambda path: True) -> None:
        self._is_service = is_service
        self._exchanges: dict[tuple[str, str, str], int] = {}
        self._stages: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BOUNDS_US) + 2))
        self._refusals: Counter[str] = Counter()
        self._gauges: dict[str, Callable[[], Reading]] = {}
        self._slow_gauges: dict[str, Callable[[], Awaitable[Reading]]] = {}
        self._read: dict[str, Reading] = {}
        self._failing: set[str] = set()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exchange(self, service: str, outcome: str, code: str, stages_us: Mapping[str, int]) -> None:
        """Count an exchange that got as far as its acceptance. `stages_us`: microseconds of each stage it passed."""
        self.ended(service, outcome, code)
        total_us = 0
        for stage, spent_us in stages_us.items():
            cells = self._stages[stage]
            cells[bisect_left(BOUNDS_US, spent_us)] += 1
            cells[-1] += spent_us
            total_us += spent_us
        cells = self._stages["total"]
        cells[bisect_left(BOUNDS_US, total_us)] += 1
        cells[-1] += total_us

    def ended(self, service: str, outcome: str, code: str) -> None:
        """Count how a submission ended, which was counted as accepted before; its time is in the log."""
        try:
            self._exchanges[service, outcome, code] += 1
        except KeyError:
            self._count_first(service, outcome, code)

    def refused(self, code: str) -> None:
        """Count a refusal made before acceptance."""
        self._refusals[code if code in ERRORS else "other"] += 1

    def gauge(self, name: str, read: Callable[[], Reading]) -> None:
        """`read` is asked at each reading of the metrics. ValueError for a name that GAUGES does not have."""
        self._declare(name)
        self._gauges[name] = read

    def slow_gauge(self, name: str, read: Callable[[], Awaitable[Reading]]) -> None:
        """The same where `read` has to wait, for the database or the broker: asked by `refresh`."""
        self._declare(name)
        self._slow_gauges[name] = read

    def _declare(self, name: str) -> None:
        if name not in GAUGES or name in self._gauges or name in self._slow_gauges:
            raise ValueError(f"no gauge {name}, or a second one")

    async def refresh(self) -> int:
        """The job that asks the slow gauges, to be done every few seconds. Always 0."""
        for name, read in self._slow_gauges.items():
            try:
                self._read[name] = await read()
            except Exception as error:  # noqa: BLE001 - one gauge must not end the others; it is logged
                self._read.pop(name, None)  # an old value would say that all is as it was
                self._tell(name, error)
            else:
                self._failing.discard(name)
        return 0

    def _tell(self, name: str, error: Exception) -> None:
        if name not in self._failing:
            log.warning("a gauge cannot be read", what=name, error=type(error).__name__, exc_info=error)
        self._failing.add(name)

    def render(self) -> bytes:
        """All figures in Prometheus' text form, version 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        exchanges = CounterMetricFamily(
            "ngsp_exchanges", "Exchanges by how they ended.", labels=("service", "outcome", "code")
        )
        for labels, count in self._exchanges.items():
            exchanges.add_metric(labels, count)
        yield exchanges
        yield self._histogram()
        refusals = CounterMetricFamily("ngsp_refusals", "Calls refused before acceptance.", labels=("code",))
        for code, count in self._refusals.items():
            refusals.add_metric((code,), count)
        yield refusals
        for name, reading in self._readings():
            yield _gauge(name, reading)
        build = GaugeMetricFamily("ngsp_build_info", "What runs here; always 1.", labels=("version", "python"))
        build.add_metric((__version__, platform.python_version()), 1)
        yield build

    def _histogram(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily("ngsp_exchange_seconds", "Time of exchanges by stage.", labels=("stage",))
        for stage in dict.fromkeys((*STAGES, *self._stages)):
            *counts, sum_us = self._stages[stage]
            buckets: list[tuple[str, float]] = []
            below = 0
            for bound_us, count in zip(BOUNDS_US, counts, strict=False):
                below += count
                buckets.append((repr(bound_us / 1e6), below))
            buckets.append(("+Inf", below + counts[-1]))
            family.add_metric((stage,), buckets, sum_us / 1e6)
        return family

    def _readings(self) -> Iterator[tuple[str, Reading]]:
        yield from self._read.items()
        for name, read in self._gauges.items():
            try:
                reading = read()
            except Exception as error:  # noqa: BLE001 - one gauge must not hide the others; it is logged
                self._tell(name, error)
            else:
                self._failing.discard(name)
                yield name, reading

    def _count_first(self, service: str, outcome: str, code: str) -> None:
        """A label not met before: only what the registry and the error tree know becomes one."""
        known = (
            service if self._knows(service) else "other",
            outcome if outcome in OUTCOMES else "other",
            code if not code or code in ERRORS else "other",
        )
        self._exchanges[known] = self._exchanges.get(known, 0) + 1

    def _knows(self, service: str) -> bool:
        try:
            return self._is_service(service)
        except NgspError:  # the registry is stale: asked again at the next call, which must not fail for a figure
            return False


def _gauge(name: str, reading: Reading) -> GaugeMetricFamily:
    documentation, label = GAUGES[name]
    family = GaugeMetricFamily(name, documentation, labels=(label,) if label else ())
    if isinstance(reading, Mapping):
        for value, figure in list(reading.items())[:MOST_LABELS]:
            family.add_metric((value,), figure)
    else:
        family.add_metric((), reading)
    return family
