"""The bus inside one process: no store of its own, bounded queues, the same contract as Kafka."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from ngsp.bus.base import Message, Topic
from ngsp.bus.room import Room
from ngsp.errors import BusUnavailable
from ngsp.messages import Headers
from ngsp.seldom import Seldom
from ngsp.text import Text

MOST_QUEUED = 10_000
"""Messages a topic holds for one group before senders are refused."""
REDELIVERY_PAUSE_S = 0.1

log = structlog.get_logger(__name__)


class EmbeddedBus:
    """Topics as queues in memory. What is in them dies with the process; the outbox sends it again."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}
        self._backlog: dict[str, deque[Message]] = {}
        self._groups: dict[str, dict[str, _Group]] = {}
        self._tails: dict[str, list[Callable[[Message], None]]] = {}
        self._running = False

    async def start(self) -> None:
        self._running = True

    async def stop(self) -> None:
        self._running = False

    def trouble(self) -> str:
        return "" if self._running else "the embedded bus is not started"

    async def ensure(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            if topic.name not in self._topics:
                self._topics[topic.name] = topic
                self._backlog[topic.name] = deque()
                self._groups[topic.name] = {}
                self._tails[topic.name] = []

    async def lag(self, groups: Mapping[str, str]) -> dict[str, int]:
        found = {}
        for topic, name in groups.items():
            group = self._groups.get(topic, {}).get(name)
            found[topic] = len(group.queue if group is not None else self._backlog.get(topic, ()))
        return found

    async def send(self, topic: str, headers: Headers, value: bytes, key: bytes = b"") -> None:
        await (await self.post(topic, headers, value))

    async def post(self, topic: str, headers: Headers, value: bytes, key: bytes = b"") -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._put(Message(topic, headers, value))
        except BusUnavailable as error:
            done.set_exception(error)
        else:
            done.set_result(None)
        return done

    def _put(self, message: Message) -> None:
        if not self._running:
            raise BusUnavailable(retry_after_s=1, reason="the embedded bus is not started")
        if message.topic not in self._topics:
            raise BusUnavailable(retry_after_s=1, reason=f"no topic {message.topic}")
        groups = self._groups[message.topic]
        waiting = [group.queue for group in groups.values()] or (
            [self._backlog[message.topic]] if not self._tails[message.topic] else []
        )
        if any(len(queue) >= MOST_QUEUED for queue in waiting):
            raise BusUnavailable(
                Text("Hàng đợi của dịch vụ đã đầy.", "The service's queue is full."),
                retry_after_s=1,
                reason=f"the queue of {message.topic} is full",
            )
        for queue in waiting:
            queue.append(message)
        for group in groups.values():
            group.wake()
        for handle in self._tails[message.topic]:
            # As with a broker, the reader runs after the sender has gone on.
            asyncio.get_running_loop().call_soon(handle, message)

    async def tail(self, topic: str, handle: Callable[[Message], None]) -> _Tail:
        self._known(topic)
        self._tails[topic].append(handle)
        return _Tail(self._tails[topic], handle)

    async def work(
        self,
        topics: Iterable[str],
        group: str,
        handle: Callable[[Message], Awaitable[None]],
        max_in_work: int,
        limits: Mapping[str, int] | None = None,
        ordered: Iterable[str] = (),
    ) -> _Member:
        names = list(topics)
        queues = []
        for name in names:
            self._known(name)
            found = self._groups[name].get(group)
            if found is None:
                found = self._groups[name][group] = _Group()
                if len(self._groups[name]) == 1:
                    found.queue.extend(self._backlog[name])
                    self._backlog[name].clear()
            queues.append((name, found))
        return _Member(queues, handle, Room(max_in_work, names, limits))

    def _known(self, topic: str) -> None:
        if topic not in self._topics:
            raise BusUnavailable(retry_after_s=1, reason=f"no topic {topic}")


class _Group:
    """What a group of consumers has not taken yet of one topic."""

    def __init__(self) -> None:
        self.queue: deque[Message] = deque()
        self._waiting: list[asyncio.Event] = []

    def listen(self, event: asyncio.Event) -> None:
        self._waiting.append(event)

    def leave(self, event: asyncio.Event) -> None:
        self._waiting.remove(event)

    def wake(self) -> None:
        for event in self._waiting:
            event.set()


class _Tail:
    def __init__(self, handles: list[Callable[[Message], None]], handle: Callable[[Message], None]) -> None:
        self._handles, self._handle = handles, handle

    async def stop(self, timeout_s: float) -> None:
        if self._handle in self._handles:
            self._handles.remove(self._handle)

    @property
    def in_work(self) -> int:
        return 0

    @property
    def paused(self) -> list[str]:
        return []

    async def lag(self) -> dict[str, int]:
        return {}


class _Member:
    """One consumer of a group: takes from its topics in turn, so that a crowded one does not starve the others."""

    def __init__(
        self, groups: list[tuple[str, _Group]], handle: Callable[[Message], Awaitable[None]], room: Room
    ) -> None:
        self._groups, self._handle, self._room = groups, handle, room
        self._wake = asyncio.Event()
        self._seldom = Seldom()
        self._tasks: set[asyncio.Task[None]] = set()
        for _, group in groups:
            group.listen(self._wake)
        self._pump = asyncio.create_task(self._run(), name="embedded bus member")

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            taken = False
            for topic, group in self._groups:
                if group.queue and self._room.free(topic):
                    self._room.take(topic)
                    message = group.queue.popleft()
                    task = asyncio.create_task(self._work(group, message))
                    self._tasks.add(task)
                    task.add_done_callback(self._ended)
                    taken = True
            if not taken:
                await self._wake.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _work(self, group: _Group, message: Message) -> None:
        try:
            await self._handle(message)
        except asyncio.CancelledError:
            group.queue.appendleft(message)
            group.wake()
            raise
        except Exception as error:
            kind = type(error).__name__
            if (held := self._seldom.held_back(f"{message.topic} {kind}")) is not None:
                log.exception("a message's handler failed; it comes again", topic=message.topic, held_back=held)
            await asyncio.sleep(REDELIVERY_PAUSE_S)
            group.queue.append(message)
            group.wake()
        finally:
            self._room.leave(message.topic)

    async def stop(self, timeout_s: float) -> None:
        self._pump.cancel()
        for _, group in self._groups:
            group.leave(self._wake)
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)
        await asyncio.gather(self._pump, return_exceptions=True)

    @property
    def in_work(self) -> int:
        return len(self._tasks)

    @property
    def paused(self) -> list[str]:
        return self._room.full()

    async def lag(self) -> dict[str, int]:
        return {name: len(group.queue) for name, group in self._groups}
