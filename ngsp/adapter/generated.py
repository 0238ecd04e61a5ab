"""Requests made from a schema, for contract tests: valid ones, and near misses that the schema must refuse.

On the keywords that providers use; what a keyword beyond them asks for is found by trying. Every value is checked by
the schema's own validator before it is used, so that nothing here can be wrong about what is valid.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator
from copy import deepcopy
from datetime import UTC, date
from typing import Any

import jsonschema_rs
from hypothesis import strategies as st

from ngsp.registry.model import PATTERNS, Schema
from ngsp.registry.pointers import resolve

Strategy = st.SearchStrategy[Any]

DEEPEST = 8
LONGEST_TEXT = 64
MOST_ITEMS = 5
LARGEST = 10**6
_VIETNAMESE = "àáảãạăằắẳẵặâầấẩẫậđèéẻẽẹêềếểễệìíỉĩịòóỏõọôồốổỗộơờớởỡợùúủũụưừứửữựỳýỷỹỵ"
LETTERS = string.ascii_letters + _VIETNAMESE + _VIETNAMESE.upper()
_CLASSES = {
    "L": LETTERS,
    "Lu": LETTERS.upper(),
    "Ll": LETTERS.lower(),
    "N": "0-9",
    "Nd": "0-9",
    "M": "\u0301",
    "C": "\u0000-\u001f",
}
"""What stands for a Unicode category in Python's regular expressions, which have none."""
_CATEGORY = re.compile(r"\\([pP])\{(\w+)\}")
_KEYWORDS_OF = {
    "object": frozenset(("properties", "required", "additionalProperties", "minProperties", "patternProperties")),
    "array": frozenset(("items", "prefixItems", "minItems", "maxItems", "uniqueItems")),
    "string": frozenset(("pattern", "format", "minLength", "maxLength")),
    "number": frozenset(("minimum", "maximum", "multipleOf", "exclusiveMinimum", "exclusiveMaximum")),
}
_ANY: Strategy = st.one_of(
    st.none(), st.booleans(), st.integers(-1000, 1000), st.text(LETTERS + string.digits, max_size=10)
)


def valid(schema: Schema) -> Strategy:
    """Values that `schema` takes."""
    return _of(schema.document, schema.document, DEEPEST).filter(schema.validator.is_valid)


def invalid(schema: Schema) -> Strategy:
    """Values that `schema` refuses, each one step away from a value that it takes."""
    wrong = valid(schema).flatmap(lambda value: st.sampled_from(list(_spoilt(value))))
    return wrong.filter(lambda value: not schema.validator.is_valid(value))


def _of(root: dict[str, Any], schema: Any, depth: int) -> Strategy:
    if schema is False:
        return st.nothing()
    if not isinstance(schema, dict) or not schema or depth == 0:
        return _ANY
    if "$ref" in schema:
        beside = {word: value for word, value in schema.items() if word != "$ref"}
        return _of(root, _merged(resolve(root, schema["$ref"]), beside), depth - 1)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for word in ("oneOf", "anyOf"):
        if word in schema:
            rest = {name: value for name, value in schema.items() if name != word}
            return st.one_of(*(_of(root, _merged(rest, one), depth - 1) for one in schema[word]))
    if "allOf" in schema:
        whole = {name: value for name, value in schema.items() if name != "allOf"}
        for one in schema["allOf"]:
            whole = _merged(whole, _resolved(root, one))
        return _of(root, whole, depth - 1)
    return st.one_of(*(_MAKERS[kind](root, schema, depth) for kind in _kinds(schema)))


def _kinds(schema: dict[str, Any]) -> list[str]:
    named = schema.get("type")
    if isinstance(named, str):
        return [named]
    if isinstance(named, list):
        return named
    return [kind for kind, words in _KEYWORDS_OF.items() if words & schema.keys()] or ["string"]


def _resolved(root: dict[str, Any], schema: Any) -> Any:
    while isinstance(schema, dict) and "$ref" in schema:
        schema = resolve(root, schema["$ref"])
    return schema


def _merged(one: Any, other: Any) -> Any:
    """Both at once, as far as keywords can simply be put together; the rest is found by trying."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return other if one in (True, {}) else one
    merged = dict(one)
    for word, value in other.items():
        if word == "properties" and word in merged:
            both = dict(merged[word])
            for name, below in value.items():
                both[name] = _merged(both[name], below) if name in both else below
            merged[word] = both
        elif (word == "required" and word in merged) or (word == "allOf" and word in merged):
            merged[word] = [*merged[word], *value]
        else:
            merged[word] = value
    return merged


def _object(root: dict[str, Any], schema: dict[str, Any], depth: int) -> Strategy:
    properties = {name: below for name, below in schema.get("properties", {}).items() if below is not False}
    required = dict.fromkeys(schema.get("required", ()))
    must = {name: _of(root, properties.get(name, {}), depth - 1) for name in required}
    may = {name: _of(root, below, depth - 1) for name, below in properties.items() if name not in required}
    return st.fixed_dictionaries(must, optional=may)


def _array(root: dict[str, Any], schema: dict[str, Any], depth: int) -> Strategy:
    least = schema.get("minItems", 0)
    most = min(schema.get("maxItems", least + MOST_ITEMS), least + MOST_ITEMS)
    item = _of(root, schema.get("items", {}), depth - 1)
    if first := schema.get("prefixItems"):
        return st.tuples(*(_of(root, below, depth - 1) for below in first)).map(list)
    if schema.get("uniqueItems"):
        return st.lists(item, min_size=least, max_size=most, unique_by=repr)
    return st.lists(item, min_size=least, max_size=most)


def _text(root: dict[str, Any], schema: dict[str, Any], depth: int) -> Strategy:
    least = schema.get("minLength", 0)
    most = max(least, min(schema.get("maxLength", LONGEST_TEXT), least + LONGEST_TEXT))
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]].filter(_validator(schema).is_valid)
    if "pattern" in schema:
        return st.from_regex(_pattern(schema["pattern"]), alphabet=_ALPHABET).filter(_validator(schema).is_valid)
    return st.text(LETTERS + string.digits + " ", min_size=least, max_size=most)


def _validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Of a text alone: what fits the whole is then found by few tries."""
    words = {word: schema[word] for word in _KEYWORDS_OF["string"] & schema.keys()}
    return jsonschema_rs.Draft202012Validator(words, validate_formats=True, pattern_options=PATTERNS, offline=True)


_ALPHABET = st.sampled_from(sorted(set(string.printable.strip() + " " + LETTERS + "’–\u0301")))


def _pattern(pattern: str) -> str:
    """`pattern` for Python's engine: categories as the letters of Vietnamese, `$` at the very end only."""
    inside, found, at = False, [], 0
    while at < len(pattern):
        category = _CATEGORY.match(pattern, at)
        if category:
            letters = _CLASSES.get(category[2], "0-9 ") if category[1] == "p" else "0-9 "
            found.append(letters if inside else f"[{letters}]")
            at = category.end()
            continue
        sign = pattern[at : at + 2] if pattern[at] == "\\" else pattern[at]
        inside = (inside or sign == "[") and sign != "]"
        found.append("\\Z" if sign == "$" and not inside else sign)
        at += len(sign)
    return "".join(found)


def _integer(root: dict[str, Any], schema: dict[str, Any], depth: int) -> Strategy:
    step = schema.get("multipleOf", 1)
    low = schema.get("minimum", schema.get("exclusiveMinimum", -LARGEST - 1) + 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", max(LARGEST, low + LARGEST) + 1) - 1)
    if not isinstance(step, int):
        return st.integers(int(low), int(high))
    return st.integers(-(-int(low) // step), int(high) // step).map(lambda number: number * step)


def _number(root: dict[str, Any], schema: dict[str, Any], depth: int) -> Strategy:
    low, high = schema.get("minimum", -LARGEST), schema.get("maximum", LARGEST)
    tenths = st.integers(int(low) * 10, int(high) * 10).map(lambda number: number / 10)
    return st.one_of(_integer(root, schema, depth), tenths)


def _nothing(root: dict[str, Any], schema: dict[str, Any], depth: int) -> Strategy:
    return st.none()


def _boolean(root: dict[str, Any], schema: dict[str, Any], depth: int) -> Strategy:
    return st.booleans()


_MAKERS: dict[str, Callable[[dict[str, Any], dict[str, Any], int], Strategy]] = {
    "object": _object,
    "array": _array,
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "null": _nothing,
}
_FORMATS: dict[str, Strategy] = {
    "date": st.dates(date(1900, 1, 1), date(2099, 12, 31)).map(lambda day: day.isoformat()),
    "date-time": st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat()),
    "time": st.times().map(lambda time: f"{time.isoformat(timespec='seconds')}Z"),
    "uuid": st.uuids().map(str),
    "email": st.from_regex(r"[a-z]{1,10}@[a-z]{1,10}\.vn\Z"),
    "uri": st.from_regex(r"https://[a-z]{1,10}\.vn/[a-z0-9]{0,10}\Z"),
}


_ODD: tuple[Any, ...] = (None, {}, [], 2**60, -1, 0.5, "", "\u202e", "x" * 10_000, True)


def _spoilt(value: Any) -> Iterator[Any]:
    """`value` with one thing changed: a member left out, one too many, another type, too long, too large."""
    yield from ([], {}, "", None, 0)
    if not isinstance(value, dict):
        yield [value]
        return
    yield value | {"khong-khai-bao": "x"}
    for name in value:
        yield {other: below for other, below in value.items() if other != name}
    for path in _leaves(value, ()):
        for replacement in _ODD:
            yield _replaced(value, path, replacement)


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in below:
        yield from _leaves(item, (*path, step))
    if path:
        yield path


def _replaced(value: Any, path: tuple[str | int, ...], replacement: Any) -> Any:
    changed = deepcopy(value)
    target = changed
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = replacement
    return changed
