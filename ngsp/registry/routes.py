"""Compatible routes (tuyến tương thích): which old address is which service, and how what comes there is read.

A route says method and path, the service, the purpose, and by JMESPath expressions how a request of the old protocol
becomes the service's payload and how the reply takes the old shape. It reaches services alone, never an address.
Values of the snapshot, and the table that finds a route by a request's path; nothing here touches the database.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from ngsp.errors import Fault
from ngsp.mapping import Expression, Scope, Shape
from ngsp.registry.texts import HIDDEN_CATEGORIES, Wrong, pointer
from ngsp.text import Text

if TYPE_CHECKING:
    from ngsp.registry.model import Agreement

METHODS = ("GET", "POST")
RESERVED = frozenset(
    """
    .well-known asyncapi asyncapi.json console docs errors events favicon.ico healthz livez metrics oauth2
    openapi.json r1 readyz robots.txt static token v0 v1 v2 v3 v4 v5 v6 v7 v8 v9 vxp
    """.split()  # noqa: SIM905 - one a line otherwise
)
"""First segments that belong to the gateway, now or later: no route may begin with one."""
LONGEST_PATH = 300
MOST_SEGMENTS = 12
LONGEST_VALUE = 256
_NOT_IN_VALUES = frozenset("/\\;")

SEGMENT = re.compile(r"[A-Za-z0-9._~-]{1,100}")
PLACE = re.compile(r"\{([A-Za-z][A-Za-z0-9_]{0,39})\}")
_VALUE = re.compile(rb"(?:[A-Za-z0-9._~!$'()*+,=:@&-]|%[0-9A-Fa-f]{2})+")
"""A segment that stands in a place: what RFC 3986 §3.3 allows, without `;`, by which some servers hide parts."""

FIELDS = ("purpose_from", "officer", "dossier", "procedure", "consent", "key")
ASKING = (*FIELDS, "request")
"""Expressions over the request."""
_REQUEST = ("method", "path", "query", "headers", "body")
ROOTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(ASKING, _REQUEST),
    "reply": ("body", "payload", "id"),
    "accepted": ("location", "payload", "id"),
    "error": ("status", "code", "title", "detail", "remedy", "errors", "provider_code", "id"),
}
"""Expression → what it may name. `path`, `query`, `headers`: objects of texts; `body`: the JSON value, null without."""
SHAPES = ("request", "reply", "accepted", "error")
"""Expressions that may be objects of expressions."""


@dataclass(frozen=True)
class CompatibleRoute:
    """One route. `terms`: as declared: `query` and `headers` (names that are read), `purpose`, `tables`, expressions.

    `agreements`: ids, for consumers with several that fit; at most one for each consumer.
    """

    id: str
    title: Text
    methods: tuple[str, ...]
    path: str
    service: str
    agreements: tuple[str, ...]
    active: bool
    terms: Mapping[str, Any]
    expressions: Mapping[str, Expression | Shape] = field(default_factory=dict, repr=False, compare=False)
    """Those of `ROOTS` that the terms have, compiled."""

    @property
    def purpose(self) -> str:
        """Fixed; empty where it comes from the request."""
        return self.terms.get("purpose") or ""

    def _reads(self, member: str, names: Iterable[str]) -> bool:
        return any(member in self.expressions[name].reads for name in names if name in self.expressions)

    @cached_property
    def passes_body(self) -> bool:
        """Whether a request's body is the payload, as it is."""
        return "request" not in self.expressions

    @cached_property
    def looks_into_body(self) -> bool:
        """Whether an expression looks at the body; as the payload, where it is that."""
        return self._reads("body", ASKING) or (self.passes_body and self._reads("payload", ("reply", "accepted")))

    @property
    def takes_body(self) -> bool:
        """Whether a request must have a body."""
        return self.passes_body or self.looks_into_body

    def agreement_of(self, consumer: str, known: Mapping[str, Agreement]) -> str:
        """The agreement that the route names for `consumer`; empty where it names none."""
        if not self.agreements:
            return ""
        return next((id for id in self.agreements if id in known and known[id].consumer == consumer), "")

    def named(self, texts: Sequence[str]) -> dict[str, str]:
        """`texts`, which stand in the places of the path, by their names."""
        return dict(zip(PLACE.findall(self.path), texts, strict=True))


def compiled(terms: Mapping[str, Any]) -> tuple[dict[str, Expression | Shape], list[Fault]]:
    """The expressions of `terms`, and a fault for each that is none."""
    found: dict[str, Expression | Shape] = {}
    faults = []
    tables = terms.get("tables") or {}
    for name, root in ROOTS.items():
        value = terms.get(name)
        if value is None:
            continue
        kind: type[Expression | Shape] = Shape if name in SHAPES else Expression
        try:
            found[name] = kind.compile(value, Scope(root, tables))
        except Wrong as wrong:
            faults.append(Fault(pointer((name, *wrong.path)), wrong.text))
    return found, faults


def path_faults(path: str) -> Iterator[Text]:
    """What is wrong with a pattern such as `/apiCSDLDKDN/1.0/chiTietDoanhNghiep` or `/hoso/{maHoSo}`."""
    first, *others = segments = path.split("/")
    if first or not others or len(path) > LONGEST_PATH or len(segments) > MOST_SEGMENTS + 1:
        yield Text(
            f"Đường dẫn bắt đầu bằng «/», nhiều nhất {MOST_SEGMENTS} đoạn, {LONGEST_PATH} ký tự.",
            f"A path begins with '/' and has at most {MOST_SEGMENTS} segments, {LONGEST_PATH} characters.",
        )
        return
    places = [match.group(1) for segment in others if (match := PLACE.fullmatch(segment))]
    literals = [segment for segment in others if not PLACE.fullmatch(segment)]
    if not all(SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in literals):
        yield Text(
            "Mỗi đoạn là chữ, số và . _ ~ -, hoặc {tên}.", "A segment is letters, digits and . _ ~ -, or {name}."
        )
    if len(set(places)) != len(places):
        yield Text("Một tên {…} bị lặp.", "A name {…} is given twice.")
    if PLACE.fullmatch(others[0]) or others[0].lower() in RESERVED:
        yield Text("Đoạn đầu dành riêng cho cổng, hoặc là {…}.", "The first segment is the gateway's own, or {…}.")


def conflict(route: CompatibleRoute, path: str, methods: Sequence[str]) -> bool:
    """Whether some request would be for `route` and for one of `path` and `methods`.

    Two that share a path may differ by method; of two that merely meet, neither could be told from the other.
    """
    ours, theirs = _key(route.path), _key(path)
    if ours == theirs:
        return not set(route.methods).isdisjoint(methods)
    return len(ours) == len(theirs) and all(a == b or not a or not b for a, b in zip(ours, theirs, strict=True))


def _key(path: str) -> tuple[bytes, ...]:
    """The segments, those that are a place empty."""
    return tuple(b"" if PLACE.fullmatch(segment) else segment.encode() for segment in path.split("/")[1:])


Found = tuple[Mapping[str, CompatibleRoute], tuple[str, ...]]
"""Method → the route, and what stands in the places of the path, decoded."""


class RouteTable:
    """All routes by id, and the active ones by path. Made anew with each change, never changed."""

    def __init__(self, routes: Iterable[CompatibleRoute] = ()) -> None:
        self.by_id = {route.id: route for route in routes}
        self._exact: dict[bytes, dict[str, CompatibleRoute]] = {}
        # First segment → number of segments → patterns: few, and no two of them match one path.
        self._patterns: dict[bytes, dict[int, dict[tuple[bytes, ...], dict[str, CompatibleRoute]]]] = {}
        for route in self.by_id.values():
            if route.active:
                self._add(route)

    def _add(self, route: CompatibleRoute) -> None:
        key = _key(route.path)
        if b"" in key:
            same = self._patterns.setdefault(key[0], {}).setdefault(len(key), {}).setdefault(key, {})
        else:
            same = self._exact.setdefault(route.path.encode(), {})
        same.update(dict.fromkeys(route.methods, route))

    def find(self, raw_path: bytes) -> Found | None:
        """The routes of the path as it was sent, percent-encoded. One look into a table where there is none."""
        routes = self._exact.get(raw_path)
        if routes is not None:
            return routes, ()
        by_number = self._patterns.get(raw_path[1 : raw_path.find(b"/", 1)])
        return _find_pattern(by_number, raw_path) if by_number is not None else None


def _find_pattern(
    by_number: Mapping[int, Mapping[tuple[bytes, ...], Mapping[str, CompatibleRoute]]], raw_path: bytes
) -> Found | None:
    segments = raw_path.split(b"/", MOST_SEGMENTS + 1)[1:]
    for key, routes in by_number.get(len(segments), {}).items():
        if all(part in (b"", segment) for part, segment in zip(key, segments, strict=True)):
            texts = [_decoded(segment) for part, segment in zip(key, segments, strict=True) if not part]
            whole = tuple(text for text in texts if text)
            return (routes, whole) if len(whole) == len(texts) else None
    return None


def _decoded(segment: bytes) -> str:
    """The text of a segment; empty where it is none, or would be more than a segment once decoded."""
    if len(segment) > 9 * LONGEST_VALUE or not _VALUE.fullmatch(segment):
        return ""
    try:
        text = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return ""
    hidden = any(unicodedata.category(letter) in HIDDEN_CATEGORIES for letter in text)
    odd = text in (".", "..") or not _NOT_IN_VALUES.isdisjoint(text)
    return "" if hidden or odd or len(text) > LONGEST_VALUE else text
