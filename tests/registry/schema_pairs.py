"""Pairs of schemas: where the second takes all that the first takes, and where it does not, or not surely."""

from __future__ import annotations

import copy
from typing import Any

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
