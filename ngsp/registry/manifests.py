"""A manifest, checked whole before anything is stored: schemas compiled, examples tried, pointers resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from ngsp.errors import Fault, InvalidRegistration
from ngsp.messages import ServiceKey
from ngsp.registry.compatibility import promise_faults, schema_faults
from ngsp.registry.event_schemas import NO_REPLY, any_has_room, column_of, compile_events, event_conflicts, event_faults
from ngsp.registry.manifest_documents import (
    EventExampleDocument,
    EventServiceDocument,
    ExampleDocument,
    ManifestDocument,
    ServiceDocument,
)
from ngsp.registry.model import Schema
from ngsp.registry.pointers import has_room
from ngsp.registry.schemas import Path, compile_schema, compiled, holds_nul
from ngsp.registry.texts import MOST_FAULTS, pointer
from ngsp.text import Text

LARGEST_EXAMPLE_BYTES = 64 * 1024
LONGEST_TOPIC = 249
"""Kafka's limit; each service has a request topic of its name."""


@dataclass(frozen=True, slots=True)
class CheckedService:
    """A service of a manifest as it may be stored. `at`: its index in the manifest. `events`: type → schema of `data`;
    of a service of events `request_schema` is that of the CloudEvent, and the reply's allows anything."""

    at: int
    key: ServiceKey
    document: ServiceDocument | EventServiceDocument
    request_schema: Schema
    reply_schema: Schema
    events: Mapping[str, Schema] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        """The values of the table `services`, less path, state and bookkeeping."""
        document = self.document
        return {
            "provider": self.key.provider,
            "name": self.key.name,
            "version": self.key.version,
            "title_vi": document.title.vi,
            "title_en": document.title.en,
            "description_vi": document.description.vi,
            "description_en": document.description.en,
            "mode": document.mode,
            "deadline_s": document.deadline_s,
            "max_body_bytes": document.max_body_bytes,
            "request_schema": self.request_schema.document,
            "request_digest": self.request_schema.digest,
            "reply_schema": self.reply_schema.document,
            "reply_digest": self.reply_schema.digest,
            "subjects": document.subjects,
            "examples": [example.model_dump(mode="json", exclude_unset=True) for example in document.examples],
            **self._of_its_kind(),
        }

    def _of_its_kind(self) -> dict[str, Any]:
        document = self.document
        if isinstance(document, EventServiceDocument):
            unused = {"effect": "idempotent", "officer_required": False, "order": "none"}
            return {**unused, "events": column_of(document.events, self.events)}
        called = {name: getattr(document, name) for name in ("effect", "officer_required", "order")}
        return {**called, "events": {}}

    def conflicts(self, row: Any) -> list[Fault]:
        """Why it may not take the place of what is registered under the same version. Heavy on the processor."""
        at = ("services", self.at)
        columns = self.columns()
        found = list(promise_faults(row, columns, at))
        if row["mode"] == self.document.mode == "event":
            # The envelope is the gateway's own; of it only the types can differ.
            return found + list(event_conflicts(row["events"], columns["events"], (*at, "events")))
        if "event" in (row["mode"], self.document.mode):
            return found
        found += schema_faults("request", row["request_schema"], self.request_schema.document, (*at, "request_schema"))
        found += schema_faults("reply", row["reply_schema"], self.reply_schema.document, (*at, "reply_schema"))
        return found


def check_manifest(adapter_id: str, manifest: ManifestDocument, max_body_bytes: int) -> list[CheckedService]:
    """The services of `manifest`; `InvalidRegistration` (422) with every fault found. Heavy on the CPU, no I/O.

    `max_body_bytes`: the largest that this node allows a service.
    """
    faults: list[Fault] = []
    if manifest.id != adapter_id:
        faults.append(Fault("/id", Text("Khác với mã trong đường dẫn.", "Differs from the id in the path.")))
    checked = []
    for index, document in enumerate(manifest.services):
        service, wrong = _check_service(manifest.provider, index, document, max_body_bytes)
        faults += wrong
        if service is not None:
            checked.append(service)
    if faults:
        raise InvalidRegistration(faults=tuple(faults[:MOST_FAULTS]), reason="manifest refused")
    return checked


def _check_service(
    provider: str, index: int, document: ServiceDocument | EventServiceDocument, max_body_bytes: int
) -> tuple[CheckedService | None, list[Fault]]:
    at = ("services", index)
    key = ServiceKey(provider, document.service, document.version)
    faults: list[Fault] = []
    if document.max_body_bytes > max_body_bytes:
        limit = Text(f"Nút này cho phép nhiều nhất {max_body_bytes} byte.", f"This node allows {max_body_bytes} bytes.")
        faults.append(Fault(pointer((*at, "max_body_bytes")), limit))
    if len(key.request_topic) > LONGEST_TOPIC:
        faults.append(Fault(pointer((*at, "service")), Text("Tên quá dài.", "The name is too long.")))
    if isinstance(document, EventServiceDocument):
        service, wrong = _check_events(index, key, document)
    else:
        service, wrong = _check_called(index, key, document)
    return service, faults + wrong


def _check_called(index: int, key: ServiceKey, document: ServiceDocument) -> tuple[CheckedService | None, list[Fault]]:
    at = ("services", index)
    request_schema, faults = compile_schema(document.request_schema, (*at, "request_schema"))
    reply_schema, reply_faults = compile_schema(document.reply_schema, (*at, "reply_schema"))
    faults += reply_faults
    if request_schema is None or reply_schema is None:
        return None, faults
    for number, subject in enumerate(document.subjects):
        if not has_room(request_schema.document, subject):
            missing = Text("Lược đồ yêu cầu không có chỗ này.", "The request schema has no such place.")
            faults.append(Fault(pointer((*at, "subjects", number)), missing))
    faults += (Fault(pointer((*at, "order")), text) for text in _order_faults(document, request_schema))
    for number, example in enumerate(document.examples):
        faults += _example_faults(example, request_schema, reply_schema, (*at, "examples", number))
    return CheckedService(index, key, document, request_schema, reply_schema), faults


def _check_events(
    index: int, key: ServiceKey, document: EventServiceDocument
) -> tuple[CheckedService | None, list[Fault]]:
    at = ("services", index)
    envelope, types, faults = compile_events(document, at)
    if envelope is None:
        return None, faults
    column = column_of(document.events, types)
    for number, subject in enumerate(document.subjects):
        if not any_has_room(column, subject):
            missing = Text("Không loại sự kiện nào có chỗ này trong data.", "No type of event has this place in data.")
            faults.append(Fault(pointer((*at, "subjects", number)), missing))
    for number, example in enumerate(document.examples):
        faults += _event_example_faults(example, envelope, types, (*at, "examples", number, "request"))
    return CheckedService(index, key, document, envelope, compiled(NO_REPLY), types), faults


def _order_faults(document: ServiceDocument, request_schema: Schema) -> Iterator[Text]:
    if document.order == "none":
        return
    if document.mode != "submission":
        yield Text("Chỉ dịch vụ nhận hồ sơ (submission) mới có thứ tự.", "Only a submission is worked in an order.")
    if document.order != "dossier" and not has_room(request_schema.document, document.order):
        yield Text("Lược đồ yêu cầu không có chỗ này.", "The request schema has no such place.")


def _event_example_faults(
    example: EventExampleDocument, envelope: Schema, types: Mapping[str, Schema], at: Path
) -> Iterator[Fault]:
    place = pointer(at)
    if text := _unfit(example.request):
        yield Fault(place, text)
    else:
        found = event_faults(example.request, envelope, types)
        yield from (Fault(place + fault.pointer, fault.detail) for fault in found)


def _example_faults(
    example: ExampleDocument, request_schema: Schema, reply_schema: Schema, at: Path
) -> Iterator[Fault]:
    for name, value, schema in (("request", example.request, request_schema), ("reply", example.reply, reply_schema)):
        if name not in example.model_fields_set:
            continue
        place = pointer((*at, name))
        if text := _unfit(value):
            yield Fault(place, text)
        else:
            yield from (Fault(place + fault.pointer, fault.detail) for fault in schema.faults(value))


def _unfit(example: Any) -> Text | None:
    if holds_nul(example) or len(orjson.dumps(example)) > LARGEST_EXAMPLE_BYTES:
        return Text("Ví dụ quá lớn hoặc chứa ký tự NUL.", "The example is too large or holds NUL.")
    return None
