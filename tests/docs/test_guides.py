"""The guides: each step as it is written, in both languages."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.docs.conftest import Demo
from tests.docs.pages import PROJECT, ordered_blocks, prose, steps
from tests.docs.shell import difference, shell

GUIDES = PROJECT / "docs" / "guides"
NAMES = sorted(page.name.removesuffix(".en.md") for page in GUIDES.glob("*.en.md"))
ON_THE_DEMO = [name for name in NAMES if "data/demo" in prose(GUIDES / f"{name}.en.md")]
"""Guides that ask for a running demo."""
ALONE = [name for name in NAMES if name not in ON_THE_DEMO]


async def follow(page: Path, folder: Path) -> int:
    """Does what `page` says in `folder`, from top to bottom; how many commands there were."""
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(sys.prefix)
    typed = 0
    async with shell(folder) as session:
        try:
            for block, file in ordered_blocks(page):
                if file:
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    (folder / file).write_text(block.text, "utf-8")
                for step in steps(block) if block.language == "console" else ():
                    code, told = await session.type(step.command)
                    wrong = difference(step.shown, told) if step.shown else "\n".join(told)
                    assert (code, wrong) == (0, ""), f"$ {step.command}\n{wrong}"
                    typed += 1
        finally:
            await session.type("jobs -p | xargs -r kill 2>/dev/null")
    return typed


@pytest.mark.parametrize("name", ON_THE_DEMO)
async def test_a_guide_works_on_the_demo(name: str, demo: Demo) -> None:
    assert await follow(GUIDES / f"{name}.en.md", demo.folder) > 3


@pytest.mark.parametrize(
    "name", [name if name == "first-adapter" else pytest.param(name, marks=pytest.mark.long) for name in ALONE]
)
async def test_a_guide_works_as_written(name: str, tmp_path: Path) -> None:
    assert await follow(GUIDES / f"{name}.en.md", tmp_path) > 3


@pytest.mark.long
@pytest.mark.parametrize("name", ALONE)
async def test_a_guide_works_in_vietnamese(name: str, tmp_path: Path) -> None:
    assert await follow(GUIDES / f"{name}.vi.md", tmp_path) > 3


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_say_the_same(name: str) -> None:
    """Headings, files and commands; the language of what is told apart."""
    pages = [GUIDES / f"{name}.{language}.md" for language in ("en", "vi")]
    english, vietnamese = ([_of(block.text) for block, _ in ordered_blocks(page)] for page in pages)
    assert english == vietnamese
    counts = [page.read_text("utf-8").count("\n## ") for page in pages]
    assert counts[0] == counts[1]


def _of(text: str) -> list[str]:
    """What is done in a block: a file's lines, or commands without what is shown below them."""
    lines = text.replace("NGSP_LANGUAGE=en", "NGSP_LANGUAGE=vi").splitlines()
    if not any(line.startswith("$ ") for line in lines):
        return lines
    return [line for line in lines if line.startswith(("$ ", "> "))]
