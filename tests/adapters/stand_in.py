"""A stand-in of a provider's system as a process of the tests' own, with its switches."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from ngsp.local.child import signal_to

PROJECT = Path(__file__).parents[2]
START_LIMIT_S = 30.0
LOOPBACK = {"NGSP_ADAPTER_ALLOWED_NETWORKS": "127.0.0.1/32"}


@asynccontextmanager
async def inside(system: StandIn) -> AsyncIterator[httpx.AsyncClient]:
    """A REST stand-in as those who work in its agency reach it."""
    async with httpx.AsyncClient(base_url=system.url) as client:
        secret = Path(system.told["secret_file"]).read_text("ascii")
        form = {"grant_type": "client_credentials"}
        answer = await client.post("/token", data=form, auth=(system.told["client_id"], secret))
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield client


class StandIn:
    """`python -m module arguments` while the context is open. `told`: the JSON line it printed when it served."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._arguments = ["-m", module, "--port", "0", "--control-port", "0", *arguments]
        self._process: Process | None = None
        self.told: dict[str, Any] = {}

    @property
    def url(self) -> str:
        return str(self.told["url"])

    @property
    def control_url(self) -> str:
        return str(self.told["control_url"])

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(sys.executable, *self._arguments, stdout=PIPE, cwd=PROJECT)
        assert self._process.stdout
        line = await asyncio.wait_for(self._process.stdout.readline(), START_LIMIT_S)
        self.told = orjson.loads(line)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals) -> int:
        """Ends it with a signal, where it has not ended; its exit status."""
        assert self._process
        signal_to(self._process, number)
        return await asyncio.wait_for(self._process.wait(), START_LIMIT_S)

    async def switch(self, kind: str, delay_s: float = 1.0) -> None:
        """Make it misbehave, or behave again (`none`)."""
        async with httpx.AsyncClient() as client:
            answer = await client.put(f"{self.control_url}/fault", json={"kind": kind, "delay_s": delay_s})
        answer.raise_for_status()

    async def forget_tokens(self) -> None:
        """None that it gave out is good any more."""
        async with httpx.AsyncClient() as client:
            (await client.delete(f"{self.control_url}/tokens")).raise_for_status()

    async def state(self) -> dict[str, Any]:
        """What it has seen: `requests`, `connections`, `tokens` given out, and its `fault`."""
        async with httpx.AsyncClient() as client:
            found: dict[str, Any] = (await client.get(f"{self.control_url}/state")).json()
        return found

    def environment(self, prefix: str) -> Callable[[str], str | None]:
        return self.variables(prefix).get

    def variables(self, prefix: str) -> dict[str, str]:
        """What an adapter is told of it: `{prefix}_URL` and, where it asks for them, names and files of secrets."""
        names = {"url": "URL", "username": "USERNAME", "password_file": "PASSWORD_FILE"}
        names |= {"client_id": "CLIENT_ID", "secret_file": "SECRET_FILE"}
        given = {f"{prefix}_{name}": str(self.told[member]) for member, name in names.items() if member in self.told}
        return LOOPBACK | given
