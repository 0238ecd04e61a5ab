"""A broker that is away: how often it is called meanwhile, by how many clients, and how it goes on afterwards."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka.client import AIOKafkaClient

from ngsp.bus import Message, Topic
from ngsp.bus.kafka import KafkaBus, KafkaConnection
from ngsp.errors import BusUnavailable
from ngsp.local.kafka import LocalKafka
from tests.support.waiting import until

pytestmark = pytest.mark.kafka
LOOPS = 256
"""Messages in work, each of whose handlers wants to send."""
MOST_CALLS_A_SECOND = 4
"""One scout's second, and what else is tried at the first failure. Each loop on its own made over sixty."""


class Answerless:
    """Stands at the port of a broker that is away: counts who calls, and hangs up."""

    def __init__(self) -> None:
        self.calls = 0

    @asynccontextmanager
    async def at(self, bootstrap: str) -> AsyncIterator[Answerless]:
        host, _, port = bootstrap.partition(":")
        server = await asyncio.start_server(self._hang_up, host, int(port))
        async with server:
            yield self

    async def _hang_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        writer.close()


def clients() -> int:
    gc.collect()
    return sum(isinstance(each, AIOKafkaClient) for each in gc.get_objects())


@pytest.mark.long
async def test_a_broker_that_is_away_is_called_once_a_second_by_the_clients_there_were(kafka: LocalKafka) -> None:
    before = clients()
    bus = KafkaBus(KafkaConnection(kafka.bootstrap), "outage")
    await bus.start()
    topics = [f"outage.{uuid.uuid4().hex[:12]}" for _ in range(5)]
    *asked, replies = topics
    await bus.ensure([Topic(name, 2, 3600) for name in topics[:4]] + [Topic(replies, 1, 3600)])
    away, failed, replied = asyncio.Event(), [0], [0]

    async def handle(message: Message) -> None:
        await away.wait()
        while True:
            try:
                await bus.send(replies, [], message.value)
            except BusUnavailable:
                failed[0] += 1
            else:
                return

    def count(message: Message) -> None:
        replied[0] += 1

    tail = await bus.tail(replies, count)
    member = await bus.work(asked, f"outage-{uuid.uuid4().hex[:8]}", handle, LOOPS)
    for number in range(LOOPS):
        await bus.send(asked[number % len(asked)], [], b"%d" % number)
    await until(lambda: member.in_work == LOOPS, "all in work")
    there_were = clients()
    kafka.kill()
    async with Answerless().at(kafka.bootstrap) as port:
        away.set()
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        await until(lambda: failed[0] >= 2 * LOOPS, "every message to have failed twice", 60)
        lasted_s = loop.time() - begun_at
        assert 1 <= port.calls <= MOST_CALLS_A_SECOND * lasted_s
        assert clients() == there_were == before + 3
    await kafka.start()
    await until(lambda: replied[0] >= LOOPS and member.in_work == 0, "every reply sent after the outage", 60)
    await until(lambda: bus.trouble() == "", "the bus to be well")
    await member.stop(5)
    await tail.stop(1)
    await bus.stop()
