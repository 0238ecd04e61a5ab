"""Nothing taken under a version breaks a caller: for pairs of schemas that the rule accepts, whatever the narrower one
takes the wider one takes too, tried with the validator that runs in production."""

from __future__ import annotations

import copy
import itertools
import random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from ngsp.adapter.generated import valid
from ngsp.registry.compatibility import schema_faults
from ngsp.registry.inclusion import findings
from ngsp.registry.model import PATTERNS
from ngsp.registry.model import Schema as Compiled
from ngsp.registry.schemas import subschemas
from tests.registry.schema_pairs import AT, INCLUDED, INTEGER, NUMBER, PERSON, STRING, Schema, obj
from tests.support.effort import examples

NAMES = ("a", "b", "x-c")
LEAVES: list[Schema] = [
    {}, STRING, INTEGER, NUMBER, {"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]},
    {"type": "string", "minLength": 1}, {"type": "string", "maxLength": 2}, {"type": "string", "pattern": "^a"},
    {"type": "integer", "minimum": 0}, {"type": "integer", "maximum": 3}, {"type": "number", "exclusiveMinimum": 0},
    {"type": "integer", "multipleOf": 2}, {"enum": ["a", "ab", 1]}, {"enum": [1, 2]}, {"const": "a"}, {"const": None},
    {"type": "number", "minimum": 0, "maximum": 3}, {"not": STRING}, {"minimum": 1}, {"minLength": 2},
]  # fmt: skip


def schemas(depth: int = 2) -> st.SearchStrategy[Schema]:
    leaf = st.sampled_from(LEAVES)
    if depth == 0:
        return leaf
    below = schemas(depth - 1)
    several = st.lists(below, min_size=1, max_size=3)
    properties = st.dictionaries(st.sampled_from(NAMES), below, max_size=3)
    objects = st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": properties,
            "required": st.lists(st.sampled_from(NAMES), unique=True, max_size=2),
            "additionalProperties": st.booleans() | below,
            "patternProperties": st.dictionaries(st.just("^x-"), below, max_size=1),
            "maxProperties": st.integers(0, 2),
            "minProperties": st.integers(0, 2),
            "propertyNames": st.sampled_from([{"maxLength": 1}, {"enum": ["a", "b"]}]),
            "dependentRequired": st.just({"a": ["b"]}),
        },
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={
            "items": below,
            "minItems": st.integers(0, 2),
            "maxItems": st.integers(0, 3),
            "uniqueItems": st.booleans(),
            "contains": leaf,
        },
    )
    joined = st.one_of(*(st.fixed_dictionaries({word: several}) for word in ("anyOf", "oneOf", "allOf")))
    both = st.tuples(leaf, joined).map(lambda pair: pair[0] | pair[1])
    return st.one_of(leaf, objects, objects, arrays, joined, both)


def _places(schema: Any) -> list[Schema]:
    return [place for _, place in subschemas(schema) if isinstance(place, dict)]


def changed(schema: Schema, seed: int) -> Schema:
    """Some small changes somewhere: a word dropped, added, moved, a branch more or less, another leaf."""
    rng, new = random.Random(seed), copy.deepcopy(schema)
    for _ in range(rng.randint(1, 2)):
        place = rng.choice(_places(new))
        if place and rng.random() < 0.5:
            del place[rng.choice(sorted(place))]
        else:
            word = rng.choice(sorted(ADDED))
            place[word] = copy.deepcopy(rng.choice(ADDED[word]))
    return new


ADDED: dict[str, list[Any]] = {
    "type": ["string", "integer", "number", "object", "array", ["string", "null"], ["number", "string"]],
    "minLength": [0, 1, 2], "maxLength": [1, 2, 5], "minimum": [-1, 0, 1], "maximum": [1, 3], "exclusiveMinimum": [0],
    "required": [["a"], ["a", "b"], []], "additionalProperties": [True, False, STRING, NUMBER],
    "properties": [{"a": STRING}, {"a": NUMBER, "b": {}}, {}], "items": [NUMBER, STRING, {}], "minItems": [0, 1],
    "maxItems": [1, 2], "uniqueItems": [True], "enum": [["a", 1], ["a", "ab", 1, None]], "const": ["a", 1],
    "anyOf": [[STRING, NUMBER], [{"type": "null"}, {}]], "oneOf": [[STRING, INTEGER], [STRING, {"minLength": 2}]],
    "not": [STRING, {"type": "null"}, {"minLength": 2}], "multipleOf": [1, 2, 4],
    "patternProperties": [{"^x-": NUMBER}],
    "minProperties": [0, 1], "maxProperties": [1, 3], "pattern": ["^a", "b"], "dependentRequired": [{"a": ["b"]}],
    "if": [STRING], "then": [{"maxLength": 2}], "else": [NUMBER], "contains": [STRING],
    "propertyNames": [{"maxLength": 1}],
    "prefixItems": [[STRING, NUMBER], [{}]], "unevaluatedProperties": [False],
    "dependentSchemas": [{"a": {"required": ["b"]}}],
}  # fmt: skip
_SCALARS = [None, True, False, 0, 1, 2, 3, 4, -1, 1.0, 0.5, 2.5, "", "a", "ab", "b", "abc", "ba"]
_VALUES: list[Any] = [None, 1, "a", "abc", 0.5, {"a": 1}, []]
POOL: list[Any] = [
    *_SCALARS,
    *([one] for one in _SCALARS),
    [], [1, 1], ["a", "a"], ["a", 1], ["a", 1, 2], [1, 2, 3], [[], {}], [{"a": 1}],
    {},
    *({name: value} for name in (*NAMES, "zz") for value in _SCALARS),
    *({"a": one, "b": other} for one, other in itertools.product(_VALUES, repeat=2)),
    {"a": "a", "b": "a", "x-c": 1}, {"a": 1, "b": 1, "zz": 1}, {"a": {"a": "a"}}, {"a": {"b": 5}}, {"b": [1, "a"]},
    {"x-c": "x", "zz": 1}, {"a": {"a": {"a": 1}}},
]  # fmt: skip


def validator(schema: Any) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, pattern_options=PATTERNS)


EXTENSIVE = settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)


@EXTENSIVE
@given(schemas(), st.integers(0, 2**32))
def test_nothing_that_the_rule_takes_breaks_a_caller(schema: Schema, seed: int) -> None:
    """In both directions: as a request that widens, and as a reply that narrows."""
    check_both_directions(schema, changed(schema, seed))


@pytest.mark.long
@settings(EXTENSIVE, max_examples=4_000)
@given(schemas(3), st.integers(0, 2**32))
def test_nothing_that_the_rule_takes_breaks_a_caller_at_length(schema: Schema, seed: int) -> None:
    check_both_directions(schema, changed(schema, seed))


def check_both_directions(schema: Schema, other: Schema) -> None:
    validators = {id(one): validator(one) for one in (schema, other)}
    for narrower, wider in ((schema, other), (other, schema)):
        if schema_faults("request", narrower, wider, AT):
            continue
        taken = validators[id(narrower)].is_valid
        for value in POOL:
            if taken(value):
                assert validators[id(wider)].is_valid(value), (narrower, wider, value)


@settings(EXTENSIVE, max_examples=50)
@given(st.data())
def test_whatever_the_narrower_takes_the_wider_takes(data: st.DataObject) -> None:
    """The same with values generated from the narrower schema, however deep they are."""
    schema = data.draw(schemas())
    other = changed(schema, data.draw(st.integers(0, 2**32)))
    narrower, wider = data.draw(st.sampled_from([(schema, other), (other, schema)]))
    assume(not schema_faults("reply", wider, narrower, AT))
    compiled = Compiled(narrower, "narrower")
    assume(any(compiled.validator.is_valid(value) for value in POOL))
    try:
        value = data.draw(valid(compiled))
    except InvalidArgument:
        reject()  # contradictory bounds deep inside, for which nothing can be generated
    assert validator(wider).is_valid(value)


@pytest.mark.parametrize("name", [name for name, pair in INCLUDED.items() if isinstance(pair[0], dict)])
@settings(EXTENSIVE, max_examples=10)
@given(st.data())
def test_the_examples_of_what_is_taken_are_right(name: str, data: st.DataObject) -> None:
    narrower, wider = INCLUDED[name]
    assert validator(wider).is_valid(data.draw(valid(Compiled(narrower, "narrower"))))


@settings(EXTENSIVE, max_examples=examples(100))
@given(schemas())
def test_a_schema_may_always_stay_as_it_is(schema: Schema) -> None:
    assert findings(schema, copy.deepcopy(schema)) == []


def test_most_small_widenings_are_taken() -> None:
    """A rule that refused everything would be safe, too: of plain changes it must see that they are harmless."""
    harmless: list[tuple[Schema, Schema]] = [
        (PERSON, obj({**PERSON["properties"], name: leaf}, required=["name"]))
        for name, leaf in itertools.product(("x", "y"), LEAVES)
    ]
    harmless += [(leaf, {"anyOf": [leaf, other]}) for leaf, other in itertools.product(LEAVES, LEAVES)]
    harmless += [(obj({"a": leaf}), {"type": "object", "properties": {"a": leaf}}) for leaf in LEAVES]
    harmless += [({"type": "array", "items": leaf, "minItems": 1}, {"type": "array", "items": leaf}) for leaf in LEAVES]
    assert [pair for pair in harmless if findings(*pair)] == []
