"""The Kafka clients of the floor, tuned as measurement says: no linger, large batches, partitions assigned by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

if TYPE_CHECKING:
    import asyncio

MAX_BATCH_BYTES = 128 * 1024
GETMANY_TIMEOUT_MS = 1000


async def start_producer(bootstrap: str) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", linger_ms=0, max_batch_size=MAX_BATCH_BYTES, request_timeout_ms=5000
    )
    await producer.start()
    return producer


async def start_consumer(bootstrap: str, topic: str) -> AIOKafkaConsumer:
    """Reads the topic's one partition from its beginning, without a group."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False, request_timeout_ms=5000
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, 0)])
    return consumer


def correlation_of(headers: tuple[tuple[str, bytes], ...]) -> bytes:
    """The floor's messages carry one header, their correlation id."""
    return headers[0][1]


def check_delivery(delivery: asyncio.Future[object]) -> None:
    """As a callback on what `send` returned: a failure is raised into the event loop's log, never swallowed."""
    if not delivery.cancelled():
        delivery.result()
