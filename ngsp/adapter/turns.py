"""Turns: of what has the same name one after the other, in the order in which it came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


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
