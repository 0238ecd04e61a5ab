"""The bare loop: takes each request and sends a reply of 1 KB to the topic it names. A process of its own."""

from __future__ import annotations

import asyncio

import uvloop
from aiokafka import AIOKafkaConsumer

from bench.adapters.runner import REQUEST_TOPIC
from bench.child import Parent, quiet_gc
from bench.floor.adapter import REPLY
from bench.floor.kafka import GETMANY_TIMEOUT_MS, check_delivery, start_producer


async def serve() -> None:
    parent = await Parent.meet()
    bootstrap = parent.settings["bootstrap"]
    producer = await start_producer(bootstrap)
    consumer = AIOKafkaConsumer(
        REQUEST_TOPIC, bootstrap_servers=bootstrap, group_id="bench-bare", auto_offset_reset="earliest"
    )
    await consumer.start()

    async def echo() -> None:
        while True:
            for messages in (await consumer.getmany(timeout_ms=GETMANY_TIMEOUT_MS)).values():
                for message in messages:
                    headers = dict(message.headers)
                    topic = headers["ngsp-reply-to"].decode()
                    delivery = await producer.send(topic, REPLY, headers=[("ngsp-id", headers["ngsp-id"])])
                    delivery.add_done_callback(check_delivery)

    async with asyncio.TaskGroup() as group:
        echoing = group.create_task(echo())
        quiet_gc()
        parent.say_ready()
        await parent.wait_for_end()
        echoing.cancel()
    await consumer.stop()
    await producer.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
