"""The schema that callers are told of replies takes what any agreement leaves of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from ngsp.access import cut
from ngsp.registry.schemas import of_what_is_left

SCHEMAS = Path(__file__).parents[2] / "schemas"
WHOLE: dict[str, Any] = {
    "type": "object",
    "required": ["kind", "who"],
    "minProperties": 2,
    "oneOf": [
        {"properties": {"kind": {"const": "person"}, "who": {"$ref": "#/$defs/person"}}, "required": ["kind", "who"]},
        {"properties": {"kind": {"const": "office"}, "desk": {"type": "string"}}, "required": ["kind", "desk"]},
    ],
    "if": {"properties": {"kind": {"const": "person"}}, "required": ["kind"]},
    "then": {"required": ["born"]},
    "not": {"required": ["forbidden"]},
    "dependentRequired": {"born": ["who"]},
    "unevaluatedProperties": False,
    "properties": {"born": {"type": "string", "format": "date"}, "list": {"type": "array", "items": {"$ref": "#"}}},
    "$defs": {
        "person": {
            "type": "object",
            "required": ["first", "last"],
            "additionalProperties": False,
            "properties": {"first": {"type": "string"}, "last": {"type": "string"}},
        }
    },
}
PERSON = {"kind": "person", "who": {"first": "An", "last": "Trần"}, "born": "2000-01-01"}


def pointers(value: Any, at: str = "") -> Iterator[str]:
    """Every pointer that a grant of `value` could name."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from pointers(below, f"{at}/{name}")
    elif isinstance(value, list):
        for below in value:
            yield from pointers(below, f"{at}/*")
    yield at


def validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def replies() -> Iterator[tuple[str, dict[str, Any], Any]]:
    yield "made up", WHOLE, PERSON | {"list": [PERSON, {"kind": "office", "desk": "7", "who": {}}]}
    for path in sorted(SCHEMAS.glob("*/*/reply.json")):
        for example in sorted((path.parent / "examples").glob("*.json")):
            document = json.loads(example.read_bytes())
            if "reply" in document:
                yield f"{path.parent.parent.name} {example.stem}", json.loads(path.read_bytes()), document["reply"]


CASES = list(replies())


@pytest.mark.parametrize(("schema", "reply"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_whatever_is_left_fits(schema: dict[str, Any], reply: Any) -> None:
    left = validator(of_what_is_left(schema))
    assert left.is_valid(reply)
    every = sorted(set(pointers(reply)) - {""})
    chance = random.Random(7)
    grants = [(pointer,) for pointer in every] + [tuple(chance.sample(every, len(every) // 2)) for _ in range(50)]
    for grant in grants:
        granted = cut(reply, grant)
        assert left.is_valid(granted), (grant, granted)


def test_what_is_wrong_stays_wrong() -> None:
    left = validator(of_what_is_left(WHOLE))
    assert validator(WHOLE).is_valid(PERSON)
    person = {"kind": "person"}
    wrongs: list[Any] = [person | {"who": {"first": 7}}, person | {"who": {"x": ""}}, {"born": "x"}, {"list": {}}, []]
    for wrong in wrongs:
        assert not left.is_valid(wrong), wrong
