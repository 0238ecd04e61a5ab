"""What the program's own log may show. By construction: what is not known to be harmless is replaced by a note of it.

- An event's text is shown only where it is a literal of the source, so that nothing can be written into it.
- A value is shown only under a name of SHOWN, only where it is short, plain ASCII and no object of ours or others';
  all else becomes its type and length, e.g. `<str 12>`.
- In all that is shown, long runs of digits, tokens and passwords are masked.
- An exception is its type and the places it passed, never its text, never the values around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from enum import Enum
from types import CodeType, FrameType, TracebackType
from typing import Any, Final
from uuid import UUID

from ngsp.errors import NgspError

SHOWN: Final = frozenset(
    """
    adapter agreement agreement_version allowed attempt attempts batch breaker by bytes caused_by causes client code
    committed consumer count credential decision duration_ms duration_us effect entry epoch error frames gateway
    group handled held_back how id instance job kid kind limit member members method mode needed node others partition
    partitions parts pause_s place port provider purpose reason requests retry_after_s revision role route scope
    seconds service services signal size slot sqlstate stage state status subscription task timeout_s topic topics
    transaction type version what window writes
    """.split()  # noqa: SIM905 - seventy lines otherwise
)
"""Names whose values are codes, identifiers of the registry, counts and times: never of a citizen, never free text."""
HIDDEN: Final = frozenset(("why",))
"""Names that our source logs although their values are free text: kept elsewhere, here only their length is seen."""

LONGEST_TEXT: Final = 200
MOST_ITEMS: Final = 20
MOST_DEPTH: Final = 3
MOST_FRAMES: Final = 16
MOST_CAUSES: Final = 4
LARGEST_NUMBER: Final = 10**8
"""Nine digits and more may be an identity number, an old identity card's or a telephone's."""
MASK: Final = "[masked]"

_SENSITIVE: Final = re.compile(
    r"(?P<id>\b[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b"  # of a transaction, a problem
    r"|\b(?=[0-9]*[a-f])[0-9a-f]{32}\b)"  # of a trace
    r"|eyJ[\w-]{4,}(?:\.[\w-]*)*"  # a JWT or JWS
    r"|ngsp_[\w-]{32,}"  # a client's secret
    r"|(?i:(?:bearer|basic|dpop)\s+)[^\s\"',;]+"
    r"|(?i:(?:password|passwd|pwd|secret|token|assertion|authorization|api_?key)[\"']?\s*[=:]\s*)[\"']?[^\s\"',;&]+"
    r"|(?<=://)[^\s@]+@"  # user and password in an address
    r"|\d{9,}|\d{3}(?:[ -]\d{3}){2,4}"
)
_NAME: Final = re.compile(r"[a-z][a-z_]{0,39}")
_LOGGING: Final = frozenset(("logging", "structlog"))


def mask(text: str) -> str:
    """`text` without long runs of digits, tokens and passwords; ids of transactions and traces stay."""
    return _SENSITIVE.sub(lambda found: found.group() if found.group("id") else MASK, text)


def note(value: object) -> str:
    """What stands for a value that is not shown: its type and, where it has one, its length."""
    kind = type(value).__name__
    if isinstance(value, (str, bytes, bytearray, memoryview, list, tuple, dict, set, frozenset)):
        return f"<{kind} {len(value)}>"
    if isinstance(value, int):
        return f"<int of {len(str(abs(value))) if abs(value) < 10**40 else 'many'} digits>"
    return f"<{kind}>"


def shown_text(text: str) -> str:
    if len(text) > LONGEST_TEXT or not text.isascii():
        return note(text)
    return mask(text)


def shown(value: object, depth: int = 0) -> Any:
    """A JSON value that says of `value` what may be said where its name is one of SHOWN."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return shown_text(value.name)
    if isinstance(value, str):
        return shown_text(str(value))
    if isinstance(value, (int, float)):
        return value if -LARGEST_NUMBER < value < LARGEST_NUMBER else note(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID):
        return mask(str(value))
    if isinstance(value, BaseException):
        return type(value).__name__
    if isinstance(value, type):
        return value.__name__
    if depth < MOST_DEPTH and isinstance(value, Mapping):
        return shown_members(value, depth + 1)
    if depth < MOST_DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        items = [shown(item, depth + 1) for item in list(value)[:MOST_ITEMS]]
        return items if len(value) <= MOST_ITEMS else [*items, f"and {len(value) - MOST_ITEMS} more"]
    return note(value)


def shown_members(members: Mapping[Any, object], depth: int = 0) -> dict[str, Any]:
    """Each member by its name; those whose names could themselves be data are only counted, under `others`."""
    found: dict[str, Any] = {}
    others = 0
    for name, value in members.items():
        if name in SHOWN:
            found[name] = shown(value, depth)
        elif isinstance(name, str) and depth == 0 and _NAME.fullmatch(name):
            found[name] = note(value)
        else:
            others += 1
    if others:
        found["others"] = others
    return found


def shown_exception(error: BaseException, causes_left: int = MOST_CAUSES) -> dict[str, Any]:
    """Its type, where it passed (innermost last), the reason where it is an error of ours, and what caused it."""
    found: dict[str, Any] = {"type": type(error).__name__}
    if isinstance(error, NgspError):
        found["reason"] = shown_text(error.reason)
    found["frames"] = _frames(error.__traceback__)
    if causes_left:
        if isinstance(error, BaseExceptionGroup):
            found["parts"] = [shown_exception(part, causes_left - 1) for part in error.exceptions[:MOST_CAUSES]]
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is not None:
            found["caused_by"] = shown_exception(cause, causes_left - 1)
    return found


def _frames(trace: TracebackType | None) -> list[str]:
    frames: list[str] = []
    while trace is not None:
        frames.append(_place(trace.tb_frame.f_code, trace.tb_lineno))
        trace = trace.tb_next
    return frames[-MOST_FRAMES:]


def _place(code: CodeType, line: int) -> str:
    """The file by its last three steps, so that no folder of this machine is told."""
    return f"{'/'.join(code.co_filename.split('/')[-3:])}:{line} {code.co_qualname}"


def shown_event(text: object, frame: FrameType | None) -> tuple[str, str]:
    """An event's text and, where the text was made at run time and is not shown, the place that made it.

    `frame`: of the function that logged, or one of structlog or logging below it.
    """
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _LOGGING:
        frame = frame.f_back
    if isinstance(text, str) and frame is not None and text in frame.f_code.co_consts:
        return mask(text), ""
    return note(text), _place(frame.f_code, frame.f_lineno) if frame is not None else ""
