"""Seeing it run: the program's own log as JSON lines, and metrics for Prometheus.

What a log line may show is decided in `ngsp/redaction.py`. Metrics are counted in plain dictionaries and lists and put
into Prometheus' form when they are read: a call spends about two microseconds on them. No label is ever a citizen, a
transaction or a text that a client sent.
"""

from __future__ import annotations

import logging
import platform
import sys
import threading
import warnings
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

import orjson
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ngsp import __version__
from ngsp.errors import ERRORS, NgspError
from ngsp.redaction import mask, note, shown, shown_event, shown_exception, shown_members, shown_text
from ngsp.seldom import SeldomFilter

current_transaction: ContextVar[str] = ContextVar("current_transaction", default="")
"""Set by whoever works on a transaction: each line logged meanwhile names it."""

LIBRARY_LEVELS: Final = {
    "aiokafka": logging.WARNING,
    "alembic": logging.WARNING,
    "asyncio": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "sqlalchemy": logging.WARNING,
    "uvicorn": logging.INFO,
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.INFO,
}
"""The least level of libraries that say more than is needed; at DEBUG some would write down what they carry."""
PLAIN_LIBRARIES: Final = ("aiokafka", "alembic", "uvicorn")
"""Of these, texts given as arguments are names of topics, nodes, revisions and hosts: shown where they are plain."""
LOOP_MESSAGES: Final = (
    "Task exception was never retrieved",
    "Future exception was never retrieved",
    "Task was destroyed but it is pending!",
    "Unhandled exception in event loop",
)
"""asyncio writes values of ours below these lines; of such a text only the first line is kept."""
_LINE_MEMBERS: Final = frozenset(("timestamp", "level", "logger", "event", "exception"))
_RECORD_MEMBERS: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def configure_logging(level: str) -> None:
    """One JSON object a line on stderr for everything that is logged, by structlog or by the standard library.

    `level`: DEBUG, INFO, WARNING or ERROR; what is below it costs one empty call. Exceptions that nobody caught and
    warnings go the same way. May be called again, with another level for loggers that were not used yet.
    """
    structlog.configure(
        processors=[_structlog_line],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Named,
        cache_logger_on_first_use=False,  # what is configured last holds for every logger
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.handlers[0].addFilter(SeldomFilter())
    root.setLevel(level)
    for name, least in LIBRARY_LEVELS.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(least, root.level))
    sys.excepthook = _on_uncaught  # whatever was there: some show the values of local variables
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _on_uncaught_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _on_unraisable
    warnings.showwarning = _on_warning


class _Named:
    """What structlog calls at the end of its chain: knows the logger's name and writes the line."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __getattr__(self, method: str) -> Callable[[bytes], None]:
        return _write


def _write(line: bytes) -> None:
    stream = sys.stderr
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(line.decode() + "\n")
    else:
        binary.write(line + b"\n")  # one write, so that lines of several threads stay whole
    stream.flush()


def _line(level: str, logger: str, event: str, members: Mapping[str, Any], error: BaseException | None = None) -> bytes:
    """The line itself. `members` are redacted here; `event` and `logger` have been."""
    line: dict[str, Any] = {
        "timestamp": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "level": level,
        "logger": logger,
        "event": event,
    }
    transaction = current_transaction.get()
    if transaction:
        line["transaction"] = shown_text(transaction)
    line.update((name, value) for name, value in shown_members(members).items() if name not in _LINE_MEMBERS)
    if error is not None:
        line["exception"] = shown_exception(error)
    return orjson.dumps(line)


def _structlog_line(logger: _Named, method: str, event_dict: MutableMapping[str, Any]) -> bytes:
    """The one processor. Never raises: a line that cannot be made says so instead."""
    try:
        event, place = shown_event(event_dict.pop("event", ""), sys._getframe(1))
        error = _exception_of(event_dict.pop("exc_info", None))
        event_dict.pop("stack_info", None)
        if place:
            event_dict["place"] = place
        level = "error" if method == "exception" else method
        return _line(level, logger.name, event, event_dict, error)
    except Exception as failure:  # noqa: BLE001 - logging must not end what it reports on
        return _unloggable(failure)


def _unloggable(failure: Exception) -> bytes:
    return _line("error", __name__, "a line of the log could not be made", {}, failure)


def _exception_of(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if len(exc_info) > 1 and isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if exc_info else None


class _Bridge(logging.Handler):
    """Brings what the standard library's loggers get into the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event, place = shown_event(record.msg, sys._getframe(1))
            if place and isinstance(record.msg, str):
                event = next((text for text in LOOP_MESSAGES if record.msg.startswith(text)), event)
            if record.args and not place:
                event = _filled(event, record)
            members = {name: value for name, value in vars(record).items() if name not in _RECORD_MEMBERS}
            if place:
                members["place"] = place
            line = _line(
                record.levelname.lower(), shown_text(record.name), event, members, _exception_of(record.exc_info)
            )
        except Exception as failure:  # noqa: BLE001 - logging must not end what it reports on
            line = _unloggable(failure)
        _write(line)


def _filled(literal: str, record: logging.LogRecord) -> str:
    """The literal with what may be said of its arguments; where they do not fit so, the literal alone."""
    show = _argument if record.name.startswith(PLAIN_LIBRARIES) else _number
    try:
        if isinstance(record.args, Mapping):
            return mask(literal % {name: show(value) for name, value in record.args.items()})
        return mask(literal % tuple(show(value) for value in record.args or ()))
    except (TypeError, ValueError, KeyError):
        return literal


def _number(value: object) -> object:
    return note(value) if isinstance(value, str) else _argument(value)


def _argument(value: object) -> object:
    found = shown(value)
    return found if isinstance(found, (str, int, float)) else note(value)


_self = _Named(__name__)


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        _write(_line("critical", _self.name, "an exception ended the program", {}, error))


def _on_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_type is not SystemExit:
        _write(_line("critical", _self.name, "an exception ended a thread", {}, arguments.exc_value))


def _on_unraisable(arguments: sys.UnraisableHookArgs) -> None:
    _write(_line("error", _self.name, "an exception could not be raised", {}, arguments.exc_value))


def _on_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    place = f"{'/'.join(filename.split('/')[-3:])}:{lineno}"
    _write(_line("warning", _self.name, "a warning was given", {"type": category.__name__, "place": place}))


STAGES: Final = ("admit", "log_accept", "bus", "reply", "log_outcome", "total")
"""Of a call, in order. `total` is the sum of the others."""
BOUNDS_US: Final = (
    *(100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000),
    *(75_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000, 30_000_000),
)
OUTCOMES: Final = frozenset(("accepted", "succeeded", "refused", "failed", "expired", "unknown"))
GAUGES: Final[dict[str, tuple[str, str]]] = {
    "ngsp_in_flight": ("Exchanges in flight on this gateway.", ""),
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
