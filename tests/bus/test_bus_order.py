"""Messages with a key: where they go, and what becomes of them when a topic goes over to another member."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from ngsp.bus import Bus, EmbeddedBus, Message, Topic
from ngsp.bus.kafka import KafkaBus, KafkaConnection
from ngsp.local.kafka import LocalKafka
from tests.support.waiting import until


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> LocalKafka | None:
    return request.getfixturevalue("kafka") if request.param == "kafka" else None


@pytest.fixture
async def bus(broker: LocalKafka | None) -> AsyncIterator[Bus]:
    found: Bus = KafkaBus(KafkaConnection(broker.bootstrap), "order") if broker else EmbeddedBus()
    await found.start()
    yield found
    await found.stop()


async def make_topic(bus: Bus, partitions: int) -> str:
    name = f"order.{uuid.uuid4().hex[:12]}"
    await bus.ensure([Topic(name, partitions, 3600)])
    return name


async def test_messages_of_one_key_are_begun_in_the_order_of_sending(bus: Bus) -> None:
    topic = await make_topic(bus, 4)
    got: dict[bytes, list[int]] = {}

    async def handle(message: Message) -> None:
        key, number = message.value.split()
        got.setdefault(key, []).append(int(number))

    members = [await bus.work([topic], "keys", handle, 8) for _ in range(2)]
    for number in range(10):
        for key in (b"a", b"b", b"c", b"d", b"e"):
            await bus.send(topic, [], b"%s %d" % (key, number), key)
    await until(lambda: sum(map(len, got.values())) >= 50, "all messages", 40)
    firsts = {key: list(dict.fromkeys(numbers)) for key, numbers in got.items()}
    assert firsts == {key: list(range(10)) for key in (b"a", b"b", b"c", b"d", b"e")}
    for member in members:
        await member.stop(5)


@pytest.mark.kafka
async def test_of_an_ordered_topic_nothing_is_in_work_at_two_members(kafka: LocalKafka) -> None:
    """What ends in time ends, what does not is cut off before another begins it again."""
    bus = KafkaBus(KafkaConnection(kafka.bootstrap), "handed-over")
    await bus.start()
    topic = await make_topic(bus, 2)
    group = f"over-{uuid.uuid4().hex[:8]}"
    running: set[bytes] = set()
    begun: list[tuple[int, bytes]] = []
    twice = False

    def member(number: int) -> object:
        async def handle(message: Message) -> None:
            nonlocal twice
            twice = twice or message.value in running
            running.add(message.value)
            begun.append((number, message.value))
            try:
                if number == 1:
                    await asyncio.Event().wait()
            finally:
                running.discard(message.value)

        return bus.work([topic], group, handle, 8, None, [topic])

    first = await member(1)  # type: ignore[misc]
    for number in range(12):
        await bus.send(topic, [], b"%d" % number, b"%d" % number)
    await until(lambda: first.in_work == 8, "as much as may be in work at the first")
    second = await member(2)  # type: ignore[misc]
    await until(lambda: any(who == 2 for who, _ in begun), "the second to get something", 40)
    of_second = {value for who, value in begun if who == 2}
    assert of_second & {value for who, value in begun if who == 1}, "begun again where it was cut off"
    assert not twice
    await second.stop(5)
    await first.stop(0.1)
    await bus.stop()
