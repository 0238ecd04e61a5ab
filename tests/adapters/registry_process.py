"""The stand-in registry of enterprises as a process of the tests' own."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

PROJECT = Path(__file__).parents[2]
START_LIMIT_S = 30.0


class RegistryProcess:
    """Runs while the context is open; `url`, `control_url` once it does."""

    url: str
    control_url: str

    def __init__(self, ready_file: Path | None = None) -> None:
        self._ready = ["--ready-file", str(ready_file)] if ready_file else []
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        module = ["-m", "adapters.g12_enterprise.registry_server", "--port", "0", "--control-port", "0"]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *module, *self._ready, stdout=PIPE, cwd=PROJECT
        )
        assert self._process.stdout
        line = await asyncio.wait_for(self._process.stdout.readline(), START_LIMIT_S)
        started = orjson.loads(line)
        self.url, self.control_url = started["url"], started["control_url"]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals) -> int:
        """Ends it with a signal, where it has not ended; its exit status."""
        assert self._process
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), START_LIMIT_S)

    async def switch(self, kind: str, delay_s: float = 1.0) -> None:
        """Make it misbehave, or behave again (`none`)."""
        async with httpx.AsyncClient() as client:
            answer = await client.put(f"{self.control_url}/fault", json={"kind": kind, "delay_s": delay_s})
        answer.raise_for_status()

    async def state(self) -> dict[str, Any]:
        """What it has seen: `requests`, `connections`, and its `fault`."""
        async with httpx.AsyncClient() as client:
            found: dict[str, Any] = (await client.get(f"{self.control_url}/state")).json()
        return found
