"""An adapter on trial: on an embedded bus of its own, asked as a gateway asks, without gateway, broker or registry.

Each answer is judged as a gateway judges it: a request off its schema never reaches the adapter, a reply off its schema
never reaches the caller. What `ngsp adapter dev` and `ngsp adapter test` stand on.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ngsp.adapter.definition import Adapter
from ngsp.adapter.manifest import ServiceManifest
from ngsp.adapter.runner import AdapterRunner
from ngsp.adapter.sources import Publish
from ngsp.bus.base import Message, Topic
from ngsp.bus.embedded import EmbeddedBus
from ngsp.errors import Fault, NotFound, SchemaMismatch
from ngsp.messages import OUTCOMES_TOPIC, REPLY_TOPIC_PREFIX, Envelope, Reply, ServiceKey, uuid7
from ngsp.registry.model import Schema
from ngsp.registry.schemas import compiled
from ngsp.strictjson import parse
from ngsp.vault import Vault

REPLY_TOPIC = f"{REPLY_TOPIC_PREFIX}1"
RETENTION_S = 3600.0
MARGIN_S = 5.0
"""How much longer than the deadline a reply is waited for: an adapter must answer by itself that it is too late."""


class NoReply(Exception):
    """The adapter did not answer by the deadline, nor soon after."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one request. `faults`: where an `ok` is off the reply schema. `took_s`: there and back."""

    reply: Reply
    faults: tuple[Fault, ...]
    took_s: float

    @property
    def payload(self) -> Any:
        return orjson.loads(self.reply.body)


@dataclass(frozen=True, slots=True)
class Offer:
    """A service as the trial asks it."""

    key: ServiceKey
    manifest: ServiceManifest
    request_schema: Schema
    reply_schema: Schema

    @property
    def path(self) -> str:
        return self.key.path

    @property
    def topic(self) -> str:
        return self.key.request_topic


class Trial:
    """A served adapter. Made by `on_trial`."""

    def __init__(self, adapter: Adapter, bus: EmbeddedBus) -> None:
        self._bus = bus
        self.runner: AdapterRunner
        self._waiting: dict[str, list[asyncio.Future[Reply]]] = {}
        self.offers = {path: _offer(adapter, service) for path, service in adapter.declared().items()}

    def heard(self, message: Message) -> None:
        reply = Reply.read(message.headers, message.value)
        self._waiting[reply.id].pop(0).set_result(reply)

    async def heard_outcome(self, message: Message) -> None:
        self.heard(message)

    def offer(self, path: str) -> Offer:
        """The service at `provider/name/version`, or `name/version` alone; `NotFound` where there is none."""
        found = self.offers.get(path) or next((o for p, o in self.offers.items() if p.endswith(f"/{path}")), None)
        if found is None:
            raise NotFound(reason="the adapter serves no such service")
        return found

    async def ask(
        self,
        path: str,
        body: bytes,
        *,
        id: str = "",
        officer: str = "",
        dossier: str = "",
        purpose: str = "test",
        deadline_s: float | None = None,
    ) -> Tried:
        """Asks once; with the `id` of an earlier request, delivers that one again.

        The refusal of a gateway where the body is no JSON or off the request schema (`SchemaMismatch`): the adapter has
        not seen it then. `NoReply` where nothing comes.
        """
        offer = self.offer(path)
        if faults := offer.request_schema.faults(parse(body)):
            raise SchemaMismatch(faults=faults)
        return await self.deliver(offer, body, id or uuid7(), officer, dossier, purpose, deadline_s)

    async def deliver(
        self, offer: Offer, body: bytes, id: str, officer: str, dossier: str, purpose: str, deadline_s: float | None
    ) -> Tried:
        """Sends `body` as it is, whatever it holds."""
        service = offer.manifest
        limit_s = service.deadline_s if deadline_s is None else deadline_s
        envelope = Envelope(
            id=id,
            service=offer.path,
            deadline_ms=int((time.time() + limit_s) * 1000),
            purpose=purpose,
            fields=("",),
            schema=f"{offer.request_schema.digest[:16]}.{offer.reply_schema.digest[:16]}",
            reply_to=REPLY_TOPIC if service.mode == "query" else OUTCOMES_TOPIC,
            body=body,
            consumer="",
            officer=officer,
            dossier=dossier,
        )
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(id, []).append(answer)
        begun = time.perf_counter()
        await self._bus.send(offer.topic, envelope.headers(), envelope.body)
        try:
            reply = await asyncio.wait_for(answer, limit_s + MARGIN_S)
        except TimeoutError:
            raise NoReply(offer.path) from None
        return Tried(reply, _faults(offer, reply), time.perf_counter() - begun)


def _offer(adapter: Adapter, service: ServiceManifest) -> Offer:
    return Offer(adapter.key(service), service, compiled(service.request_schema), compiled(service.reply_schema))


def _faults(offer: Offer, reply: Reply) -> tuple[Fault, ...]:
    if reply.status != "ok":
        return ()
    return offer.reply_schema.faults(parse(reply.body))


@asynccontextmanager
async def on_trial(
    adapter: Adapter,
    folder: Path,
    environment: Callable[[str], str | None] = os.environ.get,
    publish: Publish | None = None,
) -> AsyncIterator[Trial]:
    """`adapter` served until the context ends. `folder`: of its inbox. `publish`: what its sources give to; None: they
    are not asked. ManifestError where it cannot be opened."""
    async with AsyncExitStack() as stack:
        bus = EmbeddedBus()
        await bus.start()
        stack.push_async_callback(bus.stop)
        trial = Trial(adapter, bus)
        topics = [*(offer.topic for offer in trial.offers.values()), REPLY_TOPIC, OUTCOMES_TOPIC]
        await bus.ensure(Topic(name, 1, RETENTION_S) for name in topics)
        tail = await bus.tail(REPLY_TOPIC, trial.heard)
        stack.push_async_callback(tail.stop, 1.0)
        outcomes = await bus.work([OUTCOMES_TOPIC], "trial", trial.heard_outcome, 100)
        stack.push_async_callback(outcomes.stop, 1.0)
        vault = Vault(os.urandom(32))
        trial.runner = AdapterRunner(adapter, bus, vault, folder, environment=environment, publish=publish)
        await trial.runner.start()
        stack.push_async_callback(trial.runner.stop)
        yield trial
