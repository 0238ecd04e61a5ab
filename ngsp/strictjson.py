"""Bytes → JSON, or a refusal, before any model sees it (RFC 8259 read strictly, RFC 7493 for numbers and keys).

Refused as `malformed-json` (400): an empty body, a byte order mark or anything but UTF-8, duplicate keys, NaN and
Infinity, a number that overflows a double, an integer of more than 40 digits, nesting deeper than 32, lone surrogates.
Refused as `body-too-large` (413): more than 10,000 members and items. Refused as `schema-mismatch` (422):
an integer beyond ±2^53, which other systems would silently round.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import orjson

from ngsp.errors import BodyTooLarge, Fault, MalformedJson, SchemaMismatch
from ngsp.text import Text

DEEPEST = 32
MOST_ITEMS = 10_000
LARGEST_INTEGER = 2**53


class _TooBig(ValueError):
    """An integer that a double cannot hold exactly."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _integer(digits: str) -> int:
    if len(digits) > 40:
        raise ValueError("integer too long")
    value = int(digits)
    if not -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
        raise _TooBig
    return value


def _float(digits: str) -> float:
    if len(digits) > 400:
        raise ValueError("number too long")
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("number overflows")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError("not a JSON number")


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant, strict=True
)


def parse(body: bytes) -> Any:
    """The JSON value in `body`; raises `MalformedJson`, `BodyTooLarge` or `SchemaMismatch`."""
    # Counted exactly only where a cheap upper bound says that a limit is near: strings may hold brackets and commas.
    openings = body.count(b"{") + body.count(b"[")
    if len(body) > MOST_ITEMS and openings + body.count(b",") > MOST_ITEMS:
        _check_items(body)
    if openings > DEEPEST:
        _check_depth(body)
    if b'": ' in body or b'", ' in body:
        return _parse_strictly(body)  # written with spaces: it would not come out the same
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _parse_strictly(body)
    # What comes out again byte for byte held no key twice and no number that was changed in reading: compact JSON, as
    # most libraries write it, is read by the fast decoder alone. Everything else is read again, strictly.
    if orjson.dumps(value) == body and _LONG_NUMBER not in body.translate(_DIGITS):
        return value
    return _parse_strictly(body)


def _parse_strictly(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
        value, end = _decoder.raw_decode(text, _skip_space(text, 0))
        if _skip_space(text, end) != len(text):
            raise ValueError("more than one value")
        if "\\u" in text:
            _check_surrogates(value)
    except _TooBig:
        detail = Text("Có số nguyên vượt quá ±2^53; hãy gửi dạng chuỗi.", "An integer is beyond ±2^53; send text.")
        raise SchemaMismatch(faults=(Fault("", detail),), reason="integer beyond 2^53") from None
    except (ValueError, RecursionError) as error:
        # The decoder's own message may hold input: only its kind is kept.
        raise MalformedJson(reason=f"not strict JSON: {type(error).__name__}") from None
    return value


def _skip_space(text: str, at: int) -> int:
    size = len(text)
    while at < size and text[at] in " \t\n\r":
        at += 1
    return at


_DIGITS = bytes(0x30 if byte in b"0123456789" else 0x20 for byte in range(256))
_LONG_NUMBER = b"0" * 16
"""Sixteen digits in a row may be an integer beyond 2^53, or stand in a string: either way it is read strictly."""
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NOT_BRACKETS = bytes(byte for byte in range(256) if byte not in b"{}[]")


def _check_depth(body: bytes) -> None:
    depth = 0
    for byte in _STRING.sub(b"", body).translate(None, _NOT_BRACKETS):
        depth += 1 if byte in b"{[" else -1
        if depth > DEEPEST:
            raise MalformedJson(
                Text("JSON lồng quá 32 cấp.", "The JSON is nested more than 32 levels deep."), reason="too deep"
            )


def _check_items(body: bytes) -> None:
    outside = _STRING.sub(b"", body)
    empty = outside.translate(None, b" \t\r\n")
    containers = empty.count(b"{") + empty.count(b"[") - empty.count(b"{}") - empty.count(b"[]")
    if outside.count(b",") + containers > MOST_ITEMS:
        raise BodyTooLarge(
            Text("Quá 10.000 phần tử trong nội dung.", "More than 10,000 members and items in the body."),
            reason="too many items",
        )


def _check_surrogates(value: Any) -> None:
    """Escapes may spell half a surrogate pair, which no UTF-8 can carry on."""
    json.dumps(value, ensure_ascii=False).encode("utf-8")
