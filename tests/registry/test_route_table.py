"""Finding a route by its path, against the same by patterns tried one after the other."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from ngsp.registry.routes import CompatibleRoute, RouteTable, conflict
from ngsp.text import Text
from tests.support.effort import examples

SEGMENTS = st.lists(st.sampled_from(("a", "b", "c", "{x}", "{y}", "{z}")), max_size=3, unique=True)
PATHS = SEGMENTS.map(lambda segments: "/" + "/".join(("a", *segments)))
METHODS = st.sampled_from((("GET",), ("POST",), ("GET", "POST")))
SENT = st.lists(st.sampled_from(("a", "b", "c", "d", "%61", "", ".")), min_size=1, max_size=4).map(
    lambda segments: "/" + "/".join(segments)
)


def route(id: str, path: str, methods: tuple[str, ...]) -> CompatibleRoute:
    return CompatibleRoute(id, Text("a", "a"), methods, path, "H41/x/v1", (), active=True, terms={})


def matches(one: CompatibleRoute, sent: str) -> bool:
    """The same, told by a regular expression: a literal is itself, a place is a segment that is not empty or dots."""
    pattern = re.sub(r"\\\{[a-z]\\\}", r"(?!\\.{1,2}(?:/|$))[^/]+", re.escape(one.path))
    return re.fullmatch(pattern, sent) is not None


@settings(max_examples=examples(600), deadline=None)
@given(st.lists(st.tuples(PATHS, METHODS), min_size=1, max_size=5), SENT)
def test_a_path_is_for_one_route_at_most_and_it_is_found(
    declared: list[tuple[str, tuple[str, ...]]], sent: str
) -> None:
    routes: list[CompatibleRoute] = []
    for number, (path, methods) in enumerate(declared):
        one = route(f"route-{number}", path, methods)
        if not any(conflict(one, other.path, other.methods) for other in routes):
            routes.append(one)
    table = RouteTable(routes)
    found = table.find(sent.encode())
    for method in ("GET", "POST"):
        expected = [one.id for one in routes if method in one.methods and matches(one, sent)]
        assert len(expected) <= 1, "the registration lets no two in that a request would be for"
        assert ([found[0][method].id] if found and method in found[0] else []) == expected
    if found:
        for one in found[0].values():
            assert list(one.named(found[1])) == re.findall(r"\{([a-z])\}", one.path)


@settings(max_examples=examples(300), deadline=None)
@given(st.tuples(PATHS, METHODS), st.tuples(PATHS, METHODS))
def test_a_conflict_is_one_both_ways(first: tuple[str, tuple[str, ...]], second: tuple[str, tuple[str, ...]]) -> None:
    one, other = route("one", *first), route("other", *second)
    assert conflict(one, other.path, other.methods) == conflict(other, one.path, one.methods)
