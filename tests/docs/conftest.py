"""One demo for all tests of the documentation, started as a person would, in a data folder of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ngsp.local.child import signal_to
from ngsp.local.home import remove_abandoned
from tests.support.waiting import until

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Demo:
    """A running demo. `folder` holds `data/demo`, as the project's own folder does; `output`: what it printed.

    `described`: what it wrote for scripts, `demo.json`.
    """

    folder: Path
    base_url: str
    output: tuple[str, ...]
    described: dict[str, Any]

    def secret(self, client: str) -> str:
        found: str = next(each["secret"] for each in self.described["clients"] if each["id"] == client)
        return found


@pytest.fixture(scope="session")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    folder = tmp_path_factory.mktemp("readme")
    (folder / ".venv").symlink_to(sys.prefix)
    printed = folder / "printed.txt"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NGSP_")}
    with printed.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "ngsp", "demo", "--port", "0", "--data", "data/demo"),
            cwd=folder,
            env=environment | {"NGSP_LANGUAGE": "en", "PYTHONUNBUFFERED": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )

    def stays_up() -> bool:
        assert process.returncode is None, printed.read_text("utf-8")
        return "Stop with Ctrl-C." in printed.read_text("utf-8")

    try:
        await until(stays_up, "the demo is up", START_TIMEOUT_S)
        described = json.loads((folder / "data" / "demo" / "demo.json").read_text("utf-8"))
        yield Demo(folder, described["base_url"], tuple(printed.read_text("utf-8").splitlines()), described)
    finally:
        signal_to(process, signal.SIGTERM)
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        shutil.rmtree(folder / "data", ignore_errors=True)
        remove_abandoned(below=folder)
