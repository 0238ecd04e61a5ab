"""The bare loop: takes each request and sends a reply of 1 KB to the topic it names. A process of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer

from bench.adapters.runner import REQUEST_TOPIC
from bench.child import Parent
from bench.floor.echo import REPLY, echo
from bench.floor.kafka import start_producer


async def serve() -> None:
    parent = await Parent.meet()
    bootstrap = parent.settings["bootstrap"]
    producer = await start_producer(bootstrap)
    consumer = AIOKafkaConsumer(
        REQUEST_TOPIC, bootstrap_servers=bootstrap, group_id="bench-bare", auto_offset_reset="earliest"
    )
    await consumer.start()

    def send(message: Any) -> Any:
        headers = dict(message.headers)
        return producer.send(headers["ngsp-reply-to"].decode(), REPLY, headers=[("ngsp-id", headers["ngsp-id"])])

    await echo(parent, consumer, producer, send)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
