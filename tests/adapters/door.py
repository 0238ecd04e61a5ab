"""An adapter served from an embedded bus, asked as a gateway asks it: message in, message out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from ngsp.adapter import Adapter
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus.base import Message, Topic
from ngsp.bus.embedded import EmbeddedBus
from ngsp.messages import REPLY_TOPIC_PREFIX, Envelope, Probe, Reply, uuid7
from ngsp.registry.model import Schema
from ngsp.vault import Vault

REPLY_TOPIC = f"{REPLY_TOPIC_PREFIX}1"
LONGEST_WAIT_S = 30.0


class Door:
    """Asks one service of `adapter`, the first where none is named, and checks each answer against its schema."""

    def __init__(self, adapter: Adapter, bus: EmbeddedBus, service: str = "") -> None:
        self.path = next(path for path in adapter.declared() if not service or f"/{service}/" in path)
        self._service = adapter.declared()[self.path]
        self._topic = adapter.key(self._service).request_topic
        self._reply_schema = Schema(self._service.reply_schema, "reply")
        self._bus = bus
        self._waiting: dict[str, list[asyncio.Future[Reply]]] = {}

    def heard(self, message: Message) -> None:
        reply = Reply.read(message.headers, message.value)
        self._waiting[reply.id].pop(0).set_result(reply)

    async def ask(
        self,
        payload: Any,
        *,
        id: str = "",
        officer: str = "",
        dossier: str = "",
        deadline_s: float = 10.0,
        probe: Probe = "",
    ) -> Reply:
        """The reply to one delivery of `payload`; with the `id` of an earlier one, to a repeated delivery."""
        envelope = Envelope(
            id=id or uuid7(),
            service=self.path,
            deadline_ms=int((time.time() + deadline_s) * 1000),
            purpose="test",
            fields=("",),
            schema="s",
            reply_to=REPLY_TOPIC,
            body=orjson.dumps(payload),
            consumer="G22",
            officer=officer,
            dossier=dossier,
            probe=probe,
        )
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(envelope.id, []).append(answer)
        await self._bus.send(self._topic, envelope.headers(), envelope.body)
        reply = await asyncio.wait_for(answer, LONGEST_WAIT_S)
        if reply.status == "ok":
            faults = self._reply_schema.faults(orjson.loads(reply.body))
            assert faults == (), faults
        return reply

    async def answer(self, payload: Any, **how: Any) -> Any:
        """What the adapter answers where it has an answer."""
        reply = await self.ask(payload, **how)
        assert reply.status == "ok", (reply.status, reply.code)
        return orjson.loads(reply.body)


@asynccontextmanager
async def door_to(
    adapter: Adapter, folder: Path, environment: Callable[[str], str | None] = os.environ.get, service: str = ""
) -> AsyncIterator[Door]:
    """`adapter` served until the context ends."""
    bus = EmbeddedBus()
    await bus.start()
    door = Door(adapter, bus, service)
    topics = [adapter.key(service).request_topic for service in adapter.manifest.services]
    await bus.ensure(Topic(name, 1, 60.0) for name in (*topics, REPLY_TOPIC))
    tail = await bus.tail(REPLY_TOPIC, door.heard)
    runner = AdapterRunner(adapter, bus, Vault(os.urandom(32)), folder, environment=environment)
    await runner.start()
    try:
        yield door
    finally:
        await runner.stop()
        await tail.stop(1.0)
        await bus.stop()


def example(service: str, name: str) -> Any:
    """A document of `schemas/{service}/v1/examples`, whose `request` and `reply` a test may use and change."""
    path = Path(__file__).parents[2] / "schemas" / service / "v1" / "examples" / f"{name}.json"
    return orjson.loads(path.read_bytes())
