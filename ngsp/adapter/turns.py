"""Turns: of what has the same name one after the other, in the order in which it came; and places that are shared."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from ngsp.bus.room import Room


class Turns:
    """Remembers a name only while somebody has, or waits for, a turn in it."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        line = self._lines.setdefault(name, _Line())
        line.length += 1
        try:
            async with line.lock:
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[name]

    def __len__(self) -> int:
        return len(self._lines)


class _Line:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.length = 0


class Places:
    """So many at once, and each name in its turn; no name takes the places of all others (see `Room`)."""

    def __init__(self, most: int, names: Iterable[str]) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {name: deque() for name in names}
        self._room = Room(most, self._waiting)

    @asynccontextmanager
    async def place(self, name: str) -> AsyncIterator[None]:
        waiting = self._waiting[name]
        if waiting or not self._room.free(name):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting.append(turn)
            try:
                await turn  # whoever ends it has taken the place for us
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave(name)
                elif turn in waiting:
                    waiting.remove(turn)
                raise
        else:
            self._room.take(name)
        try:
            yield
        finally:
            self._leave(name)

    def _leave(self, name: str) -> None:
        self._room.leave(name)
        for other, waiting in self._waiting.items():
            while waiting and self._room.free(other):
                turn = waiting.popleft()
                if not turn.done():
                    self._room.take(other)
                    turn.set_result(None)
