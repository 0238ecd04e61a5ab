"""A gateway with a service of events of H41, and with G22 as its subscriber: what tests of events begin with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from ngsp.adapter import Adapter, Manifest, Request
from ngsp.messages import uuid7
from tests.support.gateway import Provider, Rig, service
from tests.support.waiting import until

CHANGES = "H41/changes/v1"
RECEIVER = "G22/changes-received/v1"
CHANGED, CLOSED = "vn.h41.dossier.changed", "vn.h41.dossier.closed"
NAME = "Nguyễn Thị Hồng Nhung"
"""In every event, and nowhere else."""
DATA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "dossier": {"type": "string", "maxLength": 60},
        "state": {"type": "integer", "minimum": 1, "maximum": 10},
        "person": {"type": "string", "pattern": "^[0-9]{12}$"},
        "name": {"type": "string", "maxLength": 100},
        "note": {"type": "string", "maxLength": 100000},
    },
    "required": ["dossier", "state"],
    "additionalProperties": False,
}


def text(words: str) -> dict[str, str]:
    return {"vi": words, "en": words}


def changes(name: str = "changes", **others: Any) -> dict[str, Any]:
    """A service of events as a manifest declares it."""
    return {
        "service": name,
        "version": "v1",
        "mode": "event",
        "deadline_s": 600,
        "max_body_bytes": 65_536,
        "title": text("Thay đổi của hồ sơ"),
        "description": text("Thay đổi của hồ sơ"),
        "events": {
            CHANGED: {"title": text("Đổi trạng thái"), "schema": DATA},
            CLOSED: {"title": text("Kết thúc"), "schema": DATA},
        },
        "subjects": ["/person"],
    } | others


def received(name: str = "changes-received", **others: Any) -> dict[str, Any]:
    """The subscriber's own service, which takes CloudEvents."""
    texts = {name: {"type": "string"} for name in ("specversion", "id", "source", "type", "subject", "partitionkey")}
    event = {
        "type": "object",
        "properties": texts | {"data": {"type": "object"}},
        "required": ["specversion", "id", "source", "type", "data"],
    }
    done = {"type": "object", "properties": {"done": {"type": "boolean"}}, "additionalProperties": False}
    taking = {"mode": "submission", "deadline_s": 600, "request_schema": event, "reply_schema": done, "subjects": []}
    return service(name, **taking) | others


def event(data: dict[str, Any] | None = None, **attributes: Any) -> dict[str, Any]:
    """A CloudEvent of CHANGES; attributes that are None are left out."""
    found = {
        "specversion": "1.0",
        "id": uuid7(),
        "source": "/h41/mot-cua",
        "type": CHANGED,
        "data": {"dossier": "H41-1", "state": 2, "person": "900123456789", "name": NAME} | (data or {}),
    } | attributes
    return {name: value for name, value in found.items() if value is not None}


Take = Callable[[Request], Coroutine[Any, Any, object]]


async def take_all(_: Request) -> object:
    return {"done": True}


@dataclass
class Subscriber(Provider):
    """The provider of the tests with G22's adapter beside its own. `take`, which tests set, is called for each event
    that G22 gets."""

    services: list[dict[str, Any]] = field(default_factory=lambda: [changes()])
    terms: dict[str, dict[str, Any]] = field(default_factory=lambda: {"changes": {"fields": [""]}})
    receivers: list[dict[str, Any]] = field(default_factory=lambda: [received()])
    taken: list[dict[str, Any]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    take: Take = take_all

    def __post_init__(self) -> None:
        self.documents = [
            {"kind": "adapter", "id": "g22-tests", "provider": "G22", "services": self.receivers},
            *self.documents,
        ]

    def adapters(self) -> list[Adapter]:
        manifest = Manifest.model_validate({"id": "g22-tests", "provider": "G22", "services": self.receivers})
        adapter = Adapter(manifest)

        async def serve(request: Request) -> object:
            answer = await self.take(request)
            self.taken.append(request.payload)
            self.requests.append(request)
            return answer

        for declared in manifest.services:
            adapter.service(declared.service, declared.version)(serve)
        return [*super().adapters(), adapter]


@dataclass
class Events:
    """Hands to work with events on a running gateway."""

    rig: Rig
    subscriber: Subscriber

    async def publish(
        self, *events: dict[str, Any], by: str = "provider", path: str = CHANGES, kind: str = "", **headers: str
    ) -> httpx.Response:
        """One alone as structured JSON, several as a batch."""
        body = orjson.dumps(events[0] if len(events) == 1 else list(events))
        kind = kind or ("application/cloudevents+json" if len(events) == 1 else "application/cloudevents-batch+json")
        sent = {"Authorization": f"Bearer {await self.rig.token(by)}", "Content-Type": kind} | headers
        return await self.rig.http.post(f"/v1/events/{path}", content=body, headers=sent)

    async def published(self, *events: dict[str, Any], **others: Any) -> list[str]:
        """The transactions of `events`, which must be taken."""
        answer = await self.publish(*events, **others)
        assert answer.status_code == 202, answer.text
        return [item["transaction"] for item in answer.json()["items"]]

    async def subscribe(self, id: str = "", *, by: str = "caller", **terms: Any) -> dict[str, Any]:
        """A subscription of G22's, by its receiver where nothing else is said."""
        document = {"service": CHANGES, "purpose": "testing"} | terms
        if "url" not in document:
            document.setdefault("receiver", RECEIVER)
        headers = {"Authorization": f"Bearer {await self.rig.token(by)}"}
        id = id or f"sub-{uuid7()[-12:]}"
        answer = await self.rig.http.put(f"/v1/subscriptions/{id}", json=document, headers=headers)
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def deliveries(self, subscription: str, publication: str = "") -> list[str]:
        """The transactions that deliver to a subscription, in the order in which they were made."""
        rows = await self.rig.rows.fetch(
            """SELECT tx::text AS tx FROM deliveries WHERE subscription = $1
            AND ($2 = '' OR publication::text = $2) ORDER BY place""",
            subscription,
            publication,
        )
        return [row["tx"] for row in rows]

    async def taken(self, number: int, timeout_s: float = 20.0) -> list[dict[str, Any]]:
        """What the receiver has taken once that is at least `number`."""
        await until(lambda: len(self.subscriber.taken) >= number, f"{number} events to be taken", timeout_s)
        return list(self.subscriber.taken)

    async def delivery(self, subscription: str, publication: str) -> str:
        """The one delivery of an event, once it was made."""

        async def made() -> bool:
            return bool(await self.deliveries(subscription, publication))

        await until(made, "the delivery to be made")
        (found,) = await self.deliveries(subscription, publication)
        return found


def blocking(until_set: asyncio.Event, of: Callable[[Request], bool]) -> Take:
    """A `take` that waits for the requests which `of` names."""

    async def take(request: Request) -> object:
        if of(request):
            await until_set.wait()
        return {"done": True}

    return take
