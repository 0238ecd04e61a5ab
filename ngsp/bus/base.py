"""What every bus promises; `tests/bus/` holds the contract, run against each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ngsp.messages import Headers


@dataclass(frozen=True, slots=True)
class Message:
    """What a consumer gets: the headers and the exact bytes that were sent."""

    topic: str
    headers: Headers
    value: bytes


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as the reconciler makes it. `partitions`: how many consumers of a group may share it."""

    name: str
    partitions: int
    retention_s: float


class Subscription(Protocol):
    """A running consumer."""

    async def stop(self, timeout_s: float) -> None:
        """Take no more, let what is in work end within `timeout_s`, commit the finished prefix, leave the group."""

    @property
    def in_work(self) -> int:
        """Messages handed to the handler that have not ended."""

    @property
    def paused(self) -> list[str]:
        """Topics of which nothing is taken now, because as much of them is in work as may be."""

    async def lag(self) -> dict[str, int]:
        """Messages in each topic that this consumer has not taken yet."""


class Bus(Protocol):
    """Topics by name; at-least-once to each group; nothing is ever created by sending."""

    async def start(self) -> None:
        """Connect. BusUnavailable where that cannot be done."""

    async def stop(self) -> None: ...

    def trouble(self) -> str:
        """Why messages cannot travel now, for operators; empty while they can."""

    async def ensure(self, topics: Iterable[Topic]) -> None:
        """Create what is missing of `topics`. The one place where topics come from."""

    async def lag(self, groups: Mapping[str, str]) -> dict[str, int]:
        """Messages of each topic that its group has not finished. `groups`: topic → the group that works on it."""

    async def send(self, topic: str, headers: Headers, value: bytes, key: bytes = b"") -> None:
        """MUST return only when the message is as durable as the bus makes it; BusUnavailable otherwise.

        Messages of one `key` go to one member of a group at a time, in the order in which they were sent.
        """

    async def post(self, topic: str, headers: Headers, value: bytes, key: bytes = b"") -> asyncio.Future[None]:
        """Hand the message over without waiting. The future ends as `send` would; the caller MUST watch it."""

    async def tail(self, topic: str, handle: Callable[[Message], None]) -> Subscription:
        """Call `handle` for each message sent to `topic` from now on. For a topic that only one gateway reads."""

    async def work(
        self,
        topics: Iterable[str],
        group: str,
        handle: Callable[[Message], Awaitable[None]],
        max_in_work: int,
        limits: Mapping[str, int] | None = None,
        ordered: Iterable[str] = (),
    ) -> Subscription:
        """Share `topics` with the other members of `group`, from the first message no member has finished.

        At most `max_in_work` messages are with `handle` at once, of a topic in `limits` at most so many, and one topic
        never takes all places from the others (see `Room`). What finds no place stays on the bus. A message counts as
        finished when `handle` returns; one whose `handle` raises, or that was in work at a crash, comes again.

        Of the topics in `ordered` nothing stays in work here when it goes over to another member in good order: what
        does not end within seconds is cut off and comes again there.
        """
