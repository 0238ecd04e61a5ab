"""JSON Schemas that providers bring: which are taken, their digest, and what differs between two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import orjson

from ngsp.errors import Fault
from ngsp.registry.model import Schema
from ngsp.registry.pointers import resolve
from ngsp.registry.texts import pointer
from ngsp.text import Text

DIALECT = "https://json-schema.org/draft/2020-12/schema"
LARGEST_SCHEMA_BYTES = 256 * 1024
MOST_EXPANSIONS = 10_000
"""How many subschemas may look at one and the same value: references can double this with every line of a schema."""

MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))
LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
SINGLES = frozenset(
    (
        *("items", "contains", "unevaluatedItems", "additionalProperties", "propertyNames", "unevaluatedProperties"),
        *("not", "if", "then", "else", "contentSchema"),
    )
)
_IN_PLACE = frozenset(("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"))
_FOREIGN = frozenset(
    ("$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveAnchor", "$recursiveRef", "$vocabulary", "$id", "$schema")
)

Path = tuple[str | int, ...]


def digest(document: dict[str, Any]) -> str:
    """SHA-256, in hex, of the document with sorted keys and no spaces (in the manner of RFC 8785)."""
    return hashlib.sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def compile_schema(document: dict[str, Any], at: Path) -> tuple[Schema | None, list[Fault]]:
    """The compiled schema, or what is wrong with it. `at`: where the schema stands in the caller's document."""
    if len(orjson.dumps(document)) > LARGEST_SCHEMA_BYTES:
        return None, [Fault(pointer(at), Text("Lược đồ lớn hơn 256 KiB.", "The schema is larger than 256 KiB."))]
    faults = [Fault(pointer((*at, *path)), detail) for path, detail in _wrongs(document)]
    if not faults:
        faults = [Fault(pointer((*at, *path)), detail) for path, detail in _entangled(document)]
    if faults:
        return None, faults
    try:
        return compiled(document), []
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        path = tuple(getattr(error, "instance_path", ()))
        return None, [
            Fault(
                pointer((*at, *path)),
                Text(
                    "Không phải lược đồ JSON Schema 2020-12 hợp lệ, hoặc biểu thức chính quy ngoài phạm vi hỗ trợ.",
                    "Not a valid JSON Schema 2020-12, or a regular expression beyond what is supported.",
                ),
            )
        ]


def compiled(document: dict[str, Any]) -> Schema:
    """A schema that has been checked already."""
    return Schema(document, digest(document))


def subschemas(schema: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """`schema` and every schema inside it, each with its place. Data (`const`, `enum`, …) is not entered."""
    yield at, schema
    if not isinstance(schema, dict):
        return
    for word, value in schema.items():
        for name, below in _children(word, value):
            yield from subschemas(below, (*at, word, *name))


def _children(word: str, value: Any) -> Iterator[tuple[Path, Any]]:
    if word in MAPS and isinstance(value, dict):
        for name, below in value.items():
            yield (name,), below
    elif word in LISTS and isinstance(value, list):
        for index, below in enumerate(value):
            yield (index,), below
    elif word in SINGLES:
        yield (), value


def _wrongs(document: dict[str, Any]) -> Iterator[tuple[Path, Text]]:
    if holds_nul(document):
        yield (), Text("Có ký tự NUL.", "Holds a NUL character.")
    places = list(subschemas(document))
    known = {id(schema) for _, schema in places if isinstance(schema, dict)}
    for at, schema in places:
        if not isinstance(schema, dict):
            continue
        for word in sorted(schema.keys() & _FOREIGN):
            if at == () and (word == "$id" or (word == "$schema" and schema[word] == DIALECT)):
                continue
            yield (*at, word), Text(f"Không hỗ trợ «{word}» ở đây.", f"'{word}' is not supported here.")
        if "$ref" in schema and not _is_inside(document, schema["$ref"], known):
            yield (
                (*at, "$ref"),
                Text(
                    "Chỉ được tham chiếu tới một lược đồ trong cùng tài liệu, dạng #/$defs/….",
                    "A reference must lead to a schema in the same document, as #/$defs/….",
                ),
            )


def _is_inside(document: dict[str, Any], reference: Any, known: set[int]) -> bool:
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return False
    try:
        found = resolve(document, reference)
    except KeyError:
        return False
    return isinstance(found, bool) or id(found) in known


def holds_nul(value: Any) -> bool:
    """PostgreSQL's JSONB cannot hold U+0000."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in name or holds_nul(below) for name, below in value.items())
    return isinstance(value, list) and any(holds_nul(below) for below in value)


def _entangled(document: dict[str, Any]) -> Iterator[tuple[Path, Text]]:
    """At most one finding: a schema that loops without going deeper, or that unfolds into too many."""
    counts: dict[int, int | None] = {}

    def unfold(schema: Any) -> int:
        if not isinstance(schema, dict):
            return 1
        if id(schema) in counts:
            known = counts[id(schema)]
            return MOST_EXPANSIONS + 1 if known is None else known  # None: we are inside it, so it loops
        counts[id(schema)] = None
        total = 1
        if "$ref" in schema:
            total += unfold(resolve(document, schema["$ref"]))
        for word in schema.keys() & _IN_PLACE:
            total += sum(unfold(below) for _, below in _children(word, schema[word]))
        counts[id(schema)] = min(total, MOST_EXPANSIONS + 1)
        return min(total, MOST_EXPANSIONS + 1)

    for at, schema in subschemas(document):
        try:
            too_many = unfold(schema) > MOST_EXPANSIONS
        except RecursionError:
            too_many = True
        if too_many:
            yield (
                at,
                Text(
                    "Lược đồ tự lặp tại chỗ hoặc bung ra quá lớn qua các tham chiếu.",
                    "The schema loops in place, or unfolds into too many through its references.",
                ),
            )
            return


def differences(old: Any, new: Any, at: Path = ()) -> Iterator[Path]:
    """Where two JSON values differ, each place once. A list of another length differs as a whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            if name in old and name in new:
                yield from differences(old[name], new[name], (*at, name))
            else:
                yield (*at, name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, other, (*at, index))
    elif isinstance(old, bool) is not isinstance(new, bool) or old != new:
        yield at


def rewrite_references(schema: Any, root: str) -> Any:
    """The schema with every `#…` reference made to start at `root`, for a place inside another document."""
    if not isinstance(schema, dict):
        return schema
    moved: dict[str, Any] = {}
    for word, value in schema.items():
        if word == "$ref" and isinstance(value, str):
            moved[word] = root + value.removeprefix("#")
        elif word in MAPS and isinstance(value, dict):
            moved[word] = {name: rewrite_references(below, root) for name, below in value.items()}
        elif word in LISTS and isinstance(value, list):
            moved[word] = [rewrite_references(below, root) for below in value]
        else:
            moved[word] = rewrite_references(value, root) if word in SINGLES else value
    return moved


def embedded(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema as a component of OpenAPI: its references led to their new place, its own address left out."""
    found: dict[str, Any] = rewrite_references(schema, f"#/components/schemas/{name}")
    return {word: value for word, value in found.items() if word not in ("$id", "$schema")}


_OF_WHOLE = frozenset(
    (
        *("required", "dependentRequired", "dependentSchemas", "minProperties", "minItems", "contains", "minContains"),
        *("maxContains", "not", "if", "then", "else", "unevaluatedProperties", "unevaluatedItems"),
    )
)
"""What a value may keep only while it is whole."""


def of_what_is_left(schema: Any) -> Any:
    """A schema that takes whatever an agreement's fields leave of a value of `schema`: wider, and never narrower."""
    if not isinstance(schema, dict):
        return schema
    wider: dict[str, Any] = {}
    for word, value in schema.items():
        if word in _OF_WHOLE:
            continue
        # Of two branches that were apart, less than the whole may fit both.
        kept = "anyOf" if word == "oneOf" and "anyOf" not in schema else word
        if word in MAPS and isinstance(value, dict):
            wider[kept] = {name: of_what_is_left(below) for name, below in value.items()}
        elif word in LISTS and isinstance(value, list):
            if word != "oneOf" or kept == "anyOf":
                wider[kept] = [of_what_is_left(below) for below in value]
        else:
            wider[kept] = of_what_is_left(value) if word in SINGLES else value
    return wider
