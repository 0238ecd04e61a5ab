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
    """The running loops of one gateway."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(
        self,
        name: str,
        step: Step,
        pause_s: float,
        *,
        lease: Callable[[str], Awaitable[bool]] | None = None,
        lease_s: float = 0.0,
        wake: asyncio.Event | None = None,
    ) -> None:
        """Run `step` again and again, with `pause_s` between when there was nothing, or until `wake` is set.

        With `lease` only while this gateway holds the lease `name`; it is asked for anew every third of `lease_s`.
        """
        work = _loop(name, step, pause_s, lease, lease_s, wake)
        self._tasks.append(asyncio.create_task(work, name=name))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


async def _loop(
    name: str,
    step: Step,
    pause_s: float,
    lease: Callable[[str], Awaitable[bool]] | None,
    lease_s: float,
    wake: asyncio.Event | None,
) -> None:
    loop = asyncio.get_running_loop()
    leased_until = 0.0
    while True:
        done = 0
        try:
            if lease is not None and loop.time() >= leased_until:
                if not await lease(name):
                    await asyncio.sleep(max(pause_s, lease_s / 3))
                    continue
                leased_until = loop.time() + lease_s / 3
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
                await asyncio.wait_for(wake.wait(), pause_s)
            wake.clear()
