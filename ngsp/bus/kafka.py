"""The bus over Apache Kafka, by aiokafka. Durability is the broker's: acks=all, replication from settings.

Facts this is built on: `max_batch_size` must be large for latency under load; linger 0; the future that `send` gives
must be watched; record headers come back as a tuple; a manually assigned consumer and the producer recover by
themselves after a broker's restart, a group consumer may stop without a word and is then made anew; while a partition
has no leader the producer asks for metadata without a pause, thousands of times a second, unless it is held back; while
a broker is away every loop of every client calls it ten times a second, unless `Reach` paces them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code
from aiokafka.structs import TopicPartition

from ngsp.bus.base import Message, Topic
from ngsp.bus.group import GroupMember
from ngsp.bus.reach import Reach
from ngsp.bus.room import Room
from ngsp.errors import BusUnavailable
from ngsp.messages import Headers
from ngsp.seldom import Seldom

PROBE_EVERY_S = 1.0
PROBE_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_MS = 5_000
LEADER_TIMEOUT_S = 20.0
METADATA_PAUSE_S = 0.1
MAX_BATCH_BYTES = 512 * 1024
"""Within what a topic takes at once. A send that finds the batch full waits for the one before it to be acknowledged:
as many messages of 1 KB as an adapter has in work must fit, or it spends its time with that."""
LARGEST_MESSAGE_BYTES = 2 * 1024 * 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """Where the brokers are and how they are spoken to; the same for gateways and adapters."""

    bootstrap: str
    security_protocol: str = "PLAINTEXT"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    username: str = ""
    password: str = ""

    def options(self) -> dict[str, Any]:
        """Arguments that every aiokafka client takes."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap,
            "security_protocol": self.security_protocol,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "retry_backoff_ms": 100,
            "metadata_max_age_ms": 60_000,
        }
        if self.security_protocol != "PLAINTEXT":
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file and self.key_file:
                context.load_cert_chain(self.cert_file, self.key_file)
            options["ssl_context"] = context
        if self.security_protocol == "SASL_SSL":
            options |= {
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options


class KafkaBus:
    """`Bus` over Apache Kafka."""

    def __init__(self, connection: KafkaConnection, client_id: str, replication: int = 1) -> None:
        self._connection, self._client_id, self._replication = connection, client_id, replication
        self._producer: AIOKafkaProducer | None = None
        self._probe: asyncio.Task[None] | None = None
        self._reach = Reach()

    async def start(self) -> None:
        producer = AIOKafkaProducer(
            client_id=self._client_id,
            acks="all",
            linger_ms=0,
            max_batch_size=MAX_BATCH_BYTES,
            max_request_size=LARGEST_MESSAGE_BYTES,
            **self._connection.options(),
        )
        try:
            await producer.start()
            self._reach.guard(producer.client)
            producer.client.force_metadata_update = _Paced(producer.client.force_metadata_update)
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise BusUnavailable(retry_after_s=2, reason=f"no broker: {type(error).__name__}") from error
        self._producer = producer
        self._reach.trouble = ""
        self._probe = asyncio.create_task(self._watch(), name="kafka probe")

    async def stop(self) -> None:
        if self._probe:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
        if self._producer:
            await self._producer.stop()
        self._reach.trouble = "stopped"

    def trouble(self) -> str:
        return self._reach.trouble

    async def _watch(self) -> None:
        """Ask the brokers for their state once a second, so that a loss shows before a call is accepted."""
        producer = self._started()
        while True:
            try:
                async with asyncio.timeout(PROBE_TIMEOUT_S):
                    answered = await producer.client.force_metadata_update()
                self._reach.trouble = "" if answered else "no broker answers"
            except (KafkaError, OSError, TimeoutError) as error:
                self._reach.trouble = f"no broker answers: {type(error).__name__}"
            await asyncio.sleep(PROBE_EVERY_S)

    def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise BusUnavailable(retry_after_s=1, reason="the bus is not started")
        return self._producer

    def _refuse_in_trouble(self) -> None:
        if self._reach.trouble:
            raise BusUnavailable(retry_after_s=2, reason=self._reach.trouble)

    async def ensure(self, topics: Iterable[Topic]) -> None:
        self._refuse_in_trouble()
        admin = AIOKafkaAdminClient(client_id=f"{self._client_id}-topics", **self._connection.options())
        try:
            await admin.start()
            there = set(await admin.list_topics())
            missing = [topic for topic in topics if topic.name not in there]
            if missing:
                response = await admin.create_topics([self._new(topic) for topic in missing], timeout_ms=10_000)
                for name, code, *_ in response.topic_errors:
                    if code not in (0, 36):  # 36: another gateway made it in the same moment
                        raise BusUnavailable(retry_after_s=2, reason=f"topic {name}: {for_code(code).__name__}")
                await _until_led(admin, [topic.name for topic in missing])
        except (KafkaError, OSError, TimeoutError) as error:
            raise BusUnavailable(retry_after_s=2, reason=f"topics: {type(error).__name__}") from error
        finally:
            await admin.close()

    async def lag(self, groups: Mapping[str, str]) -> dict[str, int]:
        self._refuse_in_trouble()
        options = self._connection.options() | {"client_id": f"{self._client_id}-lag"}
        admin = AIOKafkaAdminClient(**options)
        consumer = AIOKafkaConsumer(enable_auto_commit=False, **options)
        found: dict[str, int] = {}
        try:
            await admin.start()
            await consumer.start()
            for topic, group in groups.items():
                numbers = self._started().client.cluster.partitions_for_topic(topic) or ()
                partitions = [TopicPartition(topic, number) for number in numbers]
                if not partitions:
                    continue
                ends = await consumer.end_offsets(partitions)
                begins = await consumer.beginning_offsets(partitions)
                done = await admin.list_consumer_group_offsets(group, partitions=partitions)
                found[topic] = sum(
                    ends[each] - max(begins[each], done[each].offset if each in done else 0) for each in partitions
                )
        except (KafkaError, OSError) as error:
            raise BusUnavailable(retry_after_s=2, reason=f"lag: {type(error).__name__}") from error
        finally:
            await consumer.stop()
            await admin.close()
        return found

    def _new(self, topic: Topic) -> NewTopic:
        configs = {
            "retention.ms": str(int(topic.retention_s * 1000)),
            "max.message.bytes": str(LARGEST_MESSAGE_BYTES),
            "min.insync.replicas": str(max(1, self._replication - 1)),
            "unclean.leader.election.enable": "false",
        }
        return NewTopic(topic.name, topic.partitions, self._replication, topic_configs=configs)

    async def send(self, topic: str, headers: Headers, value: bytes, key: bytes = b"") -> None:
        done = await self.post(topic, headers, value, key)
        try:
            await done
        except (KafkaError, OSError) as error:
            raise BusUnavailable(retry_after_s=2, reason=f"not acknowledged: {type(error).__name__}") from error

    async def post(self, topic: str, headers: Headers, value: bytes, key: bytes = b"") -> asyncio.Future[None]:
        try:
            return await self._started().send(topic, value, key=key or None, headers=headers)  # type: ignore[no-any-return]
        except (KafkaError, OSError) as error:
            raise BusUnavailable(retry_after_s=2, reason=f"not taken: {type(error).__name__}") from error

    async def tail(self, topic: str, handle: Callable[[Message], None]) -> Tail:
        consumer = AIOKafkaConsumer(
            client_id=self._client_id,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            fetch_max_wait_ms=500,
            max_poll_records=None,
            **self._connection.options(),
        )
        partition = TopicPartition(topic, 0)
        try:
            await consumer.start()
            self._reach.guard(consumer._client)
            consumer.assign([partition])
            await consumer.seek_to_end(partition)
            await consumer.position(partition)  # resolves the end now, not at the first fetch
        except (KafkaError, OSError) as error:
            await consumer.stop()
            raise BusUnavailable(retry_after_s=2, reason=f"no replies: {type(error).__name__}") from error
        return Tail(consumer, topic, handle)

    async def work(
        self,
        topics: Iterable[str],
        group: str,
        handle: Callable[[Message], Awaitable[None]],
        max_in_work: int,
        limits: Mapping[str, int] | None = None,
        ordered: Iterable[str] = (),
    ) -> GroupMember:
        options = self._connection.options() | {"client_id": self._client_id}
        names = list(topics)
        room = Room(max_in_work, names, limits)
        member = GroupMember(options, self._reach, names, group, handle, room, frozenset(ordered))
        await member.start()
        return member


class _Paced:
    """Asks at most every `METADATA_PAUSE_S`; whoever asks meanwhile waits for the same answer."""

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[bool] | None = None
        self._next_at = 0.0

    def __call__(self) -> asyncio.Future[bool]:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_in_time(), name="kafka metadata")
        return asyncio.shield(self._asking)

    async def _ask_in_time(self) -> bool:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._next_at - loop.time()))
        try:
            return await self._ask()
        finally:
            self._next_at = loop.time() + METADATA_PAUSE_S


async def _until_led(admin: AIOKafkaAdminClient, topics: list[str]) -> None:
    """A topic just made has no leader for a moment: whoever reads or sends then is refused."""
    async with asyncio.timeout(LEADER_TIMEOUT_S):
        while True:
            found = await admin.describe_topics(topics)
            if all(
                topic["error_code"] == 0 and all(part["leader"] >= 0 for part in topic["partitions"]) for topic in found
            ):
                return
            await asyncio.sleep(0.05)


class Tail:
    """Reads one topic from its end and hands each record over in the event loop, without a task for each."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, handle: Callable[[Message], None]) -> None:
        self._seldom = Seldom()
        self._consumer, self._topic, self._handle = consumer, topic, handle
        self._task = asyncio.create_task(self._run(), name=f"tail {topic}")

    async def _run(self) -> None:
        consumer, topic, handle = self._consumer, self._topic, self._handle
        while True:
            try:
                for records in (await consumer.getmany(timeout_ms=1_000)).values():
                    for record in records:
                        handle(Message(topic, record.headers, record.value or b""))
            except (KafkaError, OSError) as error:
                if (held := self._seldom.held_back(type(error).__name__)) is not None:
                    log.warning("reading replies failed; trying again", topic=topic, exc_info=True, held_back=held)
                await asyncio.sleep(0.2)

    async def stop(self, timeout_s: float) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    @property
    def in_work(self) -> int:
        return 0

    @property
    def paused(self) -> list[str]:
        return []

    async def lag(self) -> dict[str, int]:
        return {}
