"""The program's own log, as JSON lines. What a line may show is decided in `ngsp/redaction.py`."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

import orjson
import structlog

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
