"""What a system sends that was written for an existing platform, read by the terms of its route. Strict as all reading.

query, path, headers, body ─expressions of the route─▶ purpose, officer, dossier, …, key, and the service's payload
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from ngsp import strictjson
from ngsp.api.front import FORMS, MAY_HAVE_DIGITS, PERSONAL
from ngsp.errors import Fault, MalformedHeader, MalformedParameter, SchemaMismatch
from ngsp.mapping import MappingError
from ngsp.registry.routes import CompatibleRoute
from ngsp.text import Text

MOST_QUERY_MEMBERS = 100
LONGEST_KEY = 180
"""Of a request's code: with the route's id before it an idempotency key has at most 255 characters."""

_PERCENT = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_HEADERS = {
    "purpose_from": b"ngsp-purpose",
    "officer": b"ngsp-officer",
    "dossier": b"ngsp-dossier",
    "procedure": b"ngsp-procedure",
    "consent": b"ngsp-consent",
    "key": b"idempotency-key",
}
"""Expression → the header of our own interface that says the same: its form holds here too."""


@dataclass(slots=True)
class Reading:
    """A request read. `payload`: the bytes for the service; `value`: the same as a JSON value, None where it was only
    passed on; `fields`: of `Call`, by name."""

    payload: bytes
    value: Any
    fields: dict[str, str]


def read_query(raw: bytes, known: Sequence[str]) -> dict[str, str]:
    """The members of a query string. `MalformedParameter` for one that is repeated, unknown, or no text in UTF-8."""
    parts = raw.split(b"&") if raw else []
    if len(parts) > MOST_QUERY_MEMBERS:
        raise _malformed_query("too many")
    found: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition(b"=")
        key, text = _decoded(name), _decoded(value)
        if key not in known:
            raise _malformed_query("unknown")
        if key in found:
            raise _malformed_query("repeated")
        found[key] = text
    return found


def _decoded(part: bytes) -> str:
    try:
        text = unquote_to_bytes(part.replace(b"+", b" ")).decode() if _PERCENT.fullmatch(part) else "\0"
    except UnicodeDecodeError:
        text = "\0"
    if _CONTROL.search(text):
        raise _malformed_query("not UTF-8, or with control characters")
    return text


def _malformed_query(how: str) -> MalformedParameter:
    detail = Text(
        "Tham số trên địa chỉ bị lặp, không được biết đến, hoặc không phải chữ UTF-8.",
        "A parameter of the address is repeated, unknown, or no text in UTF-8.",
    )
    return MalformedParameter(detail, reason=f"query: {how}")


def read_headers(fields: Sequence[tuple[bytes, bytes]], known: Sequence[str]) -> dict[str, str]:
    """Those headers that the route reads. `MalformedHeader` for one that is repeated or no text in UTF-8."""
    wanted = {name.encode() for name in known}
    found: dict[str, str] = {}
    for name, value in fields:
        if name not in wanted:
            continue
        key = name.decode()
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = "\0"
        if key in found or _CONTROL.search(text):
            raise MalformedHeader(
                Text(f"Tiêu đề {key} bị lặp hoặc sai dạng.", f"The header {key} is repeated or malformed."),
                reason=f"header {key} repeated or malformed",
            )
        found[key] = text
    return found


def read(
    route: CompatibleRoute,
    method: str,
    path: Mapping[str, str],
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes | None,
) -> Reading:
    """The call that the request means. `body`: None where there is none.

    `MalformedParameter` (400) where a field is not of its form, `SchemaMismatch` (422) where no payload comes out, what
    strict JSON refuses where the body is none.
    """
    value = strictjson.parse(body) if body is not None and route.looks_into_body else None
    root = {"method": method, "path": path, "query": query, "headers": headers, "body": value}
    fields = {name: text for name in _HEADERS if (text := _field(route, name, root))}
    if route.purpose:
        fields["purpose"] = route.purpose
    elif "purpose_from" in fields:
        fields["purpose"] = fields.pop("purpose_from")
    else:
        raise MalformedParameter(
            Text("Yêu cầu không nêu mục đích.", "The request names no purpose."), reason="no purpose"
        )
    if "key" in fields:
        fields["idempotency_key"] = f"{route.id}:{fields.pop('key')}"
    asked = route.expressions.get("request")
    if asked is None:
        return Reading(body or b"", value, fields)
    try:
        payload = asked(root)
        return Reading(orjson.dumps(payload), payload, fields)
    except (MappingError, TypeError):
        raise SchemaMismatch(
            faults=(Fault("", Text("Không đọc được theo tuyến này.", "It cannot be read by this route.")),),
            reason="the payload cannot be worked out",
        ) from None


def _field(route: CompatibleRoute, name: str, root: dict[str, Any]) -> str:
    """What the expression `name` finds, empty where there is none or it finds nothing."""
    expression = route.expressions.get(name)
    if expression is None:
        return ""
    header = _HEADERS[name]
    try:
        value = expression(root)
    except MappingError:
        value = False
    if value is None or value == "":
        return ""
    text = str(value) if type(value) is int else value
    encoded = text.encode() if isinstance(text, str) else b""
    longest = LONGEST_KEY if name == "key" else len(encoded)
    personal = header not in MAY_HAVE_DIGITS and PERSONAL.search(encoded)
    if len(encoded) > longest or not FORMS[header][1].fullmatch(encoded) or personal:
        detail = Text("Giá trị «{name}» của yêu cầu sai dạng.", "The request's '{name}' is not of its form.")
        raise MalformedParameter(detail.format(name=name), reason=f"{name} not of its form")
    return encoded.decode()
