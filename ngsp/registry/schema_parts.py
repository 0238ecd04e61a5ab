"""What a JSON Schema says for certain: read as a list of parts that all hold at one place, and asked for its bounds.

What is not understood is left out, which is safe: the parts then allow more than they do. See `inclusion.py`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final
from urllib.parse import quote, unquote

import jsonschema_rs

from ngsp.registry.model import PATTERNS
from ngsp.registry.pointers import matches, resolve, steps
from ngsp.registry.schemas import LISTS, MAPS, SINGLES, Path, differences, rewrite_references
from ngsp.registry.texts import pointer

NUMBERS: Final = frozenset(("integer", "fraction"))
KINDS: Final = frozenset(("null", "boolean", "object", "array", "string")) | NUMBERS
"""Kinds of values that share none: what JSON Schema calls number is an integer (1.0 is one) or a fraction."""
SILENT: Final = frozenset(
    (
        *("title", "description", "examples", "default", "deprecated", "readOnly", "writeOnly", "$comment"),
        *("$id", "$schema", "$defs", "definitions", "contentEncoding", "contentMediaType", "contentSchema"),
    )
)
"""Words that ask nothing of a value."""
_MOST_DEPTH: Final = 3
_MOST_VALUES: Final = 10_000


class TooMuch(Exception):
    """Two schemas are too entangled to be compared in the time there is."""


class Budget:
    """How many places may be looked at yet."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    def spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise TooMuch


class Document:
    """A whole schema: finds what its references name, and tries values against any place of it."""

    def __init__(self, root: Any, budget: Budget) -> None:
        self.root, self.budget = root, budget
        self._validators: dict[Path, Any] = {}

    @property
    def node(self) -> Node:
        return Node(self, self.root, ())

    def named(self, reference: str) -> Node:
        self.budget.spend()
        return Node(self, resolve(self.root, reference), tuple(steps(unquote(reference[1:]))))

    def takes(self, path: Path, value: Any) -> bool:
        """Whether the schema at `path` takes `value`, by the validator itself."""
        if path not in self._validators:
            here = "#/$defs/whole"
            whole = rewrite_references({w: v for w, v in self.root.items() if w not in ("$id", "$schema")}, here)
            schema = {"$ref": here + quote(pointer(path), safe="/~"), "$defs": {"whole": whole}}
            self._validators[path] = jsonschema_rs.Draft202012Validator(
                schema, validate_formats=True, pattern_options=PATTERNS, offline=True
            )
        return bool(self._validators[path].is_valid(value))


@dataclass(frozen=True, slots=True)
class Node:
    """One schema at its place in its document."""

    document: Document
    schema: Any
    path: Path

    def below(self, *steps: str | int) -> Node:
        self.document.budget.spend()
        schema = self.schema
        for step in steps:
            schema = schema[step]
        return Node(self.document, schema, (*self.path, *steps))

    def takes(self, value: Any) -> bool:
        if isinstance(self.schema, bool):
            return self.schema
        return self.document.takes(self.path, value)

    @property
    def key(self) -> object:
        """The same for the same schema of the same document."""
        return self.schema if isinstance(self.schema, bool) else id(self.schema)


def _of_kind(kind: str) -> Node:
    return Document({"type": kind}, Budget(0)).node


KIND_NODES: Final = {kind: _of_kind(kind) for kind in ("null", "boolean", "object", "array", "string", "number")}
STRING: Final = KIND_NODES["string"]


def kinds_of(stated: Any) -> frozenset[str]:
    """The kinds that a `type` names."""
    names = [stated] if isinstance(stated, str) else stated
    return frozenset(kind for name in names for kind in (NUMBERS if name == "number" else (name,)))


def kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "integer" if isinstance(value, int) or value.is_integer() else "fraction"
    return "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"


@dataclass(frozen=True)
class Parts:
    """Schemas that all hold for one value, with what they refer to and what is below their `allOf`."""

    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, nodes: Iterable[Node]) -> Parts:
        found: dict[object, Node] = {}
        waiting = deque(nodes)
        while waiting:
            node = waiting.popleft()
            if node.key in found:
                continue
            found[node.key] = node
            if isinstance(node.schema, dict):
                if "$ref" in node.schema:
                    waiting.append(node.document.named(node.schema["$ref"]))
                if "allOf" in node.schema:
                    waiting += branches(node, "allOf")
        # What only refers or joins says nothing itself; without it, what comes again is seen to be the same.
        return cls(tuple(node for node in found.values() if _says_something(node.schema)))

    def joined(self, node: Node) -> Parts:
        return Parts.of((*self.nodes, node))

    @cached_property
    def key(self) -> frozenset[object]:
        return frozenset(node.key for node in self.nodes)

    @cached_property
    def maps(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if isinstance(node.schema, dict))

    def all_of(self, word: str) -> list[Any]:
        """What the parts say under `word`."""
        return [node.schema[word] for node in self.maps if word in node.schema]

    # --- which values at all ---------------------------------------------------------------------------------------

    @cached_property
    def kinds(self) -> frozenset[str]:
        """No value of another kind is taken; empty where none is taken at all."""
        if any(node.schema is False for node in self.nodes):
            return frozenset()
        found = KINDS
        for node in self.maps:
            schema = node.schema
            if "type" in schema:
                found &= kinds_of(schema["type"])
            for values in ([schema["const"]] if "const" in schema else None, schema.get("enum")):
                if values is not None:
                    found &= frozenset(map(kind_of, values))
            for word in ("anyOf", "oneOf"):
                if word in schema:
                    branches = (Parts.of((node.below(word, index),)) for index, _ in enumerate(schema[word]))
                    found &= frozenset[str]().union(*(branch.kinds for branch in branches))
        return found

    @cached_property
    def values(self) -> tuple[Any, ...] | None:
        """All values there can be, where they can be counted; None where they cannot."""
        counted = [list(values) for values in self.all_of("enum")] + [[value] for value in self.all_of("const")]
        if self.kinds <= {"null", "boolean"}:
            counted.append([value for value in (None, False, True) if kind_of(value) in self.kinds])
        if not counted:
            return None
        fewest = min(counted, key=len)
        if len(fewest) > _MOST_VALUES:
            return None
        return tuple(value for value in fewest if all(node.takes(value) for node in self.nodes))

    # --- objects ---------------------------------------------------------------------------------------------------

    @cached_property
    def required(self) -> frozenset[str]:
        return frozenset(name for names in self.all_of("required") for name in names)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names that the parts speak of."""
        spoken = [name for properties in self.all_of("properties") for name in properties]
        return tuple(dict.fromkeys((*spoken, *sorted(self.required))))

    @cached_property
    def patterns(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(pattern for found in self.all_of("patternProperties") for pattern in found))

    @property
    def closed(self) -> bool:
        """Whether there can be no names but `names`."""
        return any(
            node.schema.get("additionalProperties") is False and not node.schema.get("patternProperties")
            for node in self.maps
        )

    def at_property(self, name: str) -> Parts:
        """What holds for the value under `name`."""
        found = []
        for node in self.maps:
            spoken = name in node.schema.get("properties", ())
            if spoken:
                found.append(node.below("properties", name))
            for pattern in node.schema.get("patternProperties", ()):
                if matches(pattern, name):
                    found.append(node.below("patternProperties", pattern))
                    spoken = True
            if not spoken and "additionalProperties" in node.schema:
                found.append(node.below("additionalProperties"))
        return Parts.of(found)

    def at_pattern(self, pattern: str) -> Parts:
        """What holds under every name that matches `pattern` and is none of `names`."""
        found = []
        for node in self.maps:
            patterns = node.schema.get("patternProperties", {})
            if pattern in patterns:
                found.append(node.below("patternProperties", pattern))
            elif not patterns and "additionalProperties" in node.schema:
                found.append(node.below("additionalProperties"))
        return Parts.of(found)

    def elsewhere(self) -> Parts:
        """What holds under every name that is none of `names` and matches none of `patterns`."""
        return Parts.of(
            node.below("additionalProperties") for node in self.maps if "additionalProperties" in node.schema
        )

    # --- arrays ----------------------------------------------------------------------------------------------------

    @cached_property
    def longest_prefix(self) -> int:
        return max((len(prefix) for prefix in self.all_of("prefixItems")), default=0)

    def at_item(self, index: int) -> Parts:
        """What holds for the item at `index`; beyond `longest_prefix` it is the same for all."""
        found = []
        for node in self.maps:
            if index < len(node.schema.get("prefixItems", ())):
                found.append(node.below("prefixItems", index))
            elif "items" in node.schema:
                found.append(node.below("items"))
        return Parts.of(found)

    # --- bounds ----------------------------------------------------------------------------------------------------

    def at_least(self, word: str) -> float:
        return max(self.all_of(word), default=0)

    def at_most(self, word: str) -> float:
        return min(self.all_of(word), default=math.inf)

    @cached_property
    def lowest(self) -> tuple[float, bool]:
        """The lower bound of numbers, and whether it is excluded."""
        bounds = [(value, False) for value in self.all_of("minimum")]
        bounds += [(value, True) for value in self.all_of("exclusiveMinimum")]
        value, excluded = max(bounds, default=(-math.inf, False))
        if "fraction" in self.kinds or math.isinf(value):
            return value, excluded
        return (math.floor(value) + 1 if excluded else math.ceil(value)), False

    @cached_property
    def highest(self) -> tuple[float, bool]:
        bounds = [(value, 0) for value in self.all_of("exclusiveMaximum")]
        bounds += [(value, 1) for value in self.all_of("maximum")]
        value, included = min(bounds, default=(math.inf, 1))
        if "fraction" in self.kinds or math.isinf(value):
            return value, not included
        return (math.floor(value) if included else math.ceil(value) - 1), False


def _says_something(schema: Any) -> bool:
    return isinstance(schema, bool) or bool(schema.keys() - SILENT - {"$ref", "allOf"})


def disjoint(one: Parts, other: Parts, depth: int = 0) -> bool:
    """True only where no value is taken by both: other kinds, other values, or that under a name both speak of."""
    both = Parts.of((*one.nodes, *other.nodes))
    if not both.kinds or both.values == () or (both.kinds <= NUMBERS and both.lowest[0] > both.highest[0]):
        return True
    if both.kinds != {"object"} or depth == _MOST_DEPTH:
        return False
    return any(disjoint(one.at_property(name), other.at_property(name), depth + 1) for name in both.required)


def same(one: Node, other: Node, seen: set[tuple[object, object]] | None = None) -> bool:
    """Whether two schemas are the same but for what only explains them; references are followed."""
    if isinstance(one.schema, bool) or isinstance(other.schema, bool):
        return one.schema is other.schema
    seen = set() if seen is None else seen
    pair = (one.key, other.key)
    if pair in seen:
        return True  # if it is not, then whoever looks at it now finds out, and the whole is not the same
    seen.add(pair)
    words = one.schema.keys() - SILENT
    return words == other.schema.keys() - SILENT and all(_same_under(word, one, other, seen) for word in words)


def _same_under(word: str, one: Node, other: Node, seen: set[tuple[object, object]]) -> bool:
    if word == "$ref":
        return same(one.document.named(one.schema[word]), other.document.named(other.schema[word]), seen)
    mine, theirs = one.schema[word], other.schema[word]
    if word in SINGLES:
        return same(one.below(word), other.below(word), seen)
    if word in MAPS:
        return mine.keys() == theirs.keys() and all(
            same(one.below(word, name), other.below(word, name), seen) for name in mine
        )
    if word in LISTS:
        return len(mine) == len(theirs) and all(
            same(left, right, seen) for left, right in zip(branches(one, word), branches(other, word), strict=True)
        )
    return same_value(mine, theirs)


def same_value(one: Any, other: Any) -> bool:
    """Equal as JSON; of a list the order counts."""
    return not any(True for _ in differences(one, other))


def branches(node: Node, word: str) -> Iterator[Node]:
    for index, _ in enumerate(node.schema[word]):
        yield node.below(word, index)
