"""Texts with expressions in braces, and shapes."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngsp.mapping import Expression, MappingError, PathTemplate, Scope, Shape, Template
from ngsp.text import Wrong

SCOPE = Scope(("payload", "id"), {"a}b": {"1": "một"}})


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{payload.a}", "1"),
        ("x{payload.a}y{payload.b}z", "x1yhaiz"),
        ("{payload.{n: a}.n}", "1"),
        ("{lookup('a}b', payload.a)}", "một"),
        ('{payload."c}d"}', "ba"),
        ("{payload.a == `1` && '{' || '}'}", "{"),
        ("{payload.f}", "1.5"),
    ],
)
def test_expressions_in_braces(template: str, expected: str) -> None:
    payload = {"a": 1, "b": "hai", "c}d": "ba", "f": 1.5}
    assert Template.compile(template, SCOPE)({"payload": payload, "id": "x"}) == expected


@pytest.mark.parametrize("template", ["{", "}", "a{b", "{payload.a}}", "{'}", "{payload.{a: b}", "{payload.a}{"])
def test_braces_that_do_not_match(template: str) -> None:
    with pytest.raises(Wrong):
        Template.compile(template, SCOPE)


@pytest.mark.parametrize("value", [None, True, [], {}, ["a"]])
def test_what_is_no_text_fills_no_template(value: Any) -> None:
    with pytest.raises(MappingError):
        Template.compile("{payload}", SCOPE)({"payload": value})


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_value_is_one_segment_whatever_it_is(value: str) -> None:
    template = PathTemplate.compile("/a/{payload}/b", SCOPE)
    if value in (".", ".."):
        with pytest.raises(MappingError):
            template({"payload": value})
        return
    path = template({"payload": value})
    assert path.isascii()
    assert path.count("/") == 3
    assert unquote(path) == f"/a/{value}/b"


def test_what_a_template_and_a_shape_read_is_known() -> None:
    assert Template.compile("{payload.a}-{id}", SCOPE).reads == {"payload", "id"}
    assert Template.compile("/x/{id}/y", SCOPE).literal == "/x//y"
    assert Shape.compile({"a": "payload.x", "b": {"c": "[id]", "d": 5}}, SCOPE).reads == {"payload", "id"}
    assert Expression.compile("payload[*].{a: id}", SCOPE).reads == {"payload"}, "id is a member of each item"
    assert Expression.compile("sort_by(payload, &id)", SCOPE).reads == {"payload"}


def test_a_shape_is_an_object_of_expressions() -> None:
    shape = Shape.compile({"a": "payload.x", "b": {"c": "'text'", "d": 5, "e": None, "f": True}}, SCOPE)
    assert shape({"payload": {"x": [1]}}) == {"a": [1], "b": {"c": "text", "d": 5, "e": None, "f": True}}


def test_where_in_a_shape_something_is_wrong() -> None:
    with pytest.raises(Wrong) as found:
        Shape.compile({"a": {"b": "payload.x", "c": "nobody"}}, SCOPE)
    assert found.value.path == ("a", "c")


def test_an_expression_that_is_too_deep_or_too_long_is_refused() -> None:
    for source in ("(" * 3_000 + "payload" + ")" * 3_000, "payload" + ".a" * 5_000):
        with pytest.raises(Wrong):
            Expression.compile(source, SCOPE)
