"""The words of JSON Schema that bound: how much, how long, how many; and those that texts alone have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ngsp.registry.inclusion_findings import Check, Finding, Pair
from ngsp.registry.schema_parts import NUMBERS, same_value

_AT_LEAST: Final = {"minLength": "string", "minItems": "array", "minProperties": "object"}
_AT_MOST: Final = {"maxLength": "string", "maxItems": "array", "maxProperties": "object"}
_BOUNDS: Final = frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))


def _at_least(pair: Pair, word: str, least: float) -> Iterator[Finding]:
    known = pair.parts.at_least(word)
    if word == "minProperties":
        known = max(known, len(pair.parts.required))
    if _AT_LEAST[word] in pair.parts.kinds and known < least:
        yield pair.finding(word)


def _at_most(pair: Pair, word: str, most: float) -> Iterator[Finding]:
    known = pair.parts.at_most(word)
    if word == "maxProperties" and pair.parts.closed:
        known = min(known, len(pair.parts.names))
    if _AT_MOST[word] in pair.parts.kinds and known > most:
        yield pair.finding(word)


def _bound(pair: Pair, word: str, stated: float) -> Iterator[Finding]:
    if not pair.parts.kinds & NUMBERS:
        return
    lower = word in ("minimum", "exclusiveMinimum")
    known, excluded = pair.parts.lowest if lower else pair.parts.highest
    inside = known > stated if lower else known < stated
    if not (inside or (known == stated and (excluded or not word.startswith("exclusive")))):
        yield pair.finding(word)


def _multiple(pair: Pair, word: str, stated: float) -> Iterator[Finding]:
    if not pair.parts.kinds & NUMBERS:
        return
    found = pair.parts.all_of(word)
    whole = isinstance(stated, int) and any(isinstance(known, int) and known % stated == 0 for known in found)
    if not (whole or stated in found or (stated == 1 and "fraction" not in pair.parts.kinds)):
        yield pair.finding(word)


def _of_strings(pair: Pair, word: str, stated: str) -> Iterator[Finding]:
    if "string" in pair.parts.kinds and not any(same_value(known, stated) for known in pair.parts.all_of(word)):
        yield pair.finding(word)


BOUNDS: Final[dict[str, Check]] = {
    "multipleOf": _multiple,
    "pattern": _of_strings,
    "format": _of_strings,
    **dict.fromkeys(_AT_LEAST, _at_least),
    **dict.fromkeys(_AT_MOST, _at_most),
    **dict.fromkeys(_BOUNDS, _bound),
}
