"""An adapter as a process of the tests' own, to be stopped and killed."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path
from types import TracebackType
from typing import Self

from ngsp.local.child import signal_to
from tests.adapter.office import DATABASE_VARIABLE, KEY, Office
from tests.adapter.signs import EFFECT_VARIABLE, FOLDER_VARIABLE, NAME_VARIABLE
from tests.support.waiting import until

PROJECT = Path(__file__).parents[2]
MODULE = "tests.adapter.sample"
END_LIMIT_S = 40.0


def environment(office: Office, bootstrap: str, database_url: str = "") -> dict[str, str]:
    """What the process of `office` is told, and nothing of what this one was."""
    key = office.folder / "key"
    key.write_bytes(base64.b64encode(KEY))
    return {
        "PATH": os.environ["PATH"],
        "NGSP_LANGUAGE": "en",
        "NGSP_ADAPTER_KAFKA_BOOTSTRAP": bootstrap,
        "NGSP_ADAPTER_KEY_FILE": str(key),
        "NGSP_ADAPTER_FOLDER": str(office.folder / "inbox"),
        DATABASE_VARIABLE: database_url,
        EFFECT_VARIABLE: office.effect,
        NAME_VARIABLE: office.name,
        FOLDER_VARIABLE: str(office.folder),
    }


class AdapterProcess:
    """`ngsp adapter run MODULE` while the context is open; killed at its end where it still runs."""

    def __init__(self, variables: dict[str, str], log: Path, module: str = MODULE) -> None:
        self._variables, self.log, self._module = variables, log, module
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        with self.log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-c",
                    "import sys; sys.argv[0]='ngsp'; from ngsp.cli import main; main()",
                    "adapter",
                    "run",
                    self._module,
                ),
                stdout=output,
                stderr=output,
                cwd=PROJECT,
                env=self._variables,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            await self.end(signal.SIGKILL)

    @property
    def process(self) -> Process:
        assert self._process
        return self._process

    def said(self, words: str) -> bool:
        """True where its log has a line with `words`; fails where it ended without."""
        found = words in self.log.read_text("utf-8")
        assert found or self.process.returncode is None, self.log.read_text("utf-8")
        return found

    async def serving(self) -> None:
        await until(lambda: self.said("adapter serves"), "the adapter to serve", END_LIMIT_S)

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), END_LIMIT_S)

    async def end(self, number: signal.Signals) -> int:
        """Its exit code after the signal."""
        signal_to(self.process, number)
        return await self.ended()
