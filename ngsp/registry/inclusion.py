"""Whether every value that one JSON Schema takes is taken by another: proven keyword by keyword, or not proven.

What the *wider* schema asks must follow from what the *narrower* one says. What cannot be shown counts as not so: there
may be findings too many, never too few. Compared are

    type, enum, const                                         by their values; of what can be counted each is tried
    minimum, maximum, exclusiveMinimum, exclusiveMaximum,
    minLength, maxLength, minItems, maxItems,
    minProperties, maxProperties                              as bounds
    multipleOf                                                equal, or a multiple, in whole numbers
    pattern, format                                           equal only
    properties, patternProperties, additionalProperties,
    propertyNames, required, dependentRequired                name by name; patterns equal only
    items, prefixItems, uniqueItems                           item by item
    $ref, allOf                                               followed, recursive ones too
    anyOf                                                     one branch for each case of the narrower schema
    oneOf                                                     the same, and no other branch can take the value
    not                                                       what it excludes is excluded already
    unevaluatedProperties, unevaluatedItems                   only in a schema that is the same as a whole
    if, contains and all others                               equal only

A pair of places that comes again deeper inside a value is taken to hold, because values end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ngsp.registry.inclusion_bounds import BOUNDS
from ngsp.registry.inclusion_findings import Check, Finding, Pair, Pairs
from ngsp.registry.pointers import matches
from ngsp.registry.schema_parts import (
    KIND_NODES,
    NUMBERS,
    SILENT,
    STRING,
    Budget,
    Document,
    Node,
    Parts,
    branches,
    disjoint,
    kinds_of,
    same,
)
from ngsp.registry.schemas import Path

MOST_LOOKS: Final = 200_000
"""Places looked at for one comparison: about a second. What takes more counts as not proven."""
_MOST_SPLITS: Final = 3
_WITH_ANOTHER: Final = frozenset(("then", "else", "minContains", "maxContains"))
"""Words that mean nothing but beside another one, which is looked at."""
_Holds = Callable[[Parts], bool]


def findings(narrower: Any, wider: Any) -> list[Finding]:
    """Why it is not proven that `wider` takes all that `narrower` takes; empty where it is. `TooMuch` may be raised."""
    budget = Budget(MOST_LOOKS)
    mine, other = Document(narrower, budget).node, Document(wider, budget).node
    return list(_within(Parts.of((mine,)), other, (), frozenset()))


def _within(parts: Parts, wider: Node, at: Path, assumed: Pairs) -> Iterator[Finding]:
    """`at`: the place in the narrower document where none of the parts has one."""
    wider.document.budget.spend()
    at = next((node.path for node in parts.nodes if node.document not in _KIND_DOCUMENTS), at)
    key = (parts.key, wider.key)
    if wider.schema is True or not parts.kinds or key in assumed:
        return
    pair = Pair(parts, wider, at, assumed | {key})
    if wider.schema is False:
        yield pair.finding("", *sorted(parts.kinds))
    elif parts.values is not None:
        excluded = [value for value in parts.values if not wider.takes(value)]
        if excluded:
            yield pair.finding("enum" if "const" not in wider.schema else "const", *excluded)
    elif not any(same(node, wider) for node in parts.nodes):
        for word in wider.schema:
            if word not in SILENT and word not in _WITH_ANOTHER:
                yield from _CHECKS.get(word, _equal)(pair, word, wider.schema[word])


_KIND_DOCUMENTS: Final = frozenset(node.document for node in KIND_NODES.values())


def _below(pair: Pair, parts: Parts, wider: Node, *steps: str | int) -> Iterator[Finding]:
    """The same question a step inside the value. `steps`: where that would stand in the narrower document."""
    return _within(parts, wider, (*pair.at, *steps), pair.assumed)


# --- any kind of value ----------------------------------------------------------------------------------------------


def _ref(pair: Pair, _: str, reference: str) -> Iterator[Finding]:
    return _within(pair.parts, pair.wider.document.named(reference), pair.at, pair.assumed)


def _all_of(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    for branch in branches(pair.wider, word):
        yield from _within(pair.parts, branch, pair.at, pair.assumed)


def _type(pair: Pair, word: str, stated: Any) -> Iterator[Finding]:
    if more := pair.parts.kinds - kinds_of(stated):
        yield pair.finding(word, *sorted(more))


def _enum(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    yield pair.finding(word)  # of what cannot be counted there is more than any list holds


def _any_of(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    def holds(parts: Parts) -> bool:
        return any(_proven(pair, parts, branch) for branch in branches(pair.wider, word))

    if not _in_every_case(pair.parts, holds):
        yield pair.finding(word)


def _one_of(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    choices = list(branches(pair.wider, word))

    def holds(parts: Parts) -> bool:
        return any(
            all(other is branch or disjoint(parts, Parts.of((other,))) for other in choices)
            and _proven(pair, parts, branch)
            for branch in choices
        )

    if not (_has_same(pair, word) or _in_every_case(pair.parts, holds)):
        yield pair.finding(word)


def _not(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    excluded = Parts.of((pair.wider.below(word),))
    if not (_has_same(pair, word) or _in_every_case(pair.parts, lambda parts: disjoint(parts, excluded))):
        yield pair.finding(word)


def _if(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    asked = [name for name in ("then", "else") if name in pair.wider.schema]
    either = all(_proven(pair, pair.parts, pair.wider.below(name)) for name in asked)
    if not (either or _has_same(pair, word, "then", "else")):
        yield pair.finding(word)


def _unevaluated(pair: Pair, word: str, stated: Any) -> Iterator[Finding]:
    """What it asks hangs on all words beside it: only a schema that is the same as a whole promises it."""
    if stated not in (True, {}):
        yield pair.finding(word)


def _equal(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    if not _has_same(pair, word):
        yield pair.finding(word)


def _proven(pair: Pair, parts: Parts, wider: Node) -> bool:
    return next(_within(parts, wider, pair.at, pair.assumed), None) is None


def _in_every_case(parts: Parts, holds: _Holds, splits: int = _MOST_SPLITS) -> bool:
    """Whether it holds for the whole, or for each branch of an alternative that the parts have, or for each kind."""
    if holds(parts):
        return True
    return splits > 0 and any(
        all(_in_every_case(parts.joined(case), holds, splits - 1) for case in cases) for cases in _cases(parts)
    )


def _cases(parts: Parts) -> Iterator[list[Node]]:
    for node in parts.maps:
        for word in ("anyOf", "oneOf"):
            if word in node.schema:
                cases = list(branches(node, word))
                if all(case.key not in parts.key for case in cases):
                    yield cases
    kinds = {"number" if kind in NUMBERS else kind for kind in parts.kinds}
    if len(kinds) > 1:
        yield [KIND_NODES[kind] for kind in sorted(kinds)]


def _has_same(pair: Pair, word: str, *beside: str) -> bool:
    """Whether a part has the very same under `word` (and under the words beside it)."""
    return any(
        all(
            (name in node.schema) == (name in pair.wider.schema)
            and (name not in node.schema or _same_under(node, pair.wider, name))
            for name in (word, *beside)
        )
        for node in pair.parts.maps
    )


def _same_under(one: Node, other: Node, word: str) -> bool:
    mine, theirs = (Node(node.document, {word: node.schema[word]}, node.path) for node in (one, other))
    return same(mine, theirs)


# --- objects --------------------------------------------------------------------------------------------------------


def _required(pair: Pair, word: str, names: list[str]) -> Iterator[Finding]:
    if "object" in pair.parts.kinds and (missing := [name for name in names if name not in pair.parts.required]):
        yield pair.finding(word, *missing)


def _dependent_required(pair: Pair, word: str, stated: dict[str, list[str]]) -> Iterator[Finding]:
    if "object" not in pair.parts.kinds:
        return
    for name, needed in stated.items():
        promised = set(pair.parts.required).union(
            *(found.get(name, ()) for found in pair.parts.all_of("dependentRequired"))
        )
        if pair.parts.at_property(name).kinds and (missing := [one for one in needed if one not in promised]):
            yield pair.finding(word, *missing)


def _properties(pair: Pair, word: str, stated: dict[str, Any]) -> Iterator[Finding]:
    if "object" in pair.parts.kinds:
        for name in stated:
            yield from _below(pair, pair.parts.at_property(name), pair.wider.below(word, name), "properties", name)


def _pattern_properties(pair: Pair, word: str, stated: dict[str, Any]) -> Iterator[Finding]:
    if "object" not in pair.parts.kinds:
        return
    for pattern in stated:
        wider = pair.wider.below(word, pattern)
        for name in pair.parts.names:
            if matches(pattern, name):
                yield from _below(pair, pair.parts.at_property(name), wider, "properties", name)
        yield from _below(pair, pair.parts.at_pattern(pattern), wider, "patternProperties", pattern)


def _additional(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    """The names that the wider schema does not speak of: those the parts speak of, their patterns, and all others."""
    if "object" not in pair.parts.kinds:
        return
    wider = pair.wider.below(word)
    own, patterns = pair.wider.schema.get("properties", {}), pair.wider.schema.get("patternProperties", {})
    for name in pair.parts.names:
        if name not in own and not any(matches(pattern, name) for pattern in patterns):
            at = pair.parts.at_property(name)
            if wider.schema is False and at.kinds:
                yield pair.finding(word, name)
            else:
                yield from _below(pair, at, wider, "properties", name)
    for pattern in pair.parts.patterns:
        if pattern not in patterns:
            yield from _below(pair, pair.parts.at_pattern(pattern), wider, "patternProperties", pattern)
    elsewhere = pair.parts.elsewhere()
    if wider.schema is False and elsewhere.kinds:
        yield pair.finding(word)
    else:
        yield from _below(pair, elsewhere, wider, word)


def _property_names(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    if "object" not in pair.parts.kinds:
        return
    wider = pair.wider.below(word)
    if pair.parts.closed:
        if wrong := [name for name in pair.parts.names if not wider.takes(name)]:
            yield pair.finding(word, *wrong)
        return
    stated = (node.below(word) for node in pair.parts.maps if word in node.schema)
    yield from _below(pair, Parts.of((STRING, *stated)), wider, word)


# --- arrays ---------------------------------------------------------------------------------------------------------


def _prefix_items(pair: Pair, word: str, stated: list[Any]) -> Iterator[Finding]:
    if "array" in pair.parts.kinds:
        for index, _ in enumerate(stated):
            if index < pair.parts.at_most("maxItems"):
                yield from _below(pair, pair.parts.at_item(index), pair.wider.below(word, index), word, index)


def _items(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    if "array" not in pair.parts.kinds:
        return
    begin = len(pair.wider.schema.get("prefixItems", ()))
    for index in range(begin, max(begin, pair.parts.longest_prefix) + 1):  # the last stands for all that follow
        if index < pair.parts.at_most("maxItems"):
            yield from _below(pair, pair.parts.at_item(index), pair.wider.below(word), word)


def _unique(pair: Pair, word: str, stated: bool) -> Iterator[Finding]:
    known = any(pair.parts.all_of(word)) or pair.parts.at_most("maxItems") <= 1
    if stated and "array" in pair.parts.kinds and not known:
        yield pair.finding(word)


def _contains(pair: Pair, word: str, _: Any) -> Iterator[Finding]:
    if "array" in pair.parts.kinds and not _has_same(pair, word, "minContains", "maxContains"):
        yield pair.finding(word)


_CHECKS: Final[dict[str, Check]] = {
    "$ref": _ref,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "type": _type,
    "enum": _enum,
    "const": _enum,
    "unevaluatedProperties": _unevaluated,
    "unevaluatedItems": _unevaluated,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "required": _required,
    "dependentRequired": _dependent_required,
    "items": _items,
    "prefixItems": _prefix_items,
    "contains": _contains,
    "uniqueItems": _unique,
    **BOUNDS,
}
