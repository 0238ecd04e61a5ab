"""Upgrades under a version: what is taken, what is refused where, and that nothing taken breaks a caller.

The properties at the end are what counts: for pairs of schemas that the rule accepts, whatever the narrower one takes
the wider one takes too, tried with the validator that runs in production.
"""

from __future__ import annotations

import copy
import itertools
import random
import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

from ngsp.adapter.generated import valid
from ngsp.errors import Fault
from ngsp.registry.compatibility import promise_faults, schema_faults
from ngsp.registry.inclusion import findings
from ngsp.registry.model import PATTERNS
from ngsp.registry.model import Schema as Compiled
from ngsp.registry.schemas import subschemas

AT = ("services", 0, "schema")
Schema = dict[str, Any]


def obj(properties: Schema | None = None, **others: Any) -> Schema:
    """A closed object."""
    return {"type": "object", "properties": properties or {}, "additionalProperties": False} | others


STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
PERSON = obj({"name": STRING, "age": INTEGER}, required=["name"])
LINK = obj({"value": INTEGER, "next": {"$ref": "#"}})
NULLABLE = {"anyOf": [STRING, {"type": "null"}]}
CIRCLE = obj({"kind": {"const": "circle"}, "radius": NUMBER}, required=["kind"])
SQUARE = obj({"kind": {"const": "square"}, "side": NUMBER}, required=["kind"])
EITHER = {"if": {"required": ["a"]}, "then": {"required": ["b"]}}
NAMED = {"type": "object", "properties": {"x": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "string"}}}

# What each schema of a pair takes: all of the first is taken by the second.
INCLUDED: dict[str, tuple[Any, Any]] = {
    "the same": (PERSON, copy.deepcopy(PERSON)),
    "explained otherwise": (PERSON, {**PERSON, "title": "Người", "$comment": "x", "examples": [1]}),
    "an optional field more": (PERSON, obj({**PERSON["properties"], "mail": STRING}, required=["name"])),
    "no longer required": (PERSON, obj(PERSON["properties"])),
    "opened": (PERSON, {**PERSON, "additionalProperties": True}),
    "open, the words left out": (PERSON, {"type": "object", "required": ["name"]}),
    "additional fields typed": (
        {**PERSON, "additionalProperties": INTEGER},
        {**PERSON, "additionalProperties": NUMBER},
    ),
    "more types": (STRING, {"type": ["string", "null"]}),
    "integers are numbers": (INTEGER, NUMBER),
    "lists of types": ({"type": ["integer", "null"]}, {"type": ["null", "number", "string"]}),
    "more values": ({"enum": ["a", "b"]}, {"enum": ["b", "c", "a"]}),
    "one of the values": ({"const": "a"}, {"enum": ["a", "b"]}),
    "values of the type": ({"enum": ["a", "b"]}, {"type": "string", "maxLength": 1}),
    "values that fit a pattern": ({"enum": ["ab", "b"]}, {"type": "string", "pattern": "b$"}),
    "1 and 1.0": ({"const": 1}, {"const": 1.0}),
    "both booleans": ({"type": "boolean"}, {"enum": [True, False, 5]}),
    "bounds widened": (
        {"type": "string", "minLength": 3, "maxLength": 5},
        {"type": "string", "minLength": 2, "maxLength": 9},
    ),
    "numbers widened": ({"minimum": 3, "exclusiveMaximum": 5}, {"exclusiveMinimum": 2.5, "maximum": 5}),
    "whole numbers between bounds": (
        {"type": "integer", "exclusiveMinimum": 2, "maximum": 5.5},
        {"minimum": 3, "exclusiveMaximum": 6},
    ),
    "multiples": ({"type": "integer", "multipleOf": 6}, {"type": "integer", "multipleOf": 3}),
    "whole numbers are multiples of one": (INTEGER, {"type": "number", "multipleOf": 1}),
    "a pattern kept": ({"pattern": "^a"}, {"pattern": "^a"}),
    "a pattern dropped": ({"type": "string", "pattern": "^a"}, STRING),
    "a format kept": ({"type": "string", "format": "date", "minLength": 2}, {"type": "string", "format": "date"}),
    "a pattern that no value meets": (INTEGER, {"pattern": "^a", "minLength": 5}),
    "fields of something that is no object": (STRING, {"required": ["a"], "minItems": 3, "minimum": 4}),
    "items widened": ({"type": "array", "items": INTEGER}, {"type": "array", "items": NUMBER}),
    "fewer items wanted": ({"type": "array", "minItems": 2, "maxItems": 3}, {"minItems": 1, "maxItems": 3}),
    "places become items": (
        {"type": "array", "prefixItems": [INTEGER, STRING], "items": False},
        {"type": "array", "items": {"type": ["integer", "string"]}},
    ),
    "items become places": ({"type": "array", "items": INTEGER}, {"prefixItems": [NUMBER], "items": INTEGER}),
    "one item is unique": ({"type": "array", "maxItems": 1}, {"uniqueItems": True}),
    "contains kept": ({"contains": STRING, "minContains": 2}, {"contains": STRING, "minContains": 2}),
    "required implies how many": ({"type": "object", "required": ["a", "b"]}, {"minProperties": 2}),
    "closed implies how many": (PERSON, {"maxProperties": 2}),
    "patterns of names": (
        {"type": "object", "patternProperties": {"^x-": INTEGER}, "additionalProperties": False},
        {"type": "object", "patternProperties": {"^x-": NUMBER}, "additionalProperties": False},
    ),
    "a name that fits a pattern": (obj({"x-a": INTEGER}), {"patternProperties": {"^x-": NUMBER}}),
    "a pattern within what is additional": (
        {"type": "object", "patternProperties": {"^x-": INTEGER}, "additionalProperties": False},
        {"type": "object", "additionalProperties": NUMBER},
    ),
    "names": (obj({"ab": STRING}), {"propertyNames": {"maxLength": 2}}),
    "names bounded": ({"propertyNames": {"maxLength": 2}}, {"propertyNames": {"maxLength": 3}}),
    "a dependent name": (
        {"type": "object", "required": ["b"]},
        {"type": "object", "dependentRequired": {"a": ["b"]}},
    ),
    "a name that cannot be": (obj({"a": STRING}), {"dependentRequired": {"c": ["d"]}}),
    "a field that cannot be": (obj({"a": False, "b": STRING}), obj({"b": STRING})),
    "reference inlined": (NAMED, {"type": "object", "properties": {"x": STRING}}),
    "reference renamed": (NAMED, {**NAMED, "properties": {"x": {"$ref": "#/$defs/m"}}, "$defs": {"m": STRING}}),
    "recursive": (LINK, obj({"value": NUMBER, "next": {"$ref": "#"}})),
    "recursive by another name": (
        LINK,
        {"$ref": "#/$defs/l", "$defs": {"l": obj({"value": INTEGER, "next": {"$ref": "#/$defs/l"}})}},
    ),
    "all of it": ({"allOf": [{"minLength": 2}, STRING]}, {"type": "string", "minLength": 1}),
    "into all of it": ({"type": "string", "minLength": 2}, {"allOf": [{"minLength": 2}, STRING]}),
    "an alternative more": (NULLABLE, {"anyOf": [INTEGER, {"type": "null"}, STRING]}),
    "into an alternative": (STRING, NULLABLE),
    "types as alternatives": ({"type": ["string", "null"]}, NULLABLE),
    "alternatives as types": (NULLABLE, {"type": ["null", "string"]}),
    "alternatives in both": ({"anyOf": [INTEGER, STRING]}, {"oneOf": [STRING, NUMBER]}),
    "one of, told apart by a constant": ({"oneOf": [CIRCLE]}, {"oneOf": [CIRCLE, SQUARE]}),
    "the same one of": ({"oneOf": [STRING, {"minLength": 3}]}, {"oneOf": [STRING, {"minLength": 3}]}),
    "not": (INTEGER, {"not": STRING}),
    "not, by values": ({"enum": ["a"]}, {"not": {"enum": ["b"]}}),
    "not, kept": ({"not": {"pattern": "x"}, "type": "string"}, {"not": {"pattern": "x"}}),
    "a condition kept": ({**EITHER, "type": "object"}, EITHER),
    "a condition without consequence": ({"type": "object", "required": ["b"]}, EITHER),
    "unevaluated, the same": ({**PERSON, "unevaluatedProperties": False}, {**PERSON, "unevaluatedProperties": False}),
    "nothing": (False, STRING),
    "anything": (STRING, True),
    "an unknown word kept": ({"x-unit": "VND", "type": "integer"}, {"x-unit": "VND"}),
}  # fmt: skip

# All of the first is not taken by the second, or it cannot be shown; where, in the second.
NOT_INCLUDED: dict[str, tuple[Any, Any, list[str]]] = {
    "becomes required": (PERSON, {**PERSON, "required": ["name", "age"]}, ["/required"]),
    "closed": ({**PERSON, "additionalProperties": True}, PERSON, ["/additionalProperties"]),
    "a field gone": (PERSON, obj({"name": STRING}, required=["name"]), ["/additionalProperties"]),
    "a field that could be anything": ({"type": "object"}, {"properties": {"a": STRING}}, ["/properties/a/type"]),
    "fewer types": ({"type": ["string", "null"]}, STRING, ["/type"]),
    "numbers are no integers": (NUMBER, INTEGER, ["/type"]),
    "fewer values": ({"enum": ["a", "b"]}, {"enum": ["a"]}, ["/enum"]),
    "a list of values": (STRING, {"enum": ["a"]}, ["/enum"]),
    "true is not 1": ({"const": True}, {"const": 1}, ["/const"]),
    "bounds": (
        {"type": "string", "minLength": 2, "maxLength": 9},
        {"type": "string", "minLength": 3, "maxLength": 5},
        ["/minLength", "/maxLength"],
    ),
    "an excluded bound": ({"type": "number", "minimum": 3}, {"exclusiveMinimum": 3}, ["/exclusiveMinimum"]),
    "fractions between": (
        {"type": "number", "exclusiveMinimum": 2},
        {"type": "number", "minimum": 3},
        ["/minimum"],
    ),
    "multiples": ({"type": "integer", "multipleOf": 3}, {"type": "integer", "multipleOf": 6}, ["/multipleOf"]),
    "another pattern, though wider": ({"pattern": "^ab"}, {"pattern": "^a"}, ["/pattern"]),
    "another format": ({"format": "date", "type": "string"}, {"format": "date-time"}, ["/format"]),
    "items": ({"items": NUMBER}, {"items": INTEGER}, ["/items/type"]),
    "an item's place": ({"type": "array"}, {"prefixItems": [INTEGER]}, ["/prefixItems/0/type"]),
    "items beyond": (
        {"prefixItems": [STRING, STRING]}, {"prefixItems": [STRING], "items": INTEGER}, ["/items/type", "/items/type"],
    ),
    "unique": ({"type": "array"}, {"uniqueItems": True}, ["/uniqueItems"]),
    "contains": ({"type": "array"}, {"contains": STRING}, ["/contains"]),
    "contains more": ({"contains": STRING}, {"contains": STRING, "minContains": 2}, ["/contains"]),
    "names": ({"type": "object"}, {"propertyNames": {"maxLength": 3}}, ["/propertyNames/maxLength"]),
    "patterns of names": (
        {"patternProperties": {"^x": INTEGER}, "additionalProperties": False},
        {"patternProperties": {"^x-": INTEGER}, "additionalProperties": False},
        ["/patternProperties/^x-/type", "/additionalProperties"],
    ),
    "deep inside": (obj({"a": {"items": PERSON}}), obj({"a": {"items": {**PERSON, "required": ["age", "name"]}}}), [
        "/properties/a/items/required"]),
    "behind a reference": (NAMED, {**NAMED, "$defs": {"n": {"maxLength": 5}}}, ["/$defs/n/maxLength"]),
    "recursive": (LINK, obj({"value": STRING, "next": {"$ref": "#"}}), ["/properties/value/type"]),
    "an alternative gone": ({"anyOf": [STRING, INTEGER]}, {"anyOf": [STRING, {"type": "null"}]}, ["/anyOf"]),
    "one of, not told apart": (STRING, {"oneOf": [STRING, {"minLength": 3}]}, ["/oneOf"]),
    "not": (STRING, {"not": {"minLength": 3}}, ["/not"]),
    "a condition": ({"type": "object"}, EITHER, ["/if"]),
    "unevaluated, with other neighbours": (
        {"properties": {"a": STRING}, "unevaluatedProperties": False},
        {"properties": {"b": STRING}, "unevaluatedProperties": False},
        ["/properties/b/type", "/unevaluatedProperties"],
    ),
    "an unknown word": ({}, {"x-unit": "VND"}, ["/x-unit"]),
    "nothing": (STRING, False, [""]),
}  # fmt: skip


@pytest.mark.parametrize("name", INCLUDED)
def test_what_is_taken(name: str) -> None:
    narrower, wider = INCLUDED[name]
    assert findings(narrower, wider) == []
    if isinstance(narrower, dict) and isinstance(wider, dict):
        assert schema_faults("request", narrower, wider, AT) == []
        assert schema_faults("reply", wider, narrower, AT) == []


@pytest.mark.parametrize("name", NOT_INCLUDED)
def test_what_is_not_taken_and_where(name: str) -> None:
    narrower, wider, places = NOT_INCLUDED[name]
    found = findings(narrower, wider)
    assert ["".join(f"/{step}" for step in (*one.wider, one.word) if step != "") for one in found] == places


def told(faults: list[Fault]) -> dict[str, tuple[str, str]]:
    return {fault.pointer: (fault.detail.vi, fault.detail.en) for fault in faults}


def test_conflicts_are_explained_in_both_languages_at_their_place_in_the_new_document() -> None:
    old = obj({"id": {"type": "string", "maxLength": 12}, "sex": {"enum": ["nam", "nữ"]}}, required=["id"])
    new = obj({"id": {"type": "string", "maxLength": 10}, "sex": {"enum": ["nam"]}}, required=["id", "sex"])
    requests = told(schema_faults("request", old, new, ("services", 3, "request_schema")))
    assert requests == {
        "/services/3/request_schema/properties/id/maxLength": (
            "Chặt hơn trước, nên yêu cầu từng hợp lệ sẽ bị từ chối: maxLength 12 → 10.",
            "Stricter than before, so that requests that were valid would be refused: maxLength 12 → 10.",
        ),
        "/services/3/request_schema/properties/sex/enum": (
            "Giá trị từng được nhận nay bị từ chối: nữ.",
            "Values that were taken are refused now: nữ.",
        ),
        "/services/3/request_schema/required": ("Trường trở thành bắt buộc: sex.", "Becomes required: sex."),
    }
    assert schema_faults("reply", old, new, AT) == [], "the same change is welcome in a reply"
    replies = told(schema_faults("reply", new, old, ("services", 3, "reply_schema")))
    assert replies == {
        "/services/3/reply_schema/properties/id/maxLength": (
            "Rộng hơn điều đã hứa với bên khai thác: maxLength 10 → 12.",
            "Wider than what consumers were promised: maxLength 10 → 12.",
        ),
        "/services/3/reply_schema/properties/sex/enum": (
            "Có thể là giá trị chưa từng hứa: nữ.",
            "May be a value that was not promised: nữ.",
        ),
        "/services/3/reply_schema/required": (
            "Trường không còn chắc chắn có: sex.",
            "Is not certain to be there any more: sex.",
        ),
    }


def test_a_new_field_in_a_reply_is_told_by_its_name() -> None:
    new = obj({**PERSON["properties"], "salary": INTEGER}, required=["name"])
    found = told(schema_faults("reply", PERSON, new, AT))
    assert [texts[1] for texts in found.values()] == ["May hold fields that were not promised: salary."]
    assert told(schema_faults("reply", PERSON, {"type": "object", "required": ["name"]}, AT)).keys() == {
        "/services/0/schema/properties/name/type", "/services/0/schema/properties/age/type",
        "/services/0/schema/additionalProperties",
    }  # fmt: skip


def test_what_is_promised_beside_the_schemas() -> None:
    old = {"mode": "query", "effect": "idempotent", "subjects": ["/id"], "officer_required": False, "order": None,
           "deadline_s": 5.0, "max_body_bytes": 4096}  # fmt: skip
    assert list(promise_faults(old, {**old, "deadline_s": 8.5, "max_body_bytes": 9000}, AT)) == []
    changed = {"mode": "submission", "effect": "uncertain", "subjects": [], "officer_required": True, "order": "/id",
               "deadline_s": 4.0, "max_body_bytes": 1000}  # fmt: skip
    found = list(promise_faults(old, changed, AT))
    assert [fault.pointer.rpartition("/")[2] for fault in found] == list(changed)
    assert found[-2].detail.en == "May only grow: 5 → 4."


def test_entangled_schemas_end_in_time_and_count_as_a_conflict() -> None:
    def maze(leaf: Schema) -> Schema:
        """Alternatives within alternatives, all alike, so that every split leads to more of them."""
        levels = {f"d{n}": {"anyOf": [obj({"a": {"$ref": f"#/$defs/d{n + 1}"}, f"x{k}": STRING}) for k in range(6)]}
                  for n in range(12)}  # fmt: skip
        return {"$ref": "#/$defs/d0", "$defs": {**levels, "d12": leaf}}

    began_s = time.monotonic()
    found = schema_faults("request", maze(NUMBER), maze(INTEGER), AT)
    assert found and time.monotonic() - began_s < 20
    wide = obj({f"field-{n}": {"type": "string", "maxLength": n + 5} for n in range(1500)})
    wider = obj({f"field-{n}": {"type": "string", "maxLength": n + 6} for n in range(1500)})
    began_s = time.monotonic()
    assert schema_faults("request", wide, wider, AT) == []
    assert time.monotonic() - began_s < 10


# --- properties ------------------------------------------------------------------------------------------------------

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
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
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


@settings(EXTENSIVE, max_examples=100)
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
