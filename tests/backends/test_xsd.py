"""XML ↔ JSON-like values: what is written is valid by libxml2, what is read is what was meant, nothing is guessed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ngsp.adapter.backends.wsdl import Wsdl
from ngsp.adapter.backends.xsd_values import OffSchema
from ngsp.text import Wrong

FOLDER = Path(__file__).parent / "wsdl"
NS = "urn:test:types"
XSI = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
WSDL = Wsdl(FOLDER / "values.wsdl", FOLDER)
SCHEMA = etree.XMLSchema(file=str(FOLDER / "types.xsd"))
ELEMENT = WSDL.binding(None, "Eleven").get("Echo").input.body
READ, WRITE = WSDL.codec.reader(ELEMENT), WSDL.codec.writer(ELEMENT)
EMPTY: dict[str, Any] = {"needed": "x", "many": [], "two": []}


def written(value: Any) -> Any:
    """The element that `value` becomes, as it would arrive; checked by libxml2."""
    parent = etree.Element("parent")
    WRITE(parent, value)
    arrived = etree.fromstring(etree.tostring(parent[0]))
    SCHEMA.assertValid(arrived)
    return arrived


def read(inside: str, attributes: str = "") -> Any:
    return READ(etree.fromstring(f'<v:Values xmlns:v="{NS}" {XSI} {attributes}>{inside}</v:Values>'))


def value_of(name: str, inside: str) -> Any:
    return read(f"<v:needed>x</v:needed><v:{name}>{inside}</v:{name}>")[name]


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=30)
INTS = st.integers(-(2**31), 2**31 - 1)
LEAVES = st.fixed_dictionaries(
    {"needed": TEXTS, "many": st.lists(TEXTS, max_size=3), "two": st.lists(INTS, max_size=2)},
    optional={
        "text": TEXTS,
        "yes": st.booleans(),
        "int": INTS,
        "long": st.integers(-(2**53) + 1, 2**53 - 1),
        "decimal": st.decimals(allow_nan=False, allow_infinity=False).map("{:f}".format),
        "double": st.floats(allow_nan=False, allow_infinity=False),
        "date": st.dates().map(str),
        "code": st.from_regex("[A-Z]+", fullmatch=True),
        "names": st.lists(INTS, min_size=1, max_size=3),
        "money": st.fixed_dictionaries({"_value_1": INTS.map(str), "currency": TEXTS}),
        "left": TEXTS,
        "id": INTS,
    },
)
VALUES = st.recursive(LEAVES, lambda inner: st.builds(lambda one, part: one | {"part": part}, LEAVES, inner))


@given(VALUES)
def test_what_is_written_is_valid_and_reads_back_the_same(value: dict[str, Any]) -> None:
    assert READ(written(value)) == value


@pytest.mark.parametrize("text", ["]]>", "<a>&amp;</a>", "\"'", "<![CDATA[x]]>", "&lt;", "'; DROP TABLE x", "﷽ 𠮷 ệ"])
def test_markup_and_quotes_are_text(text: str) -> None:
    value = EMPTY | {"text": text, "many": [text], "money": {"_value_1": "1", "currency": text}}
    assert READ(written(value)) == value


@pytest.mark.parametrize("text", ["\x00", "a\x08", "\ufffe", "\ud800"])
def test_what_no_xml_can_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        written(EMPTY | {"text": text})


@pytest.mark.parametrize(
    ("name", "inside", "value"),
    [
        ("text", "", ""),
        ("text", " a\n b ", " a\n b "),
        ("text", "<![CDATA[<a>]]>", "<a>"),
        ("token", "  a   b ", "a b"),
        ("yes", " true ", True),
        ("yes", "0", False),
        ("yes", "", None),
        ("int", "-07", -7),
        ("int", "", None),
        ("decimal", " 12.50 ", "12.50"),
        ("decimal", "12345678901234567890.123456789", "12345678901234567890.123456789"),
        ("double", "1.5E3", 1500.0),
        ("date", "2025-07-01", "2025-07-01"),
        ("date", "2025-07-01+07:00", "2025-07-01+07:00"),
        ("date", "", None),
        ("time", "2025-07-01T07:30:00.25Z", "2025-07-01T07:30:00.25Z"),
        ("bytes", "UFVU", "UFVU"),
        ("names", "1 2  3", [1, 2, 3]),
        ("names", "", []),
        ("anything", "<a>1</a><a>2</a><b><c/></b>", {"a": ["1", "2"], "b": {"c": ""}}),
        ("anything", "text", "text"),
        ("open", "<v:known>1</v:known><x><y>2</y></x>", {"known": 1, "x": {"y": "2"}}),
        ("shape", "<v:name>a</v:name>", {"name": "a"}),
        ("woven", "<v:a>1</v:a><v:b>2</v:b><v:a>3</v:a><v:b>4</v:b>", {"a": [1, 3], "b": [2, 4]}),
    ],
)
def test_values_of_types(name: str, inside: str, value: Any) -> None:
    assert value_of(name, inside) == value


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("yes", "yes"),
        ("int", "1.0"),
        ("int", "một"),
        ("int", "9" * 5000),
        ("long", str(2**53)),
        ("decimal", "1,5"),
        ("decimal", "NaN"),
        ("double", "INF"),
        ("double", "1e999"),
        ("date", "01/07/2025"),
        ("time", "2025-07-01 07:30:00"),
        ("text", "<b/>"),
        ("names", "1 a"),
        ("shape", ""),
        ("money", "12"),
    ],
)
def test_what_is_not_of_its_type_is_refused(name: str, inside: str) -> None:
    if name == "money":
        assert value_of(name, inside) == {"_value_1": "12"}, "a missing attribute is told by its absence"
        return
    with pytest.raises(OffSchema):
        value_of(name, inside)


def test_nil_absent_and_empty_are_three_things() -> None:
    assert "text" not in read("<v:needed>x</v:needed>")
    assert read('<v:needed xsi:nil="true"/>')["needed"] is None
    assert read("<v:needed/>")["needed"] == ""
    assert READ(written({"needed": None})) == EMPTY | {"needed": None}
    assert READ(written({"needed": "x", "nil": None})) == EMPTY
    assert READ(written({"needed": ""})) == EMPTY | {"needed": ""}


def test_lists_are_lists_however_many() -> None:
    assert read("<v:needed>x</v:needed>")["many"] == []
    assert read("<v:needed>x</v:needed><v:many>1</v:many>")["many"] == ["1"]
    assert READ(written({"needed": "x", "many": "one"}))["many"] == ["one"]


def test_a_derived_type_is_read_as_what_it_says_it_is() -> None:
    inside = '<v:needed>x</v:needed><v:shape xsi:type="v:Circle"><v:name>c</v:name><v:radius>2</v:radius></v:shape>'
    assert read(inside)["shape"] == {"name": "c", "radius": 2}
    unknown = inside.replace("v:Circle", "v:Square")
    assert read(unknown)["shape"] == {"name": "c"}, "what the declared type does not know is passed over"


@pytest.mark.parametrize("prefix", ["", "v:"])
def test_order_new_elements_and_a_lax_use_of_namespaces_do_not_matter(prefix: str) -> None:
    inside = f"<{prefix}int>1</{prefix}int><{prefix}new><a/></{prefix}new><{prefix}needed>x</{prefix}needed>"
    assert read(inside) == EMPTY | {"int": 1}


@pytest.mark.parametrize("inside", ["", "<v:needed>x</v:needed><v:int>1</v:int><v:int>2</v:int>"])
def test_a_missing_element_and_one_too_many_are_refused(inside: str) -> None:
    with pytest.raises(OffSchema):
        read(inside)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"needed": "x", "unknown": 1},
        {"needed": "x", "int": "1.5"},
        {"needed": "x", "int": {"a": 1}},
        {"needed": "x", "int": True},
        {"needed": "x", "yes": "maybe"},
        {"needed": "x", "double": math.inf},
        {"needed": "x", "date": "01/07/2025"},
        {"needed": "x", "two": [1, 2, 3]},
        {"needed": "x", "many": ["a", None]},
        {"needed": "x", "money": {"_value_1": "1"}},
        {"needed": "x", "part": "text"},
        {"needed": ["x", "y"]},
        "text",
        None,
    ],
)
def test_values_that_fit_no_type_are_not_sent(value: Any) -> None:
    if value == {}:
        assert READ(written(value))["needed"] is None, "an element that may be nil is nil"
        return
    with pytest.raises(OffSchema):
        written(value)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("text", 7, "7"),
        ("text", True, "true"),
        ("text", 1.5, "1.5"),
        ("decimal", 1e-7, "0.0000001"),
        ("decimal", 5, "5"),
        ("decimal", 2.0, "2"),
        ("int", 2.0, "2"),
        ("int", "12", "12"),
        ("yes", "true", "true"),
        ("names", 5, "5"),
    ],
)
def test_numbers_are_written_as_the_schema_writes_them(name: str, value: Any, text: str) -> None:
    assert written(EMPTY | {name: value}).findtext(f"{{{NS}}}{name}") == text


@pytest.mark.parametrize(
    ("shape", "path"),
    [
        ({"needed": "a", "unknown": "b"}, ("arguments", "unknown")),
        ({"needed": "a", "part": {"need": "b"}}, ("arguments", "part", "need")),
        ({"needed": "a", "shape": {}}, ("arguments", "shape")),
        ({"needed": "a", "text": {"a": "b"}}, ("arguments", "text", "a")),
        ({"needed": "a", "woven": {"a": "b", "b": "c"}}, ("arguments", "woven", "a")),
    ],
)
def test_a_shape_that_can_give_no_message_is_refused_at_its_place(shape: Any, path: tuple[str, ...]) -> None:
    with pytest.raises(Wrong) as raised:
        WSDL.codec.check(ELEMENT.type, shape, ("arguments",))
    assert raised.value.path == path
