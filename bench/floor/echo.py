"""A loop of aiokafka and nothing else: takes each request and sends a reply. What adapters are held against."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.child import Parent, quiet_gc
from bench.floor.kafka import GETMANY_TIMEOUT_MS, check_delivery

REPLY = json.dumps({"status": "found", "citizen": {"id": "900000000001", "note": "r" * 940}}).encode()

Send = Callable[[Any], Awaitable["asyncio.Future[Any]"]]
"""Message → its reply on the way to the broker."""


async def echo(parent: Parent, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, send: Send) -> None:
    """Until the parent ends it; stops both."""

    async def answer() -> None:
        while True:
            for messages in (await consumer.getmany(timeout_ms=GETMANY_TIMEOUT_MS)).values():
                for message in messages:
                    (await send(message)).add_done_callback(check_delivery)

    async with asyncio.TaskGroup() as group:
        answering = group.create_task(answer())
        quiet_gc()
        parent.say_ready()
        await parent.wait_for_end()
        answering.cancel()
    await consumer.stop()
    await producer.stop()
