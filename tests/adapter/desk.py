"""The gateway's side of the bus: sends requests to an adapter and collects what comes back."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson

from ngsp.bus import Bus, Message, Topic
from ngsp.messages import OUTCOMES_TOPIC, REPLY_TOPIC_PREFIX, Envelope, Headers, Reply, uuid7
from tests.support.waiting import until

LONGEST_WAIT_S = 40.0


class Desk:
    """Reads a reply topic of its own and the shared topic of outcomes."""

    def __init__(self, bus: Bus, path: str, topic: str) -> None:
        self.bus, self.path, self.topic = bus, path, topic
        self.reply_topic = f"{REPLY_TOPIC_PREFIX}{random.randrange(10_000, 100_000)}"
        self._replies: dict[str, list[Reply]] = {}

    async def heard(self, message: Message) -> None:
        """One of the outcomes, which others have theirs among."""
        if Reply.read(message.headers, message.value).service == self.path:
            self.heard_now(message)

    def heard_now(self, message: Message) -> None:
        reply = Reply.read(message.headers, message.value)
        self._replies.setdefault(reply.id, []).append(reply)

    def envelope(self, payload: Any = None, *, deadline_s: float = 60.0, **changes: Any) -> Envelope:
        """A query's request, `deadline_s` from now; `changes` are fields of the envelope."""
        plain = Envelope(
            id=uuid7(),
            service=self.path,
            deadline_ms=int((time.time() + deadline_s) * 1000),
            purpose="birth-registration",
            fields=("/number",),
            schema="0123456789abcdef.0123456789abcdef",
            reply_to=self.reply_topic,
            body=orjson.dumps(payload if payload is not None else {}),
            consumer="H14",
        )
        return replace(plain, **changes)

    def submission(self, payload: Any = None, **changes: Any) -> Envelope:
        return self.envelope(payload, reply_to=OUTCOMES_TOPIC, **changes)

    async def deliver(self, envelope: Envelope, times: int = 1) -> None:
        for _ in range(times):
            await self.bus.send(self.topic, envelope.headers(), envelope.body)

    async def deliver_raw(self, headers: Headers, body: bytes = b"{}") -> None:
        await self.bus.send(self.topic, headers, body)

    def replies(self, id: str) -> list[Reply]:
        """What has come back for `id` so far."""
        return list(self._replies.get(id, ()))

    @property
    def answered(self) -> set[str]:
        """Ids of all messages that got a reply."""
        return set(self._replies)

    async def answers(self, id: str, count: int = 1) -> list[Reply]:
        await until(lambda: len(self.replies(id)) >= count, f"{count} replies", LONGEST_WAIT_S)
        return self.replies(id)

    async def ask(self, envelope: Envelope) -> Reply:
        """The reply to one more delivery of `envelope`."""
        before = len(self.replies(envelope.id))
        await self.deliver(envelope)
        return (await self.answers(envelope.id, before + 1))[before]

    async def settle(self) -> None:
        """Returns when every reply sent to the reply topic before has been heard."""
        mark = Reply(uuid7(), self.path, "ok")
        await self.bus.send(self.reply_topic, mark.headers(), b"")
        await self.answers(mark.id)
        del self._replies[mark.id]


@asynccontextmanager
async def desk_at(bus: Bus, path: str, topics: Iterable[str], *, outcomes: bool = False) -> AsyncIterator[Desk]:
    """A desk that asks the service `path`; its requests go to the first of `topics`. `outcomes`: read those too."""
    names = list(topics)
    desk = Desk(bus, path, names[0])
    kept = [Topic(name, 1, 3600.0) for name in (*names, desk.reply_topic)]
    await bus.ensure([*kept, *([Topic(OUTCOMES_TOPIC, 2, 3600.0)] if outcomes else ())])
    readers = [await bus.tail(desk.reply_topic, desk.heard_now)]
    if outcomes:
        readers.append(await bus.work([OUTCOMES_TOPIC], f"desk-{uuid.uuid4().hex[:12]}", desk.heard, 100))
    try:
        yield desk
    finally:
        for reader in readers:
            await reader.stop(5)
