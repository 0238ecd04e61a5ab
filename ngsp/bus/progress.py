"""What is in work of one partition, and up to where everything in it has ended."""

from __future__ import annotations

import asyncio

from ngsp.bus.base import Message


class Work:
    """One message in work. `progresses`: what waits for its end: more than one after its partition was lost and won."""

    __slots__ = ("message", "offset", "progresses", "task")

    def __init__(self, message: Message, offset: int) -> None:
        self.message, self.offset = message, offset
        self.progresses: list[Progress] = []
        self.task: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """False where it has ended or was cut off."""
        return self.task is not None and not self.task.done()

    def ended(self) -> None:
        for progress in self.progresses:
            progress.running.pop(self.offset, None)


class Progress:
    """Messages of one partition that are in work, from when it was assigned until it was taken away."""

    __slots__ = ("committed", "next", "running")

    def __init__(self) -> None:
        self.running: dict[int, Work] = {}  # by offset, in order
        self.next: int | None = None
        self.committed: int | None = None

    def begin(self, work: Work) -> None:
        self.running[work.offset] = work
        self.next = work.offset + 1
        work.progresses.append(self)

    def still_running(self) -> list[Work]:
        return [work for work in self.running.values() if work.is_running]

    def finished_prefix(self) -> int | None:
        """The offset from which a successor must read, or None where nothing was read."""
        return next(iter(self.running), self.next)
