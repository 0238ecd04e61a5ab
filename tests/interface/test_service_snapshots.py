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
from ngsp.registry.model import Service
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


def documents() -> dict[str, dict[str, Any]]:
    found = service()
    return {
        "openapi.json": service_openapi(found, "https://bus.example.gov.vn", "en"),
        "asyncapi.json": service_asyncapi(found, "en"),
    }


def written(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


@pytest.mark.parametrize("name", ["openapi.json", "asyncapi.json"])
def test_the_document_is_the_one_that_was_agreed_on(name: str) -> None:
    told = written(documents()[name])
    assert told == (FOLDER / name).read_text("utf-8"), "run python -m tests.interface.test_service_snapshots"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, document in documents().items():
        (FOLDER / name).write_text(written(document), "utf-8")
