"""The program of docs/calling.md runs as it is written, against a running demo."""

from __future__ import annotations

import asyncio
import os
import sys

from ngsp.client import errors
from ngsp.client.calls import Options
from tests.docs.conftest import Demo
from tests.docs.pages import PROJECT, blocks, prose

GUIDE = PROJECT / "docs" / "calling.md"
TIMEOUT_S = 120.0


async def test_the_program_of_the_guide_runs_as_it_is_written(demo: Demo) -> None:
    program = "\n".join(block.text for block in blocks(GUIDE, "python"))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-W", "error", "-c", program),
        cwd=demo.folder,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT_S)
    told = output.decode()
    assert process.returncode == 0, told
    lines = told.splitlines()
    assert lines[0].startswith("from an example: 9")
    assert any(line.endswith(" Phường Vinh Hưng") for line in lines)
    assert "succeeded" in lines
    assert any(line.startswith("registered as ") for line in lines)
    assert any(line.startswith("no such citizen") for line in lines)
    assert lines[-2:] == ["1", "1"]


def test_the_guide_names_every_option_and_every_kind_of_error() -> None:
    text = prose(GUIDE)
    for name in Options.__annotations__:
        assert f"`{name}`" in text, name
    for family in (*errors.CallError.__subclasses__(), *errors.Problem.__subclasses__()):
        assert f"`{family.__name__}`" in text, family
