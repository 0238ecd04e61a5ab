"""A bash that transcripts are typed into, command by command, and the comparison of what it says with what is shown."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from ngsp.local.child import end_of

COMMAND_TIMEOUT_S = 60.0
_END = re.compile(rb"\x1e(\d+)\x1e\n")
_CHANGES = re.compile(
    r"(?P<id>[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"|(?P<date>(?<=^date: ).+)"
    r"|(?P<length>(?<=^content-length: )\d+)"
    r"|(?P<day>\d{4}-\d\d-\d\d)"
    r"|(?P<clock>\d\d:\d\d:\d\d)"
    r"|(?P<entry>\d\d/\d{4})"
    r"|(?P<page>(?<=\"trangSo\":)\d+)"
    r"|(?P<long>\d{9,})"
    r"|(?P<port>(?<=127\.0\.0\.1:)\d+)"
    r"|(?P<seconds>\d+\.\d(?= seconds))"
    r"|(?P<last>(?<=  )\d+$)"
    r"|(?P<gap>(?<=\S) {2,})"
    r"|(?P<rest>…)"
)
"""What is another at each run; `…` stands for anything that was left out."""
_FORMS = {
    "id": r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
    "date": r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT",
    "length": r"\d+",
    "day": r"\d{4}-\d\d-\d\d",
    "clock": r"\d\d:\d\d:\d\d",
    "entry": r"\d\d/\d{4}",
    "page": r"\d+",
    "long": r"\d{9,}",
    "port": r"\d+",
    "seconds": r"\d+\.\d",
    "last": r"\d+",
    "gap": r" +",
    "rest": r".*",
}


class Shell:
    """One bash session. `stderr` is told together with `stdout`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def type(self, command: str) -> tuple[int, list[str]]:
        """Exit code and lines of output of one command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command.encode() + b"\nprintf '\\036%s\\036\\n' \"$?\"\n")
        told = b""
        async with asyncio.timeout(COMMAND_TIMEOUT_S):
            while (end := _END.search(told)) is None:
                part = await self._process.stdout.read(65_536)
                assert part, f"bash has ended: {told.decode()}"
                told += part
        return int(end[1]), told[: end.start()].decode().replace("\r\n", "\n").rstrip("\n").splitlines()


@asynccontextmanager
async def shell(folder: Path) -> AsyncIterator[Shell]:
    """Bash in `folder`, with a curl where the machine has none."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    if shutil.which("curl") is None:
        bin_folder = folder / "bin"
        bin_folder.mkdir(exist_ok=True)
        curl = bin_folder / "curl"
        curl.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).with_name("curl.py")}" "$@"\n', "utf-8")
        curl.chmod(0o755)
        environment["PATH"] = f"{bin_folder}:{environment['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash",
        "--noprofile",
        "--norc",
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Shell(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await end_of(process, 10)


def difference(shown: Sequence[str], told: Sequence[str]) -> str:
    """Where what was told is not what is shown; empty where it is. A line `…` stands for any number of lines."""
    at = 0
    left_out = False
    for line in shown:
        if line.strip() == "…":
            left_out = True
            continue
        form = re.compile(_form(line))
        found = next((index for index in range(at, len(told)) if form.fullmatch(told[index])), None)
        if found is None or (found != at and not left_out):
            return f"shown: {line}\ntold: " + "\n      ".join(told[at:] or ["(nothing)"])
        at, left_out = found + 1, False
    if at != len(told) and not left_out and shown:
        return f"told, but not shown: {told[at:]}"
    return ""


def _form(line: str) -> str:
    pieces, at = [], 0
    for found in _CHANGES.finditer(line):
        pieces += [re.escape(line[at : found.start()]), _FORMS[found.lastgroup or "rest"]]
        at = found.end()
    return "".join((*pieces, re.escape(line[at:])))
