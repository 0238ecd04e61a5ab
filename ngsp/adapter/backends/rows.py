"""Rows as JSON holds them, and the values of JSON as a statement's parameters."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from ngsp.adapter.definition import Failed
from ngsp.mapping import MappingError
from ngsp.vntime import VIETNAM

LARGEST_PARAMETER = 2**63 - 1


def parameter(value: Any, *, decimals: bool) -> Any:
    """`value` as it is bound. An object or a list is bound as its JSON text; `decimals`: a fraction as a decimal.

    MappingError for an integer beyond 64 bits.
    """
    if isinstance(value, dict | list):
        return orjson.dumps(value).decode()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        if abs(value) > LARGEST_PARAMETER:
            raise MappingError("an integer beyond 64 bits")
        return value
    return Decimal(repr(value)) if decimals else value


class Reading:
    """Rows taken one after the other, within the limits; Failed beyond them, or where a value has no place in JSON.

    `json_columns`: those whose text is JSON.
    """

    def __init__(self, names: Iterable[str], json_columns: frozenset[str], most: int, max_bytes: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self._names, self._json_columns = tuple(names), json_columns
        self._most, self._left_bytes = most, max_bytes
        if len(set(self._names)) != len(self._names):
            raise Failed("backend-columns-alike")
        if not json_columns.issubset(self._names):
            raise Failed("backend-no-such-column")

    def take(self, row: Sequence[Any]) -> None:
        if len(self.rows) == self._most:
            raise Failed("backend-too-many-rows")
        found = {
            name: _parsed(value) if name in self._json_columns and isinstance(value, str | bytes) else _as_json(value)
            for name, value in zip(self._names, row, strict=True)
        }
        self._left_bytes -= len(orjson.dumps(found))
        if self._left_bytes < 0:
            raise Failed("backend-too-large")
        self.rows.append(found)


def _parsed(value: str | bytes) -> Any:
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise Failed("backend-not-json") from None


def _as_json(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, datetime):
        return (value.replace(tzinfo=VIETNAM) if value.tzinfo is None else value.astimezone(VIETNAM)).isoformat()
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _time_of_day(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list | tuple):
        return [_as_json(each) for each in value]
    if isinstance(value, dict):
        return value  # the driver has read it from a JSON column
    raise Failed("backend-type")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise Failed("backend-number")
    return value


def _number(value: Decimal) -> int | float:
    """The same number; Failed where JSON's would be another, which the statement can avoid by a CAST to text."""
    if not value.is_finite():
        raise Failed("backend-number")
    if value == value.to_integral_value():
        return int(value)
    found = float(value)
    if Decimal(repr(found)) != value:
        raise Failed("backend-number")
    return found


def _time_of_day(value: timedelta) -> str:
    """MariaDB's TIME, which may also be a span: `-26:30:00`."""
    seconds = abs(int(value.total_seconds()))
    sign = "-" if value < timedelta() else ""
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
