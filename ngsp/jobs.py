"""Work that goes on beside the request path: each job a loop that survives everything but being stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger(__name__)

Step = Callable[[], Awaitable[int]]
"""Does what there is to do now and returns how much that was; called again at once while there is more."""


class Jobs:
    """The running loops of one gateway. `lease(name)`: whether this gateway may do a job for `lease_s` from now."""

    def __init__(self, lease: Callable[[str], Awaitable[bool]], lease_s: float) -> None:
        self._lease, self._lease_s = lease, lease_s
        self._tasks: list[asyncio.Task[None]] = []

    def start(
        self, name: str, step: Step, pause_s: float, *, leased: bool = False, wake: asyncio.Event | None = None
    ) -> None:
        """Run `step` again and again, with `pause_s` between when there was nothing, or until `wake` is set.

        `leased`: only while this gateway holds the lease `name`, asked for anew every third of its time.
        """
        self._tasks.append(asyncio.create_task(self._loop(name, step, pause_s, leased, wake), name=name))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _loop(self, name: str, step: Step, pause_s: float, leased: bool, wake: asyncio.Event | None) -> None:
        loop = asyncio.get_running_loop()
        leased_until = 0.0
        while True:
            done = 0
            try:
                if leased and loop.time() >= leased_until:
                    if not await self._lease(name):
                        await asyncio.sleep(max(pause_s, self._lease_s / 3))
                        continue
                    leased_until = loop.time() + self._lease_s / 3
                done = await step()
            except Exception as error:  # a job must outlive its database, its broker and its own defects
                log.warning("a job failed; it goes on", job=name, error=type(error).__name__, exc_info=True)
                await asyncio.sleep(max(pause_s, 0.5))
            if done:
                await asyncio.sleep(0)
            elif wake is None:
                await asyncio.sleep(pause_s)
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await wake.wait()
                wake.clear()
