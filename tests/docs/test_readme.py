"""The README's transcripts, run as they are written against a running demo."""

from __future__ import annotations

import asyncio
import time

from tests.docs.conftest import Demo
from tests.docs.pages import PROJECT, Step, blocks, steps
from tests.docs.shell import Shell, difference, shell

README = PROJECT / "README.md"
LISTS_BEHIND_S = 15.0
"""The README promises two seconds on a machine that is not doing everything else at once."""


async def _run(session: Shell, step: Step) -> str:
    """What is wrong with the step; a list is asked again for a while, since it comes a moment after the log."""
    until_s = time.monotonic() + (LISTS_BEHIND_S if "limit" in step.command else 0)
    while True:
        code, told = await session.type(step.command)
        wrong = difference(step.shown, told) if step.shown else "\n".join(told)
        if code:
            wrong = f"exit code {code}\n{wrong}"
        if not wrong or time.monotonic() >= until_s:
            return wrong and f"$ {step.command}\n{wrong}"
        await asyncio.sleep(0.2)


async def test_the_transcript_works_as_written(demo: Demo) -> None:
    written = [step for block in blocks(README, "console") for step in steps(block)]
    assert len(written) > 10
    async with shell(demo.folder) as session:
        for step in written:
            assert await _run(session, step) == ""


def test_the_demo_prints_what_the_readme_shows(demo: Demo) -> None:
    (shown,) = blocks(README, "text")
    printed = [line.rstrip() for line in demo.output if not line.startswith("Running as root: ")]
    assert difference(shown.text.splitlines(), printed) == ""


def test_the_readme_fits_on_few_screens() -> None:
    assert len(README.read_text("utf-8").splitlines()) < 250
