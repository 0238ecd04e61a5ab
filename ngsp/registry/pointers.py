"""JSON pointers (RFC 6901) with `*` for every item of an array: their form, and whether a schema has room for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import jsonschema_rs

from ngsp.registry.model import PATTERNS
from ngsp.registry.texts import Wrong, clean
from ngsp.text import Text

_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_TYPES = frozenset(("object", "array", "string", "number", "integer", "boolean", "null"))


def check_pointer(value: str) -> str:
    """`value` itself where it is a pointer of visible characters; else `Wrong`. `""` is the whole document."""
    if value:
        clean(value)
    if not _POINTER.fullmatch(value):
        raise Wrong(Text("Không phải con trỏ JSON (RFC 6901).", "Not a JSON pointer (RFC 6901)."))
    return value


def steps(pointer: str) -> list[str]:
    """`/a~1b/*` → `["a/b", "*"]`."""
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def resolve(document: Any, reference: str) -> Any:
    """What `reference` (`#` or `#/…`) names in `document`; KeyError where there is nothing."""
    found = document
    for step in steps(unquote(reference[1:])):
        if isinstance(found, list):
            if not re.fullmatch(r"0|[1-9][0-9]{0,5}", step) or int(step) >= len(found):
                raise KeyError(step)
            found = found[int(step)]
        elif isinstance(found, dict):
            found = found[step]
        else:
            raise KeyError(step)
    return found


def has_room(schema: dict[str, Any], pointer: str) -> bool:
    """False where no document valid by `schema` can have a value at `pointer`, as far as that can be decided.

    An object that lists its properties is taken to have no others, unless it says `additionalProperties`,
    `patternProperties` or `unevaluatedProperties`: a grant of a misspelt field should not pass unseen.
    """
    nodes: list[Any] = [schema]
    for step in steps(pointer):
        nodes = [below for node in nodes for below in _step(schema, node, step)]
        if not nodes:
            return False
    return True


def _step(root: dict[str, Any], node: Any, step: str) -> list[Any]:
    """The schemas that a value one `step` below an instance of `node` may have to satisfy; empty: there is none."""
    parts = [part for part in _in_place(root, node) if part is not False]
    if not parts:
        return []
    maps = [part for part in parts if isinstance(part, dict)]
    kinds = _kinds(maps)
    if step == "*" and "array" in kinds:
        return _items(maps)
    if "object" not in kinds:
        return []
    found: list[Any] = []
    for part in maps:
        if step in part.get("properties", {}):
            found.append(part["properties"][step])
        found += [below for pattern, below in part.get("patternProperties", {}).items() if matches(pattern, step)]
    if found:
        return [below for below in found if below is not False]
    open_words = ("additionalProperties", "unevaluatedProperties")
    opened = [part[word] for part in maps for word in open_words if part.get(word, False) is not False]
    if opened:
        return opened
    return [] if any("properties" in part or _closed(part) for part in maps) else [True]


def _closed(part: dict[str, Any]) -> bool:
    return part.get("additionalProperties") is False or part.get("unevaluatedProperties") is False


def _items(parts: list[dict[str, Any]]) -> list[Any]:
    found = [below for part in parts for below in part.get("prefixItems", [])]
    found += [part["items"] for part in parts if "items" in part]
    return [below for below in found if below is not False] if found else [True]


def _kinds(parts: list[dict[str, Any]]) -> frozenset[str]:
    """The types named anywhere among the alternatives; all of them where none is named."""
    stated = [part["type"] for part in parts if "type" in part]
    named = frozenset(kind for kinds in stated for kind in ([kinds] if isinstance(kinds, str) else kinds))
    return named or _TYPES


def matches(pattern: str, name: str) -> bool:
    """By the validator's own engine: it has the schema's dialect, and no pattern can make it slow."""
    return jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=PATTERNS).is_valid(name)


def _in_place(root: dict[str, Any], node: Any) -> Iterator[Any]:
    """`node` and every schema that looks at the same value as it does: alternatives, conjunctions and references."""
    seen: set[int] = set()
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("$ref"), str):
            waiting.append(resolve(root, part["$ref"]))
        for word in ("allOf", "anyOf", "oneOf"):
            waiting += part.get(word, [])
        waiting += [part[word] for word in ("if", "then", "else") if word in part]
        waiting += part.get("dependentSchemas", {}).values()
