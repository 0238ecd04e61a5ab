"""What is made from a schema: for every schema of the project, and for the keywords that providers use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy

from ngsp.adapter.generated import invalid, valid
from ngsp.registry.model import Schema

SCHEMAS = sorted((Path(__file__).parents[2] / "schemas").glob("*/v*/re*.json"))

KEYWORDS: list[dict[str, Any]] = [
    {"type": "integer", "minimum": 3, "exclusiveMaximum": 9, "multipleOf": 2},
    {"type": ["string", "null"], "minLength": 2, "maxLength": 3},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 2, "maxItems": 3, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "items": False, "minItems": 2},
    {"type": "string", "pattern": r"^[^\p{C}]{1,5}$"},
    {"type": "string", "pattern": r"^\P{L}+$", "maxLength": 4},
    {"type": "string", "format": "date", "pattern": "^20"},
    {"type": "number", "minimum": 0, "maximum": 1},
    {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/a"}, "b": {"type": "string"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        "additionalProperties": False,
        "$defs": {"a": {"oneOf": [{"type": "integer"}, {"type": "array", "items": {"$ref": "#/$defs/a"}}]}},
    },
    {"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"type": "boolean"}}}]},
]


def made(strategy: SearchStrategy[Any], number: int) -> list[Any]:
    found: list[Any] = []

    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def take(value: Any) -> None:
        found.append(value)

    take()
    return found


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: "-".join(path.parts[-3:]))
def test_every_schema_of_the_project_gives_requests_and_near_misses(path: Path) -> None:
    schema = Schema(orjson.loads(path.read_bytes()), "schema")
    assert [value for value in made(valid(schema), 10) if schema.faults(value)] == []
    refused = made(invalid(schema), 10)
    assert len(refused) == 10
    assert all(schema.faults(value) for value in refused)


@pytest.mark.parametrize("document", KEYWORDS, ids=lambda document: "-".join(sorted(document)))
@pytest.mark.parametrize("kind", [valid, invalid])
def test_the_keywords_that_providers_use(
    document: dict[str, Any], kind: Callable[[Schema], SearchStrategy[Any]]
) -> None:
    schema = Schema(document, "schema")
    values = made(kind(schema), 30)
    assert len({orjson.dumps(value) for value in values}) > 1
    assert all((schema.faults(value) == ()) is (kind is valid) for value in values)
