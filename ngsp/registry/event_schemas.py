"""What an event is: the schema of the CloudEvent around `data`, made for each service, and that of each type's `data`.

CloudEvents 1.0 in the JSON Event Format, with `data` as JSON: no `data_base64`. The extension attributes Partitioning
(`partitionkey`) and Distributed Tracing (`traceparent`) have their meaning; others travel along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from ngsp.errors import Fault
from ngsp.registry.compatibility import schema_faults
from ngsp.registry.manifest_documents import EventServiceDocument, EventTypeDocument
from ngsp.registry.model import Schema
from ngsp.registry.pointers import has_room
from ngsp.registry.schemas import Path, compile_schema, compiled, digest
from ngsp.registry.texts import pointer
from ngsp.text import Text

STRUCTURED: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
BINARY: Final = "application/json"
"""Content types of the three ways in which events come over HTTP (CloudEvents HTTP Protocol Binding 1.0.2 §3)."""
MOST_IN_BATCH: Final = 100
LONGEST_ID: Final = 256
LONGEST_SUBJECT: Final = 512
LONGEST_SOURCE: Final = 2000
LONGEST_EXTENSION: Final = 1024
NO_REPLY: Final[dict[str, Any]] = {}
"""The schema that stands for the reply of a service that gives none."""
_VISIBLE: Final = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"
"""CloudEvents 1.0 §Type System: a String has no control characters."""


def _text(longest: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest, "pattern": _VISIBLE}


def envelope_schema(types: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The schema of an event of one of `types` (name → schema of `data`), but for `data` itself.

    It is another one whenever a schema in it is, so that its digest, and with it the service's schema version, tells.
    """
    return {
        "$comment": " ".join(f"{type}:{digest(schema)[:16]}" for type, schema in sorted(types.items())),
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "id": _text(LONGEST_ID),
            "source": {**_text(LONGEST_SOURCE), "format": "uri-reference"},
            "type": {"enum": sorted(types)},
            "subject": _text(LONGEST_SUBJECT),
            "time": {"type": "string", "format": "date-time", "maxLength": 64},
            "datacontenttype": {"const": "application/json"},
            "dataschema": {"type": "string", "format": "uri", "maxLength": LONGEST_SOURCE},
            "partitionkey": _text(LONGEST_ID),
            "traceparent": {"type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
            "data": True,
        },
        "required": ["specversion", "id", "source", "type", "data"],
        "propertyNames": {"pattern": "^[a-z0-9]{1,20}$"},
        "additionalProperties": {
            "anyOf": [
                {"type": "string", "maxLength": LONGEST_EXTENSION},
                {"type": "boolean"},
                {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
            ]
        },
    }


def event_schema_version(types: Mapping[str, dict[str, Any]]) -> str:
    """What names the schemas of a service of events, as `Service.schema_version` does."""
    return f"{digest(envelope_schema(types))[:16]}.{digest(NO_REPLY)[:16]}"


def compile_events(document: EventServiceDocument, at: Path) -> tuple[Schema | None, dict[str, Schema], list[Fault]]:
    """The envelope's schema and those of each type's `data`; or None, and what is wrong. Heavy on the processor."""
    types: dict[str, Schema] = {}
    faults: list[Fault] = []
    for name, declared in document.events.items():
        schema, wrong = compile_schema(declared.schema_, (*at, "events", name, "schema"))
        faults += wrong
        if schema is not None:
            types[name] = schema
    if faults:
        return None, types, faults
    envelope = compiled(envelope_schema({name: schema.document for name, schema in types.items()}))
    return envelope, types, faults


def event_faults(event: Any, envelope: Schema, types: Mapping[str, Schema]) -> tuple[Fault, ...]:
    """What is wrong with a whole event: with the envelope first, then with `data` by its type. Never echoes it."""
    if faults := envelope.faults(event):
        return faults
    data = types[event["type"]].faults(event["data"])
    return tuple(Fault(f"/data{fault.pointer}", fault.detail) for fault in data)


def column_of(events: Mapping[str, EventTypeDocument], types: Mapping[str, Schema]) -> dict[str, Any]:
    """The column `events` of the table `services`."""
    return {
        name: {
            "title_vi": events[name].title.vi,
            "title_en": events[name].title.en,
            "schema": schema.document,
            "digest": schema.digest,
        }
        for name, schema in types.items()
    }


def any_has_room(events: Mapping[str, Mapping[str, Any]], place: str) -> bool:
    """Whether the `data` of any type can have a value at `place`. `events`: as in the column."""
    return any(has_room(found["schema"], place) for found in events.values())


def event_conflicts(registered: Mapping[str, Any], declared: Mapping[str, Any], at: Path) -> Iterator[Fault]:
    """Why the types of `declared` may not take the place of those `registered`; both as in the column.

    A type stays, and its `data` may only narrow: subscribers read it, as callers read replies. Heavy on the processor.
    """
    for name, found in registered.items():
        if name not in declared:
            yield Fault(pointer(at), _TYPE_STAYS.format(type=name))
        else:
            yield from schema_faults("reply", found["schema"], declared[name]["schema"], (*at, name, "schema"))


_TYPE_STAYS: Final = Text(
    "Loại sự kiện đã đăng ký phải ở lại trong phiên bản này: {type}.",
    "A type that is registered stays under this version: {type}.",
)
