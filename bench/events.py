"""`python -m bench events`: what publishing and delivering an event costs, next to a submission, in one run.

A whole gateway over a real PostgreSQL and the bus inside the process, called at its ASGI interface. A submission, an
event to a service of the subscriber's own and one to a webhook are counted from the first call until the last outcome
is durable; publishing alone until it is answered. The webhook's receiver is in the same process, and so in its figure.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import orjson

from bench.adapters.figures import Figure, table
from bench.inside import Inside, ask, gateway_inside, measured, medians
from ngsp.adapter import Adapter, Manifest, Request
from ngsp.messages import uuid7
from ngsp.text import tr

AT_ONCE = 32
IN_BATCH = 50
EVENTS, ROUNDS = 2_000, 3
SERVICE = "H41/changes/v1"
_TEXT = {"vi": "đo", "en": "bench"}
_DATA = {"type": "object", "properties": {"ma": {"type": "string"}, "ghiChu": {"type": "string"}}}
_EVENT = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in ("specversion", "id", "source", "type")} | {"data": _DATA},
}
_COMMON = {"version": "v1", "title": _TEXT, "description": _TEXT, "deadline_s": 600, "max_body_bytes": 65_536}
_TAKE = {"mode": "submission", "effect": "idempotent", "reply_schema": {"type": "object"}}
_PUBLISHER: dict[str, Any] = {
    "id": "h41-bench",
    "provider": "H41",
    "services": [
        {"service": "changes", "mode": "event", "events": {"vn.h41.changed": {"title": _TEXT, "schema": _DATA}}}
        | _COMMON,
        {"service": "send", "request_schema": _DATA} | _TAKE | _COMMON,
    ],
}
_SUBSCRIBER: dict[str, Any] = {
    "id": "g22-bench",
    "provider": "G22",
    "services": [{"service": "changes-received", "request_schema": _EVENT} | _TAKE | _COMMON],
}
_DATA_OF_1_KB = {"ma": "9649056869", "ghiChu": "x" * 900}


def _documents() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"kind": "member", "code": code, "name": _TEXT, "valid_from": "2020-01-01", "zone": "national"}
        for code in ("G22", "H41")
    ]
    for id, member, scopes in (("caller", "G22", ["exchange", "registry"]), ("provider", "H41", ["adapter"])):
        client = {"kind": "client", "id": id, "member": member, "name": _TEXT, "scopes": scopes}
        found.append(client | {"secret_file": f"{id}.secret"})
    found += [{"kind": "adapter", **_PUBLISHER}, {"kind": "adapter", **_SUBSCRIBER}]
    for service in ("changes", "send"):
        found.append(
            {"kind": "agreement", "reference": f"bench-{service}", "consumer": "G22", "service": f"H41/{service}/v1",
             "purposes": ["bench"], "legal_basis": "NĐ 194/2025/NĐ-CP", "fields": [""], "accepted": True,
             "valid_from": "2020-01-01T00:00:00Z"}
        )  # fmt: skip
    return found


def _adapters() -> list[Adapter]:
    made = []
    for manifest, service in ((_PUBLISHER, "send"), (_SUBSCRIBER, "changes-received")):
        adapter = Adapter(Manifest.model_validate(manifest))

        @adapter.service(service, "v1")
        async def take(_: Request) -> object:
            return {}

        made.append(adapter)
    return made


class Bench:
    """The subjects, each of which carries a number of events or submissions to their end."""

    def __init__(self, inside: Inside, rows: asyncpg.Connection, tokens: dict[str, dict[str, str]], port: int) -> None:
        self._inside, self._rows, self._tokens, self._port = inside, rows, tokens, port

    def subjects(self) -> dict[str, Callable[[int], Awaitable[None]]]:
        """By name; the first is the reference."""
        return {
            tr("hồ sơ đến kết quả", "a submission to its outcome"): self.submissions,
            tr("công bố, từng sự kiện", "publishing, one at a time"): self.publishing,
            tr("công bố, mỗi lần 50", "publishing, fifty at a time"): self.publishing_in_batches,
            tr("sự kiện đến bộ kết nối", "an event to an adapter"): self.to_adapter,
            tr("sự kiện đến webhook", "an event to a webhook"): self.to_webhook,
        }

    async def submissions(self, number: int) -> None:
        body = orjson.dumps(_DATA_OF_1_KB)
        headers = self._tokens["caller"] | {"content-type": "application/json", "ngsp-purpose": "bench"}

        async def some() -> None:
            for _ in range(number // AT_ONCE):
                given = headers | {"idempotency-key": uuid7(), "content-length": str(len(body))}
                await self._must(202, "POST", "/v1/services/H41/send/v1", given, body)

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))
        await self._all_ended()

    async def publishing(self, number: int) -> None:
        async def some() -> None:
            for _ in range(number // AT_ONCE):
                await self._publish(1)

        await asyncio.gather(*(some() for _ in range(AT_ONCE)))

    async def publishing_in_batches(self, number: int) -> None:
        async def some() -> None:
            for _ in range(number // IN_BATCH // 4):
                await self._publish(IN_BATCH)

        await asyncio.gather(*(some() for _ in range(4)))

    async def to_adapter(self, number: int) -> None:
        await self._delivered(number, {"receiver": "G22/changes-received/v1"})

    async def to_webhook(self, number: int) -> None:
        await self._delivered(number, {"url": f"http://127.0.0.1:{self._port}/"})

    async def _delivered(self, number: int, where: dict[str, str]) -> None:
        """To a new subscription, so that it begins with what is published now."""
        document, id = {"service": SERVICE, "purpose": "bench"} | where, f"bench-{uuid7()}"
        await self._subscribe(id, document)
        await self.publishing_in_batches(number)
        await self._all_ended()
        await self._subscribe(id, document | {"active": False})

    async def _subscribe(self, id: str, document: dict[str, Any]) -> None:
        body = orjson.dumps(document)
        headers = self._tokens["caller"] | {"content-type": "application/json", "content-length": str(len(body))}
        status, answer = await ask(self._inside.door, "PUT", f"/v1/subscriptions/{id}", headers, body)
        if status not in (200, 201):
            raise RuntimeError(f"answered {status}: {answer!r}")

    async def _publish(self, number: int) -> None:
        events = [
            {"specversion": "1.0", "id": uuid7(), "source": "/bench", "type": "vn.h41.changed", "data": _DATA_OF_1_KB}
            for _ in range(number)
        ]
        kind = "application/cloudevents+json" if number == 1 else "application/cloudevents-batch+json"
        body = orjson.dumps(events[0] if number == 1 else events)
        headers = self._tokens["provider"] | {"content-type": kind, "content-length": str(len(body))}
        await self._must(202, "POST", f"/v1/events/{SERVICE}", headers, body)

    async def _must(self, status: int, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        found, answer = await ask(self._inside.door, method, path, headers, body)
        if found != status:
            raise RuntimeError(f"answered {found}: {answer!r}")

    async def _all_ended(self) -> None:
        left = """
            SELECT (SELECT count(*) FROM outbox WHERE state <> 'closed') + (
                SELECT count(*) FROM subscription_progress p JOIN subscriptions s ON s.id = p.subscription
                WHERE s.active AND EXISTS (
                    SELECT 1 FROM events e WHERE e.service = s.service AND (e.xid, e.seq) > (p.xid, p.seq)))"""
        while await self._rows.fetchval(left):
            await asyncio.sleep(0.05)


async def _take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The least that a receiver of webhooks can be."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            await reader.readexactly(length)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    writer.close()


async def _measure(folder: Path, quick: bool) -> list[Figure]:
    number = EVENTS // 10 if quick else EVENTS
    receiver = await asyncio.start_server(_take, "127.0.0.1", 0)
    port = receiver.sockets[0].getsockname()[1]
    settings = {"webhook_allowed_networks": "127.0.0.0/8", "event_window": 1_000, "relay_batch": 500}
    async with gateway_inside(folder, _documents(), _adapters(), **settings) as inside:
        rows = await asyncpg.connect(inside.url)
        tokens = {client: await inside.bearer(client) for client in ("caller", "provider")}
        subjects = Bench(inside, rows, tokens, port).subjects()
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
        for turn in range(ROUNDS + 1):
            for name, carry in subjects.items():
                cpu_s, wall_s = time.process_time(), time.perf_counter()
                await carry(number)
                if turn:  # the first is to warm up
                    cpu_us = (time.process_time() - cpu_s) / number * 1e6
                    taken[name].append((cpu_us, number / (time.perf_counter() - wall_s)))
        await rows.close()
    receiver.close()
    return medians(taken)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: measured."""
    submission, *_, adapter, webhook = figures = measured("events", __doc__, _measure, arguments)
    print(f"\n{table(figures)}\n")
    ratios = f"adapter={adapter.cpu_us / submission.cpu_us:.2f} webhook={webhook.cpu_us / submission.cpu_us:.2f}"
    print(f"events submission_us={submission.cpu_us:.0f} {ratios}")
    return 0
