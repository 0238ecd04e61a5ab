"""Simple types of XML Schema ↔ JSON's: what JSON holds exactly is a value, everything else stays the text it is."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from zeep import xsd
from zeep.xsd.types import builtins

LARGEST_INTEGER = 2**53 - 1
TRUE, _FALSE = frozenset(("true", "1")), frozenset(("false", "0"))
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_ZONE = r"(?:Z|[+-][0-9]{2}:[0-9]{2})?"
_DATE = re.compile(rf"-?[0-9]{{4,}}-[0-9]{{2}}-[0-9]{{2}}{_ZONE}")
_TIME = re.compile(rf"-?[0-9]{{4,}}-[0-9]{{2}}-[0-9]{{2}}T[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}(?:\.[0-9]+)?{_ZONE}")


class OffSchema(ValueError):
    """XML or a value that is not of its type. Neither is in the message."""


def converter(type_: Any) -> Callable[[str], Any]:
    """Lexical form → value; OffSchema where the text is not of the type, null for an empty one that is none."""
    if isinstance(type_, xsd.ListType):
        item = converter(type_.item_type)
        return lambda text: [item(each) for each in text.split()]
    if isinstance(type_, builtins.NormalizedString):
        return _collapsed if isinstance(type_, builtins.Token) else lambda text: re.sub(r"[\t\n\r]", " ", text)
    if isinstance(type_, builtins.String) or not isinstance(type_, builtins.BuiltinType):
        return str
    convert = _convert_of(type_)

    def converted(text: str) -> Any:
        bare = text.strip()
        return convert(bare) if bare else None

    return converted


def _convert_of(type_: Any) -> Callable[[str], Any]:
    if isinstance(type_, builtins.Boolean):
        return _boolean
    if isinstance(type_, builtins.Integer):
        return _integer
    if isinstance(type_, builtins.Float | builtins.Double):
        return _float
    for kind, pattern in ((builtins.Decimal, _DECIMAL), (builtins.DateTime, _TIME), (builtins.Date, _DATE)):
        if isinstance(type_, kind):
            return _matching(pattern)
    return str


def _collapsed(text: str) -> str:
    return " ".join(text.split())


def _boolean(text: str) -> bool:
    if text not in TRUE and text not in _FALSE:
        raise OffSchema("not a boolean")
    return text in TRUE


def _integer(text: str) -> int:
    number = int(text) if _INTEGER.fullmatch(text) else LARGEST_INTEGER + 1
    if abs(number) > LARGEST_INTEGER:
        raise OffSchema("not a whole number that JSON holds exactly")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise OffSchema("not a number that JSON holds")
    return number


def _matching(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def matched(text: str) -> str:
        if not pattern.fullmatch(text):
            raise OffSchema("not of its type")
        return text

    return matched


def lexical(type_: Any) -> Callable[[Any], str]:
    """Value → lexical form, checked by what reads it."""
    if isinstance(type_, xsd.ListType):
        item = lexical(type_.item_type)
        return lambda value: " ".join(map(item, value if isinstance(value, list) else [value]))
    check = converter(type_)
    exact = isinstance(type_, builtins.Decimal)

    def written(value: Any) -> str:
        if exact and isinstance(value, float):
            text = format(Decimal(repr(value)), "f").removesuffix(".0")
        else:
            text = plain(value)
        check(text)
        return text

    return written


def plain(value: Any) -> str:
    """The text of a value of no particular type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise OffSchema("an object or a list where a text must stand")
