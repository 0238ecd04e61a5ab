"""What tests of `ngsp registry apply` begin with: two members in YAML, files, and the command."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

from ngsp.registry.apply import run_apply

if TYPE_CHECKING:
    from pathlib import Path

MEMBERS = """
kind: member
code: G01.01
old_code: 000.00.01.G01
name: {vi: Cục C06, en: Population department}
valid_from: 2020-01-01
zone: national
---
kind: member
code: H41
name: {vi: Nghệ An, en: Nghe An}
valid_from: 2020-01-01
zone: province
"""


def write(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, "utf-8")


async def run(path: Path, url: str, *, dry_run: bool = False) -> tuple[int, str]:
    """As the command line runs it, on a loop of its own: the exit code and what was printed."""
    out = io.StringIO()
    code = await asyncio.to_thread(run_apply, path, url, dry_run, out)
    return code, out.getvalue()
