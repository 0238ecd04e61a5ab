"""The floor as a target of the bench."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import asyncpg

from bench.child import Child
from bench.floor.log import CREATE_TABLE
from bench.plan import RequestPlan
from bench.topics import create_topics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ngsp.local.kafka import LocalKafka
    from ngsp.local.postgres import LocalPostgres

DATABASE = "bench_floor"
REQUEST_TOPIC, REPLY_TOPIC = "bench.floor.requests", "bench.floor.replies"
BODY = json.dumps({"citizen": {"id": "900000000001"}, "note": "q" * 970})
"""1 KB, as the goals have it."""


class FloorTarget:
    name = "floor"

    def __init__(self) -> None:
        self._children: dict[str, Child] = {}

    async def start(self, postgres: LocalPostgres, kafka: LocalKafka) -> None:
        await postgres.create_database(DATABASE)
        connection = await asyncpg.connect(postgres.url(DATABASE))
        await connection.execute(CREATE_TABLE)
        await connection.close()
        await create_topics(kafka.bootstrap, REQUEST_TOPIC, REPLY_TOPIC)
        topics = {"bootstrap": kafka.bootstrap, "request_topic": REQUEST_TOPIC, "reply_topic": REPLY_TOPIC}
        self._children["adapter"] = await Child.start("bench.floor.adapter", topics)
        gateway_settings = {**topics, "postgres": postgres.url(DATABASE)}
        self._children["gateway"] = await Child.start("bench.floor.gateway", gateway_settings)

    async def request(self) -> tuple[int, RequestPlan]:
        port: int = self._children["gateway"].ready["port"]
        return port, RequestPlan("POST", "/", {"Content-Type": "application/json"}, (BODY,))

    def processes(self) -> Mapping[str, int]:
        return {name: child.pid for name, child in self._children.items()}

    async def stop(self) -> None:
        async with AsyncExitStack() as stack:  # the gateway first: what it has in flight still needs the adapter
            for child in self._children.values():
                stack.push_async_callback(child.stop)
            self._children = {}
