"""The floor's adapter: answers every request with about 1 KB. A process of its own."""

from __future__ import annotations

import asyncio
import json

import uvloop

from bench.child import Parent, quiet_gc
from bench.floor.kafka import GETMANY_TIMEOUT_MS, check_delivery, start_consumer, start_producer

REPLY = json.dumps({"status": "found", "citizen": {"id": "900000000001", "note": "r" * 940}}).encode()


async def serve() -> None:
    parent = await Parent.meet()
    bootstrap, reply_topic = parent.settings["bootstrap"], parent.settings["reply_topic"]
    producer = await start_producer(bootstrap)
    consumer = await start_consumer(bootstrap, parent.settings["request_topic"])

    async def echo() -> None:
        while True:
            for messages in (await consumer.getmany(timeout_ms=GETMANY_TIMEOUT_MS)).values():
                for message in messages:
                    delivery = await producer.send(reply_topic, REPLY, partition=0, headers=list(message.headers))
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
