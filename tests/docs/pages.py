"""The pages that people read, taken apart: fenced blocks, links, and the transcripts with what they show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("adapters/*.md")])

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.*?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: its language and its text."""

    page: Path
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """One command of a transcript and the lines that are shown below it."""

    command: str
    shown: tuple[str, ...]


def blocks(page: Path, language: str) -> list[Block]:
    found = (Block(page, *match) for match in _FENCE.findall(page.read_text("utf-8")))
    return [block for block in found if block.language == language]


def steps(block: Block) -> list[Step]:
    """The commands of a `console` block; a command goes on in lines that begin with `> `."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line[2:]], []))
        elif line.startswith("> ") and found and not found[-1][1]:
            found[-1][0].append(line[2:])
        else:
            found[-1][1].append(line)
    return [Step("\n".join(command), tuple(shown)) for command, shown in found]


def links(page: Path) -> Iterator[str]:
    """Targets of links, as they are written; those inside fenced blocks are none."""
    yield from _LINK.findall(_FENCE.sub("", page.read_text("utf-8")))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(page: Path) -> str:
    """The page's text with its blocks."""
    return page.read_text("utf-8")


def code(page: Path) -> str:
    """What stands in fenced blocks and between backticks, a line for each; the signs before commands are taken off."""
    text = page.read_text("utf-8")
    fenced = [re.sub(r"^ *(?:[$>] )?", "", found[1], flags=re.MULTILINE) for found in _FENCE.findall(text)]
    inline = [" ".join(found.split()) for found in re.findall(r"`([^`]+)`", _FENCE.sub("", text))]
    return "\n".join((*fenced, *inline))


def ordered_blocks(page: Path) -> list[tuple[Block, str]]:
    """All fenced blocks in their order, each with the file that the comment in its first line names, or none."""
    return [
        (block, _named(block)) for block in (Block(page, *match) for match in _FENCE.findall(page.read_text("utf-8")))
    ]


def named_files(page: Path) -> dict[str, str]:
    """Path → text, of the blocks whose first line is a comment that names a file."""
    return {file: block.text for block, file in ordered_blocks(page) if file}


def _named(block: Block) -> str:
    first, _, _ = block.text.partition("\n")
    match = re.fullmatch(r"# (adapters/[\w/]+\.(?:py|yaml))", first)
    return match[1] if match and block.language in ("python", "yaml") else ""
