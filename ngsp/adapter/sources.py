"""Sources: what changed in a provider's system, asked for again and again, and published (decision 0034).

    kept cursor ─▶ changes(cursor) ─▶ publish all: durable ─▶ keep the new cursor

Whatever breaks in between, the same is asked for and published again, and the gateway knows each event by its source
and id: none is lost, none is there twice. None is passed over either: one that the gateway refuses stops its source.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any

import orjson
import structlog

from ngsp.adapter.cursors import Cursors, Turn
from ngsp.adapter.definition import Adapter, AdapterError, Failed
from ngsp.adapter.events import Changes, Found, Source
from ngsp.adapter.raised import place_of
from ngsp.client.publishing import MOST_AT_ONCE, NewEvent
from ngsp.messages import uuid7

FAILING, REFUSED = "source-failing", "source-refused"
"""Troubles of a process: a source cannot be asked or published now; the gateway refuses what it gives."""
LOOK_S = 30.0
"""Longest time of one look at the provider's system."""
WORK_S = 60.0
"""How long the turn of a process that died stays its own."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
BATCH_BYTES = 2 << 20
LONGEST_CURSOR = 4000

Publish = Callable[[str, Sequence[NewEvent]], Awaitable[object]]
"""Publishes events of the service at a path, at most MOST_AT_ONCE, in their order. MUST return only when each is
durable. Raises NotPublished."""

log = structlog.get_logger(__name__)


class NotPublished(Exception):
    """Not all was published, or that is not known. `code`: why. Never holds data."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class EventRefused(NotPublished):
    """The gateway refuses what it was given, and would again. `pointers`: where, into the list of events."""

    def __init__(self, code: str, pointers: Iterable[str] = ()) -> None:
        super().__init__(code)
        self.pointers = tuple(pointers)

    @property
    def first(self) -> int:
        """Which of the events is refused; what stands before it is not. 0 where that was not said."""
        steps = [pointer.split("/")[1] for pointer in self.pointers if pointer.startswith("/")]
        return min((int(step) for step in steps if step.isdecimal()), default=0)


def pause_s(failures: int) -> float:
    """Before the next try after so many failures in a row: doubled each time, half of it at random."""
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - 1, 20))) * random.uniform(0.5, 1.0)


class Feed:
    """One source at work in one process. `name`: what its events have for a source where they have none."""

    def __init__(self, source: Source, changes: Changes, name: str, cursors: Cursors, publish: Publish) -> None:
        self._source, self._changes, self._name = source, changes, name
        self._cursors, self._publish = cursors, publish
        self._holder = uuid7()
        self._failures = 0
        self.trouble = ""
        """The code of what is wrong with it; empty where it goes well."""

    async def step(self) -> float:
        """One look, and all that it gives published; returns how many seconds to wait before the next."""
        try:
            wait_s = await self._look()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return await self._failed(error)  # of something that the function waited for, not of this task
        except Exception as error:  # noqa: BLE001  # whatever an author's code raises: it is tried again
            return await self._failed(error)
        self._failures, self.trouble = 0, ""
        return wait_s

    async def let_go(self) -> None:
        """Another process may go on; without it, that comes once the turn has run out."""
        try:
            await self._cursors.let_go(self._source.service, self._holder)
        except Exception as error:  # noqa: BLE001  # of the database, any of its drivers'
            log.warning("the turn of a source stays until it runs out", **self._named(), error=type(error).__name__)

    async def _look(self) -> float:
        service, every_s = self._source.service, self._source.every_s
        turn = await self._cursors.take(service, self._holder, WORK_S)
        if turn is None:
            return every_s
        async with asyncio.timeout(LOOK_S):
            found = await self._changes(turn.cursor)
        cursor = _next(turn, found)
        await self._publish_all([event.to_publish(self._name) for event in found.events])
        await self._cursors.keep(service, self._holder, cursor, WORK_S if found.more else every_s)
        return 0.0 if found.more else every_s

    async def _publish_all(self, events: Sequence[NewEvent]) -> None:
        if len({(event.source, event.id) for event in events}) < len(events):
            raise Failed("source-ids-alike")
        for batch in _batches(events):
            try:
                await self._publish(self._source.service, batch)
            except EventRefused as error:
                if batch[: error.first]:
                    await self._publish(self._source.service, batch[: error.first])
                raise

    async def _failed(self, error: BaseException) -> float:
        self._failures += 1
        self.trouble = REFUSED if isinstance(error, EventRefused) else FAILING
        wait_s = pause_s(self._failures)
        told: dict[str, Any] = {**self._named(), "again_in_s": round(wait_s, 1)}
        if isinstance(error, EventRefused):
            said = {"code": error.code, "pointers": list(error.pointers)}
            log.error("the gateway refuses an event; its source stands still", **told, **said)
        elif isinstance(error, NotPublished | AdapterError):
            log.warning("a source failed", **told, error=type(error).__name__, code=error.code)
        else:  # the message may hold data
            log.error("a source failed", **told, error=type(error).__name__, place=place_of(error))
        await self.let_go()
        return wait_s

    def _named(self) -> dict[str, str]:
        return {"service": self._source.service}


def _next(turn: Turn, found: Found) -> str | None:
    """What to go on from. Failed where that would be the same for ever."""
    cursor = turn.cursor if found.cursor is None else found.cursor
    if found.more and cursor == turn.cursor:
        raise Failed("source-stands-still")
    if cursor is not None and len(cursor) > LONGEST_CURSOR:
        raise Failed("source-cursor-too-long")
    return cursor


def _batches(events: Sequence[NewEvent]) -> Iterator[list[NewEvent]]:
    """What is published at once, in order; an event that is large is alone."""
    batch: list[NewEvent] = []
    size = 0
    for event in events:
        grown = len(orjson.dumps(event.document()))
        if batch and (len(batch) == MOST_AT_ONCE or size + grown > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(event)
        size += grown
    if batch:
        yield batch


class Sources:
    """The sources of one adapter, each in a task of its own from `begin` to `stop`. `resources`: the adapter's."""

    def __init__(self, adapter: Adapter, resources: Any, cursors: Cursors, publish: Publish) -> None:
        self._feeds = [
            Feed(source, source.over(resources), adapter.source_name, cursors, publish)
            for source in adapter.sources.values()
        ]
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        self._tasks = [asyncio.create_task(self._work(feed)) for feed in self._feeds]

    def troubles(self) -> list[str]:
        """Codes, each once."""
        dead = not self._stopping.is_set() and any(task.done() for task in self._tasks)
        codes = {feed.trouble for feed in self._feeds} | ({FAILING} if dead else set())
        return sorted(codes - {""})

    async def _work(self, feed: Feed) -> None:
        while not self._stopping.is_set():
            wait_s = await feed.step()
            try:
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
            except TimeoutError:
                continue
        await feed.let_go()

    async def stop(self, timeout_s: float) -> None:
        """What was begun is published and its cursor kept, as far as the time goes."""
        self._stopping.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
