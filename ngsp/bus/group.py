"""One member of a Kafka consumer group: bounded work, commit of the finished prefix only, and a supervisor over it.

aiokafka's group consumer may stop without an error after a broker's restart; the supervisor makes it anew when it
raises, or when there is something to read and it has not moved for `STALLED_S`. While the brokers are away it is left
alone: it comes back by itself at once, and one made anew would wait for the session of the old one to end.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition

from ngsp.bus.base import Message
from ngsp.bus.progress import Progress, Work
from ngsp.bus.reach import Reach
from ngsp.bus.room import Room
from ngsp.errors import BusUnavailable
from ngsp.seldom import Seldom

SESSION_TIMEOUT_MS = 6_000
"""Silence after which a member is taken for dead and its partitions go to others: the broker's least."""
JOIN_TIMEOUT_MS = 15_000
"""Joining waits until the dead members' sessions have ended: a request must be given longer than that."""
METADATA_AGE_MS = 10_000
"""A topic that was lost and made again is found within this time."""
SETTLE_S = 5.0
"""What is in work of an ordered topic has this time to end before its partition goes to another member."""
REBALANCE_TIMEOUT_MS = 10_000
NEVER_MS = 86_400_000
"""Messages may be in work for long; a member that hangs is seen by its silence, not by its taking nothing."""
COMMIT_EVERY_S = 0.5
STALLED_S = 10.0
RESTART_PAUSE_S = 0.5
LONGEST_RESTART_PAUSE_S = 4.0
CLOSE_TIMEOUT_S = 5.0
HANDLER_PAUSE_S = 0.2
LONGEST_HANDLER_PAUSE_S = 2.0
BROKER_TIMEOUT_S = 5.0

log = structlog.get_logger(__name__)


class GroupMember(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """A `Subscription`: see `Bus.work`."""

    def __init__(
        self,
        options: dict[str, Any],
        reach: Reach,
        topics: list[str],
        group: str,
        handle: Callable[[Message], Awaitable[None]],
        room: Room,
        ordered: frozenset[str],
    ) -> None:
        self._options, self._reach, self._topics, self._group_id = options, reach, topics, group
        self._handle, self._room, self._ordered = handle, room, ordered
        self._consumer: AIOKafkaConsumer | None = None
        self._progress: dict[TopicPartition, Progress] = {}
        self._before: dict[TopicPartition, Progress] = {}
        """Of partitions that were taken away, and may come again while something of them is in work yet."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._paused: set[TopicPartition] = set()
        self._freed: asyncio.Future[None] | None = None
        """Waited for where topics are paused."""
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
            max_poll_interval_ms=NEVER_MS,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            **(self._options | {"request_timeout_ms": JOIN_TIMEOUT_MS, "metadata_max_age_ms": METADATA_AGE_MS}),
        )
        self._part_with(list(self._progress))
        self._paused.clear()
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
        """What is in work goes on; whoever gets the partition reads from the finished prefix and may see it twice.

        Not so of the ordered topics: theirs has ended by then.
        """
        await self._settle(partition for partition in revoked if partition.topic in self._ordered)
        await self._commit()
        self._part_with(revoked)

    async def _settle(self, partitions: Iterable[TopicPartition]) -> None:
        found = [self._progress[partition] for partition in partitions if partition in self._progress]
        tasks = {work.task for progress in found for work in progress.still_running() if work.task}
        if not tasks:
            return
        _, unfinished = await asyncio.wait(tasks, timeout=SETTLE_S)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)

    def _part_with(self, partitions: Iterable[TopicPartition]) -> None:
        for partition in partitions:
            progress = self._progress.pop(partition, None)
            before = self._before.pop(partition, None)
            left = [work for each in (before, progress) if each for work in each.still_running()]
            if left:
                self._before[partition] = kept = Progress()
                for work in left:
                    kept.begin(work)

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        self._paused.clear()  # the client begins with all of them open
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
            if not await self._take(consumer):
                await self._news(consumer)
            now = time.monotonic()
            if now >= commit_at:
                commit_at = now + COMMIT_EVERY_S
                await self._commit()
                if self._reach.trouble:
                    self._moved_at = now
                elif now - self._moved_at > STALLED_S:
                    await self._check_stall()

    async def _take(self, consumer: AIOKafkaConsumer) -> bool:
        """Begin what has been fetched and finds room; False where nothing did."""
        consumer._coordinator.check_errors()  # nobody else asks while nothing is open
        taken = False
        for topic, partitions in self._open_partitions(consumer).items():
            room = self._room.free(topic)
            batch = await consumer.getmany(*partitions, max_records=room) if room else {}
            for partition, records in batch.items():
                taken = True
                for record in records:
                    self._begin(partition, record)
        if taken:
            self._moved_at = time.monotonic()
        return taken

    def _open_partitions(self, consumer: AIOKafkaConsumer) -> dict[str, list[TopicPartition]]:
        """Of each topic that has room its partitions; those of the others are not fetched from."""
        found: dict[str, list[TopicPartition]] = {}
        for partition in consumer.assignment():
            if self._room.free(partition.topic):
                found.setdefault(partition.topic, []).append(partition)
                if partition in self._paused:
                    self._paused.discard(partition)
                    consumer.resume(partition)
            elif partition not in self._paused:
                self._paused.add(partition)
                consumer.pause(partition)
        return found

    async def _news(self, consumer: AIOKafkaConsumer) -> None:
        """Returns when something was fetched, or there is room for what was paused, or it is time to commit."""
        loop = asyncio.get_running_loop()
        fetched = consumer._fetcher._create_fetch_waiter()
        self._freed = freed = loop.create_future()
        try:
            await asyncio.wait({fetched, freed}, timeout=COMMIT_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._freed = None
            fetched.cancel()
            if not fetched.cancelled():
                fetched.exception()  # seen; whatever it is, the consumer says it again

    def _begin(self, partition: TopicPartition, record: ConsumerRecord[bytes, bytes]) -> None:
        progress = self._progress.get(partition)
        if progress is None:
            progress = self._progress[partition] = Progress()
        message = Message(partition.topic, record.headers, record.value or b"")
        before = self._before.get(partition)
        work = before.running.get(record.offset) if before else None
        if work is not None and work.is_running and work.message == message:
            progress.begin(work)  # still in work from when the partition was here before
            return
        work = Work(message, record.offset)
        progress.begin(work)
        self._room.take(message.topic)
        work.task = asyncio.create_task(self._work(work))
        self._tasks.add(work.task)
        work.task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._freed is not None and self._paused and not self._freed.done():
            self._freed.set_result(None)

    async def _work(self, work: Work) -> None:
        try:
            if await self._is_handled(work.message):
                work.ended()
        finally:
            self._room.leave(work.message.topic)

    async def _is_handled(self, message: Message) -> bool:
        """Tries until it is; False where this member stops: its offset stays uncommitted, it comes to a successor."""
        pause_s = HANDLER_PAUSE_S
        while True:
            try:
                await self._handle(message)
            except Exception as error:
                if self._stopping:
                    return False
                kind = type(error).__name__
                if (held := self._seldom.held_back(f"{message.topic} {kind}")) is not None:
                    log.exception("a message's handler failed; it comes again", topic=message.topic, held_back=held)
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, LONGEST_HANDLER_PAUSE_S)
            else:
                return True

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
        full = self._room.full()
        if any(waiting for topic, waiting in (await self.lag()).items() if topic not in full):
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

    @property
    def paused(self) -> list[str]:
        return self._room.full()


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
