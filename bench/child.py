"""Processes of a target: the parent gives settings on standard input and ends them by closing it.

So that a child never outlives the bench, however that ends, and no address or secret stands on a command line. The
child's first line on standard output says, as JSON, that it is ready and what it has to tell (its port).
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from typing import Any

from ngsp.local.child import end_of, signal_to

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
END_TIMEOUT_S = 5.0


class ChildError(Exception):
    """A process of a target did not start, or ended before its time."""


def quiet_gc() -> None:
    """What was made at the start is never looked at again by the collector, and what comes later seldom.

    A long collection in the middle of a run shows in p99. The full path may do the same.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


class Child:
    """The parent's side of one process: `python -m <module>`."""

    def __init__(self, module: str, process: asyncio.subprocess.Process, ready: dict[str, Any]) -> None:
        self.module = module
        self.ready = ready
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, module: str, settings: dict[str, Any]) -> Child:
        """Returns once the child has said that it is ready; ChildError where it ends or stays silent for 60 s."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl+C reaches the bench alone, which then ends its children in order
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        except asyncio.CancelledError:
            signal_to(process, signal.SIGKILL)
            raise
        if not line:  # it ends by itself in a moment, or hangs
            raise ChildError(f"{module} did not start: exit status {await end_of(process, END_TIMEOUT_S)}")
        return cls(module, process, json.loads(line))

    async def stop(self) -> None:
        """Closes the child's input and waits for it to end; kills it after 15 s. ChildError where it had failed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                status = await self._process.wait()
        except TimeoutError:
            await end_of(self._process, 0)
            raise ChildError(f"{self.module} did not stop within {STOP_TIMEOUT_S:.0f} s and was killed") from None
        if status:
            raise ChildError(f"{self.module} ended with exit status {status}")


class Parent:
    """The child's side."""

    def __init__(self, settings: dict[str, Any], lines: asyncio.StreamReader) -> None:
        self.settings = settings
        self._lines = lines

    @classmethod
    async def meet(cls) -> Parent:
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        return cls(json.loads(await lines.readline()), lines)

    def say_ready(self, **told: Any) -> None:
        print(json.dumps(told), flush=True)

    async def wait_for_end(self) -> None:
        """Returns when the parent has closed our input or is gone."""
        await self._lines.read()
