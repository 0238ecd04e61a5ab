"""Processes of this project on this machine: started with their log, found ready, ended in the reverse order."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from ngsp.local.child import end_of, signal_to
from ngsp.local.process import LocalServerError
from ngsp.text import Text

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 45.0


class Programs:
    """Runs `python -m …` with a log file each. `environment` replaces every `NGSP_*` variable of our own."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self.running: dict[str, asyncio.subprocess.Process] = {}

    def log(self, name: str) -> Path:
        return self._logs / f"{name}.log"

    async def start(self, name: str, arguments: list[str], environment: Mapping[str, str]) -> None:
        """Start `name`; its log goes on where an earlier process of that name left off."""
        self._logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("NGSP_")}
        with self.log(name).open("ab") as log:
            self.running[name] = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                env=inherited | {"PYTHONUNBUFFERED": "1"} | dict(environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def until(self, name: str, ready: Callable[[], Awaitable[bool]], timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait for `ready`. LocalServerError naming the log where the process ended or it took too long."""
        try:
            async with asyncio.timeout(timeout_s):
                while not await ready():
                    if self.running[name].returncode is not None:
                        raise LocalServerError(
                            Text("«{name}» đã dừng, xem {log}", "'{name}' has ended, see {log}").format(
                                name=name, log=self.log(name)
                            )
                        )
                    await asyncio.sleep(0.03)
        except TimeoutError:
            raise LocalServerError(
                Text("«{name}» không sẵn sàng, xem {log}", "'{name}' is not ready, see {log}").format(
                    name=name, log=self.log(name)
                )
            ) from None

    async def stop(self, name: str) -> int:
        """SIGTERM, and SIGKILL where that takes too long; the exit code."""
        process = self.running.pop(name)
        signal_to(process, signal.SIGTERM)
        return await end_of(process, STOP_TIMEOUT_S)

    async def kill(self, name: str) -> None:
        """SIGKILL, as a crash would."""
        process = self.running.pop(name)
        signal_to(process, signal.SIGKILL)
        await process.wait()

    async def stop_all(self) -> None:
        for name in reversed(list(self.running)):
            await self.stop(name)


def key_file(path: Path) -> Path:
    """`path` with 32 random bytes in base64, made where it is missing, readable by its owner only."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(32)))
    return path
