"""One member of a Kafka consumer group: bounded work, commit of the finished prefix only, and a supervisor over it.

aiokafka's group consumer may stop without an error after a broker's restart; the supervisor makes it anew when it
raises, or when there is something to read and it has not moved for `STALLED_S`. While the brokers are away it is left
alone: it comes back by itself at once, and one made anew would wait for the session of the old one to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from ngsp.bus.base import Message
from ngsp.bus.reach import Reach
from ngsp.errors import BusUnavailable
from ngsp.seldom import Seldom

SESSION_TIMEOUT_MS = 6_000
"""Silence after which a member is taken for dead and its partitions go to others: the broker's least."""
JOIN_TIMEOUT_MS = 15_000
"""Joining waits until the dead members' sessions have ended: a request must be given longer than that."""
METADATA_AGE_MS = 10_000
"""A topic that was lost and made again is found within this time."""
COMMIT_EVERY_S = 0.5
STALLED_S = 10.0
RESTART_PAUSE_S = 0.5
LONGEST_RESTART_PAUSE_S = 4.0
CLOSE_TIMEOUT_S = 5.0
HANDLER_PAUSE_S = 0.2
LONGEST_HANDLER_PAUSE_S = 2.0
BROKER_TIMEOUT_S = 5.0

log = structlog.get_logger(__name__)


class _Progress:
    """Offsets of one partition that are in work; knows up to where everything has ended."""

    __slots__ = ("committed", "ended", "next", "running")

    def __init__(self) -> None:
        self.running: dict[int, None] = {}  # in order of offset
        self.next: int | None = None
        self.committed: int | None = None

    def begin(self, offset: int) -> None:
        self.running[offset] = None
        self.next = offset + 1

    def end(self, offset: int) -> None:
        self.running.pop(offset, None)

    def finished_prefix(self) -> int | None:
        """The offset from which a successor must read, or None where nothing was read."""
        return next(iter(self.running), self.next)


class GroupMember(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """A `Subscription`: see `Bus.work`."""

    def __init__(
        self,
        options: dict[str, Any],
        reach: Reach,
        topics: list[str],
        group: str,
        handle: Callable[[Message], Awaitable[None]],
        max_in_work: int,
    ) -> None:
        self._options, self._reach, self._topics, self._group_id = options, reach, topics, group
        self._handle, self._max = handle, max_in_work
        self._consumer: AIOKafkaConsumer | None = None
        self._progress: dict[TopicPartition, _Progress] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Event()
        self._moved_at = time.monotonic()
        self._seldom = Seldom()
        self._stopping = False
        self._loop_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        try:
            await self._open()
        except (KafkaError, OSError) as error:
            raise BusUnavailable(retry_after_s=2, reason=f"no group: {type(error).__name__}") from error
        self._loop_task = asyncio.create_task(self._supervise(), name=f"group {self._group_id}")

    async def _open(self) -> None:
        consumer = AIOKafkaConsumer(
            group_id=self._group_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=SESSION_TIMEOUT_MS // 4,
            max_poll_interval_ms=300_000,
            **(self._options | {"request_timeout_ms": JOIN_TIMEOUT_MS, "metadata_max_age_ms": METADATA_AGE_MS}),
        )
        self._progress = {}
        try:
            await consumer.start()
            self._reach.guard(consumer._client)
            consumer.subscribe(self._topics, listener=self)
        except BaseException:
            await _stop(consumer)
            raise
        self._consumer = consumer
        self._moved_at = time.monotonic()

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        """What is in work goes on; whoever gets the partition reads from the finished prefix and may see it twice."""
        await self._commit()
        for partition in revoked:
            self._progress.pop(partition, None)

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        self._moved_at = time.monotonic()

    async def _supervise(self) -> None:
        me = asyncio.current_task()
        pause_s = RESTART_PAUSE_S
        while not self._stopping:
            try:
                if self._consumer is None:
                    await self._open()
                await self._run()
            except asyncio.CancelledError:
                if me is None or me.cancelling():
                    raise
                error = "cancelled inside the client"
            except Exception as failure:  # noqa: BLE001  # whatever the client library raises, reading must go on
                error = type(failure).__name__
            else:
                continue
            log.warning("a group consumer is made anew", group=self._group_id, error=error)
            await self._close()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_RESTART_PAUSE_S)
            await self._reach.well()

    async def _run(self) -> None:
        commit_at = time.monotonic() + COMMIT_EVERY_S
        while not self._stopping:
            consumer = self._consumer
            if consumer is None:
                return
            room = self._max - len(self._tasks)
            if room > 0:
                batch = await consumer.getmany(timeout_ms=int(COMMIT_EVERY_S * 1000), max_records=room)
                for partition, records in batch.items():
                    self._moved_at = time.monotonic()
                    for record in records:
                        self._begin(partition, record)
            else:
                self._room.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(COMMIT_EVERY_S):
                        await self._room.wait()
            now = time.monotonic()
            if now >= commit_at:
                commit_at = now + COMMIT_EVERY_S
                await self._commit()
                if self._reach.trouble:
                    self._moved_at = now
                elif now - self._moved_at > STALLED_S:
                    await self._check_stall()

    def _begin(self, partition: TopicPartition, record: ConsumerRecord[bytes, bytes]) -> None:
        progress = self._progress.get(partition)
        if progress is None:
            progress = self._progress[partition] = _Progress()
        progress.begin(record.offset)
        message = Message(partition.topic, record.headers, record.value or b"")
        task = asyncio.create_task(self._work(message, progress, record.offset))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.set()

    async def _work(self, message: Message, progress: _Progress, offset: int) -> None:
        pause_s = HANDLER_PAUSE_S
        while True:
            try:
                await self._handle(message)
            except Exception as error:
                if self._stopping:
                    return  # its offset stays uncommitted: it comes again to a successor
                kind = type(error).__name__
                if (held := self._seldom.held_back(f"{message.topic} {kind}")) is not None:
                    log.exception("a message's handler failed; it comes again", topic=message.topic, held_back=held)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, LONGEST_HANDLER_PAUSE_S)
            else:
                progress.end(offset)
                return

    async def _commit(self) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        offsets = {}
        for partition, progress in self._progress.items():
            prefix = progress.finished_prefix()
            if prefix is not None and prefix != progress.committed:
                offsets[partition] = prefix
        if not offsets:
            return
        try:
            async with asyncio.timeout(BROKER_TIMEOUT_S):
                await consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            # Uncommitted work is read again and found in the inbox: at least once, never less.
            log.warning("offsets not committed", group=self._group_id, error=type(error).__name__)
            return
        for partition, prefix in offsets.items():
            if partition in self._progress:
                self._progress[partition].committed = prefix

    async def _check_stall(self) -> None:
        self._moved_at = time.monotonic()
        if len(self._tasks) >= self._max:
            return
        if any((await self.lag()).values()):
            raise BusUnavailable(reason="the group consumer does not move though there is something to read")

    async def lag(self) -> dict[str, int]:
        consumer = self._consumer
        if consumer is None:
            return {}
        behind: dict[str, int] = {}
        partitions = list(consumer.assignment())
        if not partitions:
            return behind
        async with asyncio.timeout(BROKER_TIMEOUT_S):
            ends = await consumer.end_offsets(partitions)
        for partition, end in ends.items():
            progress = self._progress.get(partition)
            at = progress.next if progress and progress.next is not None else None
            if at is None:
                async with asyncio.timeout(BROKER_TIMEOUT_S):
                    at = await consumer.position(partition)
            behind[partition.topic] = behind.get(partition.topic, 0) + max(0, end - at)
        return behind

    async def _close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await _stop(consumer)

    async def stop(self, timeout_s: float) -> None:
        if self._loop_task:
            self._loop_task.cancel()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        if self._tasks:
            _, unfinished = await asyncio.wait(set(self._tasks), timeout=timeout_s)
            self._stopping = True
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        self._stopping = True
        await self._commit()
        await self._close()

    @property
    def in_work(self) -> int:
        return len(self._tasks)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Each step in a task of its own: with the broker away the client's stop may hang, or cancel itself half-way."""
    for step in (consumer.stop, consumer._client.close):
        task = asyncio.create_task(step(), name="stop of a group consumer")
        await asyncio.wait({task}, timeout=CLOSE_TIMEOUT_S)
        if not task.done():
            log.warning("a group consumer does not stop; it is left behind")
            task.cancel()
        elif not task.cancelled() and (error := task.exception()):
            log.warning("a group consumer did not stop in order", error=type(error).__name__)
