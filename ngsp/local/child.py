"""Children of the event loop: a signal to one that may have ended, and its end within a time.

Not by asyncio's own `send_signal`, `terminate` and `kill`: where the child has ended and its watcher does not know it
yet, they take its exit status from the system, and the watcher tells 255 in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal


def signal_to(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Sends a signal; nothing happens where `child` has ended."""
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)


async def end_of(child: asyncio.subprocess.Process, timeout_s: float) -> int:
    """The exit status of `child`, which ends by itself or is killed when `timeout_s` has passed."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            return await child.wait()
    signal_to(child, signal.SIGKILL)
    return await child.wait()
