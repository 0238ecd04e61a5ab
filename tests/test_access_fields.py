"""What of a reply is given, and whom a request is about: held against oracles that go by the paths of values."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ngsp.access import cut, subjects_in
from ngsp.messages import ServiceKey
from ngsp.registry.model import Schema, Service
from ngsp.text import Text
from tests.support.effort import examples

NAME = Text("Tên", "Name")
OPEN = Schema({"type": "object"}, "0" * 64)
INDEX = object()
Path = tuple[object, ...]
"""Where a value stands: names, and INDEX for any place in an array."""


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is neither object nor array, with its path."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from leaves(below, (*path, name))
    elif isinstance(value, list):
        for below in value:
            yield from leaves(below, (*path, INDEX))
    else:
        yield path, value


def steps_of(pointer: str) -> list[str]:
    """RFC 6901 §4: `~1` first, then `~0`."""
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")][1:]


def leads_to(pointer: str, path: Path) -> bool:
    """True where `pointer` names the value at `path`, an array's every item by `*`."""
    steps = steps_of(pointer)
    return len(steps) == len(path) and all(
        step == "*" if place is INDEX else step == place for step, place in zip(steps, path, strict=True)
    )


def granted(pointers: tuple[str, ...], path: Path) -> bool:
    """True where some pointer names the value at `path` or something that it is part of."""
    return any(leads_to(pointer, path[:depth]) for pointer in pointers for depth in range(len(path) + 1))


NOTHING = object()


def expected_cut(value: Any, pointers: list[list[str]]) -> Any:
    """The shape too: objects and arrays on the way stay, items into which no pointer leads go."""
    if [] in pointers:
        return value
    if isinstance(value, dict):
        below = {name: [pointer[1:] for pointer in pointers if pointer[0] == name] for name in value}
        parts = {name: expected_cut(value[name], below[name]) for name in value if below[name]}
        return {name: part for name, part in parts.items() if part is not NOTHING}
    into = [pointer[1:] for pointer in pointers if pointer[0] == "*"]
    if isinstance(value, list) and into:
        return [part for item in value if (part := expected_cut(item, into)) is not NOTHING]
    return NOTHING


names = st.sampled_from(["a", "b", "c", "id", "*", "~", "/", "", "0", "-", "~1", "tên"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=3), st.floats(-1, 1))


def documents_of(scalar: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalar,
        lambda below: st.one_of(st.lists(below, max_size=4), st.dictionaries(names, below, max_size=5)),
        max_leaves=25,
    )


documents = documents_of(scalars)
texts = documents_of(st.one_of(st.sampled_from(["900000000001", "900000000002", "x"]), st.just(""), st.integers(0, 9)))
pointers = st.lists(st.one_of(names, st.just("*")), max_size=4).map(
    lambda steps: "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
)


@st.composite
def replies(draw: st.DrawFn, of: st.SearchStrategy[Any] = documents) -> tuple[Any, tuple[str, ...]]:
    """A reply and pointers, most of which lead somewhere in it."""
    document = draw(of)
    there = [path[:depth] for path, _ in leaves(document) for depth in range(len(path) + 1)]
    leading = [
        "".join("/*" if step is INDEX else "/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
        for path in there
    ]
    one = st.one_of(pointers, st.sampled_from(leading)) if leading else pointers
    return document, tuple(draw(st.lists(one, min_size=1, max_size=5)))


def counted(values: Iterator[tuple[Path, Any]]) -> Counter[tuple[Path, str]]:
    return Counter((path, repr(value)) for path, value in values)


@settings(max_examples=examples(1_500), deadline=None)
@given(replies())
def test_cut_gives_what_is_granted_and_nothing_else(case: tuple[Any, tuple[str, ...]]) -> None:
    document, given_pointers = case
    before = copy.deepcopy(document)
    found = cut(document, given_pointers)
    assert document == before, "what is cut is not changed"
    wanted = expected_cut(document, [steps_of(pointer) for pointer in given_pointers])
    assert found == (None if wanted is NOTHING else wanted)
    allowed = counted((path, value) for path, value in leaves(document) if granted(given_pointers, path))
    if wanted is NOTHING:
        assert not allowed
    else:
        assert counted(leaves(found)) == allowed
    event("something" if allowed else "nothing")


@settings(max_examples=examples(300), deadline=None)
@given(replies())
def test_cut_twice_is_cut_once_and_order_of_pointers_is_of_no_matter(case: tuple[Any, tuple[str, ...]]) -> None:
    document, given_pointers = case
    once = cut(document, given_pointers)
    assert cut(document, given_pointers[::-1] + given_pointers) == once
    if once is not None:
        assert cut(once, given_pointers) == once


@settings(max_examples=examples(300), deadline=None)
@given(replies(), pointers)
def test_a_further_pointer_takes_nothing_away(case: tuple[Any, tuple[str, ...]], further: str) -> None:
    document, given_pointers = case
    fewer, more = cut(document, given_pointers), cut(document, (*given_pointers, further))
    assert fewer is None or counted(leaves(fewer)) <= counted(leaves(more))


@settings(max_examples=examples(200), deadline=None)
@given(documents)
def test_the_whole_is_the_whole(document: Any) -> None:
    assert cut(document, ("",)) == document
    assert cut(document, ("/a", "")) == document


@pytest.mark.parametrize(
    ("pointers_given", "expected"),
    [
        (("/name/last",), {"name": {"last": "Dấu"}}),
        (("/children/*/id",), {"children": [{"id": "1"}, {"id": "2"}, {}]}),
        (("/children",), {"children": [{"id": "1", "sex": 1}, {"id": "2"}, {"sex": 2}]}),
        (("/children/0/id",), {}),
        (("/name/last/more", "/id/more"), {"name": {}}),
        (("/none", "/id"), {"id": "9"}),
        (("/a~1b/~0c",), {"a/b": {"~c": 1}}),
        ((), {}),
    ],
)
def test_cut_by_example(pointers_given: tuple[str, ...], expected: Any) -> None:
    document = {
        "id": "9",
        "name": {"first": "Thị", "last": "Dấu"},
        "children": [{"id": "1", "sex": 1}, {"id": "2"}, {"sex": 2}],
        "a/b": {"~c": 1, "c": 2},
    }
    assert cut(document, pointers_given) == expected


def with_subjects(*subjects: str) -> Service:
    return Service(
        ServiceKey("G01.01", "population", "v1"), NAME, NAME, "query", "idempotent", 5.0, 4096, OPEN, OPEN, "adapter",
        subjects=subjects,
    )  # fmt: skip


@settings(max_examples=examples(700), deadline=None)
@given(replies(texts))
def test_subjects_are_the_texts_that_the_pointers_name(case: tuple[Any, tuple[str, ...]]) -> None:
    document, given_pointers = case
    expected = [
        value
        for pointer in given_pointers
        for path, value in leaves(document)
        if leads_to(pointer, path) and isinstance(value, str) and value != ""
    ]
    found = subjects_in(document, with_subjects(*given_pointers))
    assert found == expected
    event("some" if expected else "none")


def test_subjects_by_example() -> None:
    request = {"me": {"so": "900000000001"}, "con": [{"so": "900000000002"}, {"so": 3}, {}, {"so": ""}], "cha": None}
    service = with_subjects("/me/so", "/cha/so", "/con/*/so", "/con/0/so")
    assert subjects_in(request, service) == ["900000000001", "900000000002"]
    assert subjects_in("not an object", service) == []
