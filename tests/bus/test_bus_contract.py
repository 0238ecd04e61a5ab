"""The contract of `Bus`, run against the embedded bus and against a real Kafka."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from ngsp.bus import Bus, EmbeddedBus, Message, Topic
from ngsp.bus.kafka import KafkaBus, KafkaConnection
from ngsp.config import LARGEST_BODY_BYTES
from ngsp.errors import BusUnavailable
from ngsp.local.kafka import LocalKafka
from tests.support.waiting import until


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> LocalKafka | None:
    """The broker to use, None for the bus inside the process."""
    return request.getfixturevalue("kafka") if request.param == "kafka" else None


@pytest.fixture
async def bus(broker: LocalKafka | None) -> AsyncIterator[Bus]:
    found: Bus = KafkaBus(KafkaConnection(broker.bootstrap), "contract") if broker else EmbeddedBus()
    await found.start()
    yield found
    await found.stop()


async def make_topic(bus: Bus, partitions: int = 1) -> str:
    name = f"contract.{uuid.uuid4().hex[:12]}"
    await bus.ensure([Topic(name, partitions, 3600)])
    return name


async def test_a_message_arrives_as_it_was_sent(bus: Bus) -> None:
    topic = await make_topic(bus)
    got: list[Message] = []
    tail = await bus.tail(topic, got.append)
    await bus.send(topic, [("ngsp-id", b"1"), ("ngsp-x", "Nghệ An".encode())], b'{"a": \x01}')
    await until(lambda: bool(got), "the message")
    assert (got[0].topic, dict(got[0].headers), got[0].value) == (
        topic,
        {"ngsp-id": b"1", "ngsp-x": "Nghệ An".encode()},
        b'{"a": \x01}',
    )
    await tail.stop(1)


async def test_the_largest_body_that_settings_allow_arrives(bus: Bus) -> None:
    topic = await make_topic(bus)
    got: list[Message] = []
    tail = await bus.tail(topic, got.append)
    await bus.send(topic, [("ngsp-fields", b"/" * 48_000)], b"x" * LARGEST_BODY_BYTES)
    await until(lambda: bool(got), "the message")
    assert len(got[0].value) == LARGEST_BODY_BYTES
    await tail.stop(1)


async def test_sending_makes_no_topic(bus: Bus) -> None:
    with pytest.raises(BusUnavailable):
        await bus.send("contract.never-made", [], b"x")


async def test_ensure_twice_is_once(bus: Bus) -> None:
    topic = await make_topic(bus, 2)
    await bus.ensure([Topic(topic, 2, 3600)])
    await bus.send(topic, [], b"x")


async def test_a_tail_reads_only_what_comes_after_it(bus: Bus) -> None:
    topic = await make_topic(bus)
    await bus.send(topic, [], b"before")
    got: list[bytes] = []
    tail = await bus.tail(topic, lambda message: got.append(message.value))
    await bus.send(topic, [], b"after")
    await until(lambda: bool(got), "the message")
    assert got == [b"after"]
    await tail.stop(1)


async def test_a_group_gets_what_came_before_it_joined(bus: Bus) -> None:
    topic = await make_topic(bus)
    await bus.send(topic, [], b"early")
    got: list[bytes] = []

    async def handle(message: Message) -> None:
        got.append(message.value)

    member = await bus.work([topic], "early-group", handle, 4)
    await until(lambda: got == [b"early"], "the early message")
    await member.stop(5)


async def test_members_of_a_group_share_and_two_groups_do_not(bus: Bus) -> None:
    topic = await make_topic(bus, 4)
    got: dict[str, list[int]] = {"one": [], "other": []}

    async def handle_one(message: Message) -> None:
        got["one"].append(int(message.value))

    async def handle_other(message: Message) -> None:
        got["other"].append(int(message.value))

    members = [
        await bus.work([topic], "one", handle_one, 4),
        await bus.work([topic], "one", handle_one, 4),
        await bus.work([topic], "other", handle_other, 4),
    ]
    for number in range(60):
        await bus.send(topic, [], b"%d" % number)
    await until(lambda: set(got["one"]) == set(range(60)) == set(got["other"]), "all messages in both groups", 40)
    for member in members:
        await member.stop(5)


async def test_work_is_bounded_and_goes_on(bus: Bus) -> None:
    topic = await make_topic(bus)
    running, most, done = 0, 0, 0
    gate = asyncio.Event()

    async def handle(message: Message) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        done += 1

    member = await bus.work([topic], "bounded", handle, 3)
    for number in range(20):
        await bus.send(topic, [], b"%d" % number)
    await until(lambda: running == 3 == member.in_work, "three in work")
    gate.set()
    await until(lambda: done == 20, "all done")
    assert most == 3
    await member.stop(5)


async def test_a_topic_whose_work_hangs_holds_up_no_other(bus: Bus) -> None:
    """As much of it as may be is in work, the rest stays on the bus; it goes on when there is room again."""
    slow, quick = await make_topic(bus, 2), await make_topic(bus, 2)
    gate = asyncio.Event()
    done: dict[str, int] = {slow: 0, quick: 0}
    running, most = 0, 0

    async def handle(message: Message) -> None:
        nonlocal running, most
        if message.topic == slow:
            running += 1
            most = max(most, running)
            await gate.wait()
            running -= 1
        done[message.topic] += 1

    member = await bus.work([slow, quick], f"hangs-{uuid.uuid4().hex[:8]}", handle, 8)
    for number in range(40):
        await bus.send(slow, [], b"%d" % number)
    await until(lambda: running == 6, "all of the slow one that may be in work")
    for number in range(40):
        await bus.send(quick, [], b"%d" % number)
    await until(lambda: done[quick] == 40, "the quick one to be done")
    assert (member.in_work, member.paused, done[slow]) == (6, [slow], 0)
    assert (await member.lag())[slow] == 34
    gate.set()
    await until(lambda: done[slow] == 40, "the slow one to be done")
    assert (most, member.paused) == (6, [])
    await member.stop(5)


async def test_a_topic_has_the_limit_it_was_given(bus: Bus) -> None:
    narrow, wide = await make_topic(bus), await make_topic(bus)
    running: dict[str, int] = {narrow: 0, wide: 0}
    gate = asyncio.Event()

    async def handle(message: Message) -> None:
        running[message.topic] += 1
        await gate.wait()

    limits = {narrow: 2}
    member = await bus.work([narrow, wide], f"limits-{uuid.uuid4().hex[:8]}", handle, 8, limits)
    for number in range(10):
        for topic in (narrow, wide):
            await bus.send(topic, [], b"%d" % number)
    await until(lambda: running == {narrow: 2, wide: 6}, "two and six in work")
    assert (member.in_work, member.paused) == (8, sorted([narrow, wide]))
    gate.set()
    await until(lambda: running == {narrow: 10, wide: 10}, "all to be done")
    await member.stop(5)


async def test_what_a_member_has_in_work_is_not_begun_again_when_another_joins(bus: Bus) -> None:
    """The group shares its partitions anew; this member keeps its own, and reads again what it has not finished."""
    topic, other = await make_topic(bus), await make_topic(bus)
    group = f"joins-{uuid.uuid4().hex[:8]}"
    gate = asyncio.Event()
    begun: list[bytes] = []

    async def handle(message: Message) -> None:
        begun.append(message.value)
        if message.value == b"hangs":
            await gate.wait()

    first = await bus.work([topic], group, handle, 4)
    await bus.send(topic, [], b"hangs")
    await until(lambda: begun == [b"hangs"], "the first message")
    second = await bus.work([other], group, handle, 4)
    await bus.send(other, [], b"joined")
    await until(lambda: b"joined" in begun, "the second member to work")
    await bus.send(topic, [], b"next")
    await until(lambda: b"next" in begun, "what comes after it")
    assert sorted(begun) == [b"hangs", b"joined", b"next"]
    gate.set()

    async def nothing_waits() -> bool:
        return (await bus.lag({topic: group}))[topic] == 0

    await until(nothing_waits, "everything finished and committed")
    for member in (first, second):
        await member.stop(5)


async def test_what_was_paused_comes_to_the_successor(bus: Bus) -> None:
    topic, other = await make_topic(bus), await make_topic(bus)
    group = f"paused-{uuid.uuid4().hex[:8]}"
    begun: list[bytes] = []

    async def hangs(message: Message) -> None:
        begun.append(message.value)
        if message.value != b"0":
            await asyncio.Event().wait()

    member = await bus.work([topic, other], group, hangs, 4, {topic: 2})
    for number in range(6):
        await bus.send(topic, [], b"%d" % number)
    await until(lambda: len(begun) == 3 and member.paused == [topic], "the topic to be paused")
    await member.stop(0.1)
    got: set[bytes] = set()

    async def handle(message: Message) -> None:
        got.add(message.value)

    successor = await bus.work([topic, other], group, handle, 4)
    await until(lambda: got == {b"%d" % number for number in range(1, 6)}, "all but the finished one")
    await successor.stop(5)


async def test_what_a_handler_failed_on_comes_again(bus: Bus) -> None:
    topic = await make_topic(bus)
    seen: list[bytes] = []

    async def handle(message: Message) -> None:
        seen.append(message.value)
        if len(seen) == 1:
            raise RuntimeError("the first time fails")

    member = await bus.work([topic], "again", handle, 1)
    await bus.send(topic, [], b"m")
    await until(lambda: seen == [b"m", b"m"], "the second delivery")
    await member.stop(5)


async def test_what_was_not_finished_at_stop_comes_to_the_successor(bus: Bus) -> None:
    topic = await make_topic(bus)
    started = asyncio.Event()

    async def hangs(message: Message) -> None:
        if message.value == b"2":
            started.set()
            await asyncio.Event().wait()

    member = await bus.work([topic], "successor", hangs, 4)
    for value in (b"1", b"2", b"3"):
        await bus.send(topic, [], value)
    await asyncio.wait_for(started.wait(), 20)
    await member.stop(0.2)
    got: set[bytes] = set()

    async def handle(message: Message) -> None:
        got.add(message.value)

    successor = await bus.work([topic], "successor", handle, 4)
    await until(lambda: b"2" in got, "the unfinished message")
    assert b"1" not in got
    await successor.stop(5)


async def test_work_ends_in_hand_at_stop(bus: Bus) -> None:
    topic = await make_topic(bus)
    started, finished, release = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handle(message: Message) -> None:
        started.set()
        await release.wait()
        finished.set()

    member = await bus.work([topic], "drain", handle, 4)
    await bus.send(topic, [], b"x")
    await asyncio.wait_for(started.wait(), 20)
    stopping = asyncio.create_task(member.stop(10))
    release.set()
    await stopping
    assert finished.is_set()


async def test_lag_counts_what_waits(bus: Bus) -> None:
    topic = await make_topic(bus)
    release = asyncio.Event()

    async def handle(message: Message) -> None:
        await release.wait()

    member = await bus.work([topic], "lag", handle, 1)
    for number in range(5):
        await bus.send(topic, [], b"%d" % number)

    async def four_wait() -> bool:
        return (await member.lag()).get(topic) == 4

    await until(four_wait, "a lag of four")
    assert (await bus.lag({topic: "lag", "contract.unknown": "none"}))[topic] >= 4
    release.set()

    async def nothing_waits() -> bool:
        return (await bus.lag({topic: "lag"}))[topic] == 0

    await until(nothing_waits, "everything finished and committed")
    await member.stop(5)


async def test_a_bus_that_is_not_started_takes_nothing() -> None:
    bus = EmbeddedBus()
    await bus.ensure([Topic("t", 1, 60)])
    assert bus.trouble()
    with pytest.raises(BusUnavailable):
        await bus.send("t", [], b"x")


async def test_a_full_queue_refuses_instead_of_growing() -> None:
    from ngsp.bus import embedded

    bus = EmbeddedBus()
    await bus.start()
    await bus.ensure([Topic("t", 1, 60)])
    for _ in range(embedded.MOST_QUEUED):
        await bus.send("t", [], b"")
    with pytest.raises(BusUnavailable):
        await bus.send("t", [], b"")
    await bus.stop()


@pytest.mark.kafka
async def test_a_killed_broker_is_survived_and_shown(kafka: LocalKafka) -> None:
    bus = KafkaBus(KafkaConnection(kafka.bootstrap), "survivor")
    await bus.start()
    topic = await make_topic(bus)
    tailed: list[bytes] = []
    worked: list[bytes] = []

    async def handle(message: Message) -> None:
        worked.append(message.value)

    tail = await bus.tail(topic, lambda message: tailed.append(message.value))
    member = await bus.work([topic], "survivors", handle, 4)
    await bus.send(topic, [], b"1")
    await until(lambda: tailed == [b"1"] == worked, "the first message")
    consumer = member._consumer
    kafka.kill()
    await until(lambda: bus.trouble() != "", "the loss to show")
    with pytest.raises(BusUnavailable):
        await bus.lag({topic: "survivors"})
    await kafka.start()
    await until(lambda: bus.trouble() == "", "the bus to be well again", 40)
    await bus.send(topic, [], b"2")
    await until(lambda: b"2" in tailed and b"2" in worked, "a message after the restart", 60)
    # One made anew would wait until the session of the one before has ended.
    assert member._consumer is consumer
    await member.stop(5)
    await tail.stop(1)
    await bus.stop()
