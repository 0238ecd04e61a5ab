"""The Kafka of the demo and the tests, met through a real client."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ngsp.local.kafka import LocalKafka
from ngsp.local.process import LocalServerError, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROJECT = Path(__file__).parents[2]


@pytest.fixture
async def broker(kafka_programs_present: None, tmp_path: Path) -> AsyncIterator[LocalKafka]:
    """A broker of the test's own, to be killed."""
    broker = LocalKafka(tmp_path / "data")
    await broker.start()
    yield broker
    await broker.remove()


async def _make_topic(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def _send(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for value in values:
            await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def _read(bootstrap: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_carries_messages_on_loopback_and_makes_no_topic_by_itself(kafka: LocalKafka) -> None:
    await _make_topic(kafka.bootstrap, "carried")
    await _send(kafka.bootstrap, "carried", [b"mot", b"hai"])
    assert await _read(kafka.bootstrap, "carried", 2) == [b"mot", b"hai"]
    assert kafka.pid is not None
    listening = [c for c in psutil.Process(kafka.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert {connection.laddr.ip.removeprefix("::ffff:") for connection in listening} == {"127.0.0.1"}
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await admin.describe_topics(["never-made"])
        assert "never-made" not in await admin.list_topics()
    finally:
        await admin.close()


@pytest.mark.long
async def test_a_killed_broker_comes_back_at_its_address_with_its_data(broker: LocalKafka) -> None:
    await _make_topic(broker.bootstrap, "kept")
    sent = [str(number).encode() for number in range(50)]
    await _send(broker.bootstrap, "kept", sent)
    address, first = broker.bootstrap, broker.pid
    broker.kill()
    assert broker.pid is None
    assert first is not None
    assert not psutil.pid_exists(first)
    await broker.start()
    assert broker.bootstrap == address
    assert await _read(address, "kept", 50) == sent
    await broker.stop()
    await broker.start()
    assert broker.bootstrap == address
    await _send(address, "kept", [b"again"])
    assert await _read(address, "kept", 51) == [*sent, b"again"]


@pytest.mark.long
async def test_a_folder_has_one_owner(broker: LocalKafka) -> None:
    with pytest.raises(LocalServerError) as refusal:
        await LocalKafka(broker.folder).start()
    assert str(os.getpid()) in refusal.value.text.en


async def test_a_port_that_is_taken_is_named(kafka_programs_present: None, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalServerError) as refusal:
            await LocalKafka(tmp_path, port=port).start()
    assert str(port) in refusal.value.text.vi
    assert str(port) in refusal.value.text.en


_OWNER_WHO_DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from ngsp.local.kafka import LocalKafka

async def main():
    server = LocalKafka(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.long
async def test_a_broker_whose_owner_was_killed_ends_by_itself(kafka_programs_present: None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _OWNER_WHO_DIES, str(tmp_path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    orphan = int(done.stdout.split()[-1])
    assert await until(lambda: not psutil.pid_exists(orphan), 20)
