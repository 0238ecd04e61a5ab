"""What tests of subscriptions over REST begin with: services of events, an agreement, and the calls."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tests.support.registry import (
    CHANGED,
    EVENT_SCHEMA,
    event_service,
    manifest,
    proposal,
    running_rig,
    service_document,
    text,
)

if TYPE_CHECKING:
    import httpx

    from ngsp.local.postgres import LocalPostgres
    from tests.support.registry import Rig

SERVICE = "G01.01/population-events/v1"
OTHER = "G01.01/other-events/v1"
RECEIVER = "H41/take-events/v1"
URL = "https://motcua.example.vn/ngsp"
ENDED = "vn.gov.example.record.ended"
CLOUD_EVENT = {"type": "object", "required": ["id", "type"]}
_ids = itertools.count()


def submission(name: str, **others: Any) -> dict[str, Any]:
    taken = {"mode": "submission", "request_schema": CLOUD_EVENT, "subjects": [], "examples": []}
    return service_document(service=name, **(taken | others))


async def agreed(rig: Rig, service: str, *, consumer: str = "H41", **others: Any) -> str:
    by = f"{consumer.lower()}-registry"
    wanted = proposal(service=service, consumer=consumer, fields=[""], **others)
    made = await rig.call("POST", "/v1/agreements", json=wanted, by=by)
    assert made.status_code == 201, made.text
    id = str(made.json()["id"])
    assert (await rig.call("POST", f"/v1/agreements/{id}/accept", by="g01-registry")).status_code == 200
    return id


@asynccontextmanager
async def running_with_events(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    """A registry with two services of events, and H41's services that may take them or not; an agreement for one."""
    async with running_rig(postgres) as running:
        await running.add_client("h41-desk", "H41", "exchange", "registry")
        await running.add_client("h41-adapter", "H41", "adapter")
        types = {name: {"title": text(name), "schema": EVENT_SCHEMA} for name in (CHANGED, ENDED)}
        both = (event_service(events=types), event_service(service="other-events"), service_document())
        taking = (
            submission("take-events"),
            submission("officers", officer_required=True),
            submission("closed", request_schema={"type": "object", "properties": {"id": {}}}),
            service_document(service="asked"),
        )
        for document, by in (
            (manifest(*both), "g01-registry"),
            (manifest(*taking, id="h41-taking", provider="H41"), "h41-adapter"),
        ):
            answer = await running.call("PUT", f"/v1/adapters/{document['id']}", json=document, by=by)
            assert answer.status_code == 201, answer.text
        await agreed(running, SERVICE, reference="tt-1")
        yield running


def wanted(**others: Any) -> dict[str, Any]:
    found = {"service": SERVICE, "purpose": "birth-registration", "url": URL, **others}
    return {name: value for name, value in found.items() if value is not ...}


async def put(
    rig: Rig, id: str, *, by: str = "h41-registry", headers: dict[str, str] | None = None, **others: Any
) -> httpx.Response:
    return await rig.call("PUT", f"/v1/subscriptions/{id}", json=wanted(**others), by=by, headers=headers or {})


def new_id() -> str:
    return f"s-{next(_ids)}"


async def made(rig: Rig, **others: Any) -> str:
    """A new one's id."""
    id = new_id()
    answer = await put(rig, id, **others)
    assert answer.status_code == 201, answer.text
    return id


async def view(rig: Rig, id: str, by: str = "h41-registry") -> dict[str, Any]:
    answer = await rig.call("GET", f"/v1/subscriptions/{id}", by=by)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found
