"""The floor's gateway, a process of its own: HTTP in, row, Kafka there and back, row, HTTP out."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import uvicorn
import uvloop
from asyncpg.pgproto.pgproto import UUID

from bench.child import Parent, quiet_gc
from bench.floor.kafka import GETMANY_TIMEOUT_MS, check_delivery, correlation_of, start_consumer, start_producer
from bench.floor.log import GroupCommit

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

ACCEPTED, OUTCOME = 1, 2
ENTRY_BYTES = 600


class Exchange:
    """Request-reply over Kafka: a future per request in flight, found by the reply's correlation id."""

    def __init__(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, request_topic: str) -> None:
        self._producer = producer
        self._consumer = consumer
        self._request_topic = request_topic
        self._waiting: dict[bytes, asyncio.Future[bytes]] = {}
        self._loop = asyncio.get_running_loop()

    async def call(self, correlation: bytes, body: bytes) -> bytes:
        reply: asyncio.Future[bytes] = self._loop.create_future()
        self._waiting[correlation] = reply
        headers = [("id", correlation)]
        delivery = await self._producer.send(self._request_topic, body, partition=0, headers=headers)
        delivery.add_done_callback(check_delivery)
        return await reply

    async def read_replies(self) -> None:
        while True:
            for messages in (await self._consumer.getmany(timeout_ms=GETMANY_TIMEOUT_MS)).values():
                for message in messages:
                    reply = self._waiting.pop(correlation_of(message.headers), None)
                    if reply is not None and not reply.done():
                        reply.set_result(message.value)


def uuid7() -> Any:
    """A UUIDv7 (RFC 9562 §5.7) in the type that asyncpg encodes without a detour."""
    random = bytearray(os.urandom(10))
    random[0] = 0x70 | (random[0] & 0x0F)
    random[2] = 0x80 | (random[2] & 0x3F)
    return UUID((time.time_ns() // 1_000_000).to_bytes(6, "big") + random)


def application(log: GroupCommit, exchange: Exchange) -> Any:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        id_ = uuid7()
        await log.write(id_, ACCEPTED, body[:ENTRY_BYTES])
        reply = await exchange.call(id_.bytes, body)
        await log.write(id_, OUTCOME, reply[:ENTRY_BYTES])
        length = str(len(reply)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    return app


async def serve() -> None:
    parent = await Parent.meet()
    settings = parent.settings
    connection = await asyncpg.connect(settings["postgres"])
    log = GroupCommit(connection)
    producer = await start_producer(settings["bootstrap"])
    consumer = await start_consumer(settings["bootstrap"], settings["reply_topic"])
    exchange = Exchange(producer, consumer, settings["request_topic"])
    config = uvicorn.Config(
        application(log, exchange),
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with asyncio.TaskGroup() as group:  # one that fails ends them all, and the process with a traceback
            helpers = [group.create_task(log.run()), group.create_task(exchange.read_replies())]
            serving = group.create_task(server.serve([listener]))
            quiet_gc()
            parent.say_ready(port=listener.getsockname()[1])
            await parent.wait_for_end()
            server.should_exit = True
            await serving
            for helper in helpers:
                helper.cancel()
    await consumer.stop()
    await producer.stop()
    await connection.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
