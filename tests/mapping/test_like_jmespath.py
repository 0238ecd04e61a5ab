"""What our closures make of an expression is what the library's own interpreter makes of it."""

from __future__ import annotations

import json
import math
from typing import Any

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jmespath.exceptions import JMESPathError

from ngsp.mapping.compiler import BROKEN, MappingError, closure, parse
from ngsp.text import Wrong
from tests.support.effort import examples

NAMES = ("a", "b", "c", "d e")

names = st.sampled_from(NAMES)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, -1.5, 2.0]),
    st.sampled_from(["", "a", "b", "ab", "12", "-3.5", "x"]),
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=25,
)
roots = st.dictionaries(names, documents, max_size=4)

identifiers = names.map(lambda name: json.dumps(name) if " " in name else name)
literals = documents.map(lambda value: f"`{json.dumps(value)}`") | st.sampled_from(["'a'", "'ab'", "''"])
indexes = st.integers(-3, 3).map(lambda number: f"[{number}]")
_ends = st.one_of(st.just(""), st.integers(-3, 3).map(str))
slices = st.tuples(_ends, _ends, st.sampled_from(["", ":", ":1", ":2", ":-1"])).map(
    lambda parts: f"[{parts[0]}:{parts[1]}{parts[2]}]"
)
ONE = "abs avg not_null to_array to_string to_number length reverse ceil floor max min sort sum keys values type merge"
TWO = "contains ends_with starts_with join merge not_null"


def _joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.tuples(inner, inner)
    members = st.lists(st.tuples(identifiers, inner), min_size=1, max_size=3)
    return st.one_of(
        st.tuples(inner, identifiers).map(".".join),
        st.tuples(inner, indexes | slices | st.sampled_from(["[]", "[*]"])).map("".join),
        st.tuples(inner, identifiers).map("[*].".join),
        inner.map(lambda text: f"{text}.*"),
        pair.map(lambda both: f"{both[0]}[?{both[1]}]"),
        pair.map(lambda both: f"({both[0]}) | ({both[1]})"),
        pair.map(lambda both: f"({both[0]} || {both[1]})"),
        pair.map(lambda both: f"({both[0]} && {both[1]})"),
        inner.map(lambda text: f"!({text})"),
        st.tuples(inner, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), inner).map(
            lambda it: f"({' '.join(it)})"
        ),
        members.map(lambda some: "{" + ", ".join(f"{name}: {value}" for name, value in some) + "}"),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: f"[{', '.join(some)}]"),
        st.tuples(st.sampled_from(ONE.split()), inner).map(lambda it: f"{it[0]}({it[1]})"),
        st.tuples(st.sampled_from(TWO.split()), inner, inner).map(lambda it: f"{it[0]}({it[1]}, {it[2]})"),
        pair.map(lambda both: f"map(&{both[0]}, {both[1]})"),
        st.tuples(st.sampled_from(["sort_by", "min_by", "max_by"]), inner, inner).map(
            lambda it: f"{it[0]}({it[1]}, &{it[2]})"
        ),
    )


expressions = st.recursive(identifiers | literals | st.just("@"), _joined, max_leaves=8)


def outcome(work: Any) -> Any:
    """What it gives, or that it fails; NaN as itself."""
    try:
        found = work()
    except (MappingError, *BROKEN):
        return "fails"
    return "nan" if isinstance(found, float) and math.isnan(found) else json.dumps(found)


@settings(max_examples=examples(300), deadline=None)
@given(expressions, roots)
def test_generated_expressions_mean_the_same(expression: str, document: dict[str, Any]) -> None:
    try:
        tree = parse(expression)
    except Wrong:
        with pytest.raises(JMESPathError):
            jmespath.compile(expression)
        return
    evaluate = closure(tree, {})
    theirs = outcome(lambda: jmespath.search(expression, document))
    assert outcome(lambda: evaluate(document)) == theirs
