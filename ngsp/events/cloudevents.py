"""CloudEvents 1.0 as they come over HTTP: structured, batched or binary (CloudEvents HTTP Protocol Binding 1.0.2 §3).

What an event must look like is said by the schemas of its service: that of the envelope and that of its type's `data`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson

from ngsp.access import subjects_in
from ngsp.errors import Fault, MalformedHeader, SchemaMismatch
from ngsp.registry.event_schemas import BINARY, event_faults
from ngsp.registry.model import Service
from ngsp.text import Text

_ATTRIBUTE = re.compile(r"ce-([a-z0-9]{1,20})")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')  # RFC 9110 §5.6.4
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """One event, checked. `value`: all of it; `body`: the bytes that travel, in structured JSON.

    `key`: what it is ordered by among events of its service: the partition key, else the subject, else nothing (empty).
    """

    id: str
    source: str
    type: str
    value: dict[str, Any]
    body: bytes

    @property
    def key(self) -> bytes:
        """The CloudEvents extension Partitioning; a subject without one is taken for it."""
        return str(self.value.get("partitionkey") or self.value.get("subject") or "").encode()

    def subjects(self, service: Service) -> list[str]:
        """The identity numbers that `data` is about, by the service's pointers."""
        return subjects_in(self.value["data"], service)

    def identity(self) -> bytes:
        """(source, id) name one event, whoever sends it and how often (CloudEvents 1.0 §3.1)."""
        return f"{self.source}\0{self.id}".encode()

    def canonical(self) -> bytes:
        """The same for the same event, however it was written."""
        return orjson.dumps(self.value, option=orjson.OPT_SORT_KEYS)


def read(value: Any, body: bytes | None, service: Service, at: str = "") -> CloudEvent:
    """The event in `value`, for `service`. `body`: the bytes it came as, None where it did not come alone. `at`: its
    pointer in what was sent. `SchemaMismatch` (422) with every fault found."""
    if faults := tuple(_faults(value, service, at)):
        raise SchemaMismatch(faults=faults)
    written = body if body is not None else orjson.dumps(value)
    return CloudEvent(value["id"], value["source"], value["type"], value, written)


def _faults(value: Any, service: Service, at: str) -> Iterator[Fault]:
    types = {name: event.schema for name, event in service.events.items()}
    found = event_faults(value, service.request_schema, types)
    yield from (Fault(at + fault.pointer, fault.detail) for fault in found)


def of_headers(headers: Mapping[str, str], data: Any) -> dict[str, Any]:
    """The event of a request in binary mode: attributes in `ce-…` headers, percent-encoded, and some clients put them
    into quotes besides; `data` its body's value.

    `headers`: names in lower case. `MalformedHeader` (400) where an attribute's name or encoding is none.
    """
    value: dict[str, Any] = {"datacontenttype": BINARY}
    for name, encoded in headers.items():
        if not name.startswith("ce-"):
            continue
        matched = _ATTRIBUTE.fullmatch(name)
        if matched is None or matched[1] in ("data", "datacontenttype") or not encoded.isascii():
            raise _malformed()
        if quoted := _QUOTED.fullmatch(encoded):
            encoded = _ESCAPED.sub(r"\1", quoted[1])
        try:
            value[matched[1]] = unquote(encoded, errors="strict")
        except UnicodeDecodeError:
            raise _malformed() from None
    return value | {"data": data}


def _malformed() -> MalformedHeader:
    return MalformedHeader(
        Text("Một tiêu đề ce-… không đúng dạng.", "A ce-… header is not of its form."), reason="ce- header malformed"
    )
