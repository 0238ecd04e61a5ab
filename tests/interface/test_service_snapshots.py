"""The two documents of one service as they were last agreed on: a change of their shape is seen in review.

`python -m tests.interface.test_service_snapshots` takes what is there now for agreed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ngsp.messages import ServiceKey
from ngsp.registry.asyncapi import service_asyncapi
from ngsp.registry.manifest_documents import EventServiceDocument, ManifestDocument
from ngsp.registry.manifests import check_manifest
from ngsp.registry.model import EventType, Service
from ngsp.registry.openapi import service_openapi
from ngsp.registry.schemas import compile_schema
from ngsp.text import Text
from tests.support.gateway import OBJECT, REPLY

FOLDER = Path(__file__).parent / "snapshots"


def service() -> Service:
    """One with everything: a submission, an officer, references within its schemas, examples in both languages."""
    tree = {**OBJECT, "properties": {**OBJECT["properties"], "below": {"$ref": "#"}}}
    request, _ = compile_schema(tree, ())
    reply, _ = compile_schema(REPLY, ())
    assert request is not None
    assert reply is not None
    return Service(
        key=ServiceKey("H41", "register", "v2"),
        title=Text("Đăng ký", "Registration"),
        description=Text("Ghi vào sổ.", "Writes into the book."),
        mode="submission",
        effect="transactional",
        deadline_s=3600.0,
        max_body_bytes=65_536,
        request_schema=request,
        reply_schema=reply,
        adapter="h41-registry",
        officer_required=True,
        examples=(
            {"title": {"vi": "Một", "en": "One"}, "request": {"do": "it"}, "reply": {"did": "it"}},
            {"request": {"do": "more", "below": {"do": "less"}}},
        ),
    )


def events() -> Service:
    """One of events, of two types, with references within a schema."""
    (checked,) = check_manifest("h41-book", ManifestDocument.model_validate(BOOK), 1 << 20)
    columns = checked.columns()
    return Service(
        key=checked.key,
        title=Text("Sổ hộ tịch", "The civil register"),
        description=Text("Điều đã thay đổi trong sổ.", "What changed in the book."),
        mode="event",
        effect="idempotent",
        deadline_s=86_400.0,
        max_body_bytes=65_536,
        request_schema=checked.request_schema,
        reply_schema=checked.reply_schema,
        adapter="h41-book",
        subjects=("/id",),
        examples=tuple(columns["examples"]),
        events={
            name: EventType(Text(event.title.vi, event.title.en), checked.events[name])
            for name, event in checked.document.events.items()
        }
        if isinstance(checked.document, EventServiceDocument)
        else {},
    )


TITLE = {"vi": "Đã ghi", "en": "Written"}
TREE = {**OBJECT, "properties": {**OBJECT["properties"], "below": {"$ref": "#"}}}
WRITTEN = {
    "specversion": "1.0",
    "id": "5f0c6a1e",
    "source": "/h41/book",
    "type": "vn.gov.h41.book.written",
    "data": {"id": "900000000001"},
}
BOOK: dict[str, Any] = {
    "id": "h41-book",
    "provider": "H41",
    "services": [
        {
            "service": "book-events",
            "version": "v1",
            "title": TITLE,
            "description": TITLE,
            "mode": "event",
            "deadline_s": 86_400,
            "max_body_bytes": 65_536,
            "subjects": ["/id"],
            "events": {
                "vn.gov.h41.book.written": {
                    "title": TITLE,
                    "schema": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}},
                },
                "vn.gov.h41.book.moved": {"title": TITLE, "schema": TREE},
            },
            "examples": [{"title": {"vi": "Một", "en": "One"}, "request": WRITTEN}],
        }
    ],
}


def documents() -> dict[str, dict[str, Any]]:
    found = service()
    return {
        "openapi.json": service_openapi(found, "https://bus.example.gov.vn", "en"),
        "asyncapi.json": service_asyncapi(found, "en"),
        "events-openapi.json": service_openapi(events(), "https://bus.example.gov.vn", "en"),
        "events-asyncapi.json": service_asyncapi(events(), "en"),
    }


def written(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


@pytest.mark.parametrize("name", sorted(documents()))
def test_the_document_is_the_one_that_was_agreed_on(name: str) -> None:
    told = written(documents()[name])
    assert told == (FOLDER / name).read_text("utf-8"), "run python -m tests.interface.test_service_snapshots"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, document in documents().items():
        (FOLDER / name).write_text(written(document), "utf-8")
