"""Asking over the bus: a request out, the reply that carries its id back. One `Asker` for each gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from ngsp.bus.base import Bus, Message, Subscription
from ngsp.errors import BusUnavailable
from ngsp.messages import Headers, Reply

OnSent = Callable[[asyncio.Future[None]], None]

log = structlog.get_logger(__name__)


class Asker:
    """Correlates requests and replies. `on_stray` gets replies that nobody waits for: late ones and doubles."""

    def __init__(self, bus: Bus, reply_topic: str, on_stray: Callable[[Reply], None]) -> None:
        self._bus, self.reply_topic, self._on_stray = bus, reply_topic, on_stray
        self._waiting: dict[str, asyncio.Future[Reply | None]] = {}
        self._tail: Subscription | None = None

    async def start(self) -> None:
        """MUST be reading its topic before the first request leaves."""
        self._tail = await self._bus.tail(self.reply_topic, self._take)

    async def stop(self) -> None:
        if self._tail:
            await self._tail.stop(1)

    def trouble(self) -> str:
        return self._bus.trouble()

    def give_up(self) -> None:
        """Nobody waits any longer: for each there is no answer."""
        for future in self._waiting.values():
            _give_up(future)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    async def ask(
        self, id: str, topic: str, headers: Headers, body: bytes, timeout_s: float, *, on_sent: OnSent | None = None
    ) -> Reply | None:
        """The reply to `id`, or None where none came in time. BusUnavailable only where nothing was published.

        `on_sent` is called when the bus has the message, or will not have it.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply | None] = loop.create_future()
        self._waiting[id] = future
        timer = loop.call_later(max(0.0, timeout_s), _give_up, future)
        try:
            sent = await self._bus.post(topic, headers, body)
            if on_sent is not None:
                sent.add_done_callback(on_sent)
            sent.add_done_callback(lambda done: self._sent(done, id, future))
            return await future
        finally:
            timer.cancel()
            del self._waiting[id]

    def _sent(self, done: asyncio.Future[None], id: str, future: asyncio.Future[Reply | None]) -> None:
        """A message without the broker's word may still have reached it: that is *no answer*, not a clean failure."""
        if done.cancelled():
            _give_up(future)
        elif (error := done.exception()) is not None:
            log.warning("a request was not acknowledged by the bus", transaction=id, error=type(error).__name__)
            if isinstance(error, BusUnavailable) and not future.done():
                future.set_exception(error)
            else:
                _give_up(future)

    def _take(self, message: Message) -> None:
        try:
            reply = Reply.read(message.headers, message.value)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # the first: a header without a value
            log.error("a message that is no reply was dropped", topic=message.topic, error=type(error).__name__)
            return
        future = self._waiting.get(reply.id)
        if future is None or future.done():
            if reply.probe:
                log.info("a probe was answered too late", adapter=reply.adapter)
            else:
                self._on_stray(reply)
        else:
            future.set_result(reply)


def _give_up(future: asyncio.Future[Reply | None]) -> None:
    if not future.done():
        future.set_result(None)
