"""Children of the event loop: their own exit status is told, whenever they were signalled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal

from ngsp.local.child import end_of, signal_to


async def child(script: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("/bin/sh", "-c", script, stdin=asyncio.subprocess.PIPE)


async def test_one_that_ends_by_itself_tells_its_own_status() -> None:
    assert await end_of(await child("exit 7"), 20) == 7


async def test_one_that_does_not_end_is_killed() -> None:
    assert await end_of(await child("read line"), 0.01) == -signal.SIGKILL


async def test_a_signal_takes_no_exit_status_away() -> None:
    """The child has ended, and the loop, which is kept busy, does not know it yet."""
    ended = await child("exit 7")
    with contextlib.suppress(ChildProcessError):  # the watcher has taken it, in its thread
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    signal_to(ended, signal.SIGKILL)
    assert await end_of(ended, 20) == 7
    signal_to(ended, signal.SIGKILL)


async def test_a_signal_reaches_its_child() -> None:
    waiting = await child("read line")
    signal_to(waiting, signal.SIGTERM)
    assert await end_of(waiting, 20) == -signal.SIGTERM
