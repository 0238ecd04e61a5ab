"""The floor's adapter: answers every request with about 1 KB. A process of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

from bench.child import Parent
from bench.floor.echo import REPLY, echo
from bench.floor.kafka import start_consumer, start_producer


async def serve() -> None:
    parent = await Parent.meet()
    bootstrap, reply_topic = parent.settings["bootstrap"], parent.settings["reply_topic"]
    producer = await start_producer(bootstrap)
    consumer = await start_consumer(bootstrap, parent.settings["request_topic"])

    def send(message: Any) -> Any:
        return producer.send(reply_topic, REPLY, partition=0, headers=list(message.headers))

    await echo(parent, consumer, producer, send)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
