"""What the documentation names is there: files, commands, settings, metrics, decisions."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer.main

from ngsp import cli
from ngsp.adapter.process import AdapterSettings
from ngsp.config import Settings
from ngsp.metrics import GAUGES, Metrics
from tests.docs.pages import PAGES, PROJECT, anchors, blocks, code, links, named_files, prose

NAMES = [page.relative_to(PROJECT).as_posix() for page in PAGES]
_COMMAND = re.compile(r"^(?:\.venv/bin/)?ngsp ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)(.*)$", re.MULTILINE)
_VARIABLE = re.compile(r"\bNGSP_[A-Z0-9]+(?:_[A-Z0-9]+)*(?![A-Z0-9_*])")
_METRIC = re.compile(r"`(ngsp_[a-z_]+)(?:\{[^`]*\})?`|(ngsp_[a-z_]+)\{")
_SUFFIXES = ("_total", "_bucket", "_count", "_sum")


def _files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (PROJECT / folder).rglob("*.py")


@cache
def _sources() -> str:
    return "\n".join(path.read_text("utf-8") for path in _files("ngsp", "adapters"))


@cache
def _commands() -> dict[str, set[str]]:
    """Command path, e.g. `registry apply` → its options; groups have none."""
    found: dict[str, set[str]] = {}

    def walk(command: object, path: str) -> None:
        options = {name for parameter in getattr(command, "params", ()) for name in parameter.opts}
        found[path] = options | {"--help"}
        for name, below in getattr(command, "commands", {}).items():
            walk(below, f"{path} {name}".strip())

    walk(typer.main.get_command(cli.whole()), "")
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_exists(page: Path) -> None:
    commands = _commands()
    for words, rest in _COMMAND.findall(code(page)):
        name = words if words in commands else words.partition(" ")[0]
        assert name in commands, f"ngsp {words}"
        if " " in words and name != words:
            subcommands = {path for path in commands if path.startswith(f"{name} ")}
            assert not subcommands, f"ngsp {words}"
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest.partition("#")[0]):
            assert option in commands[name], f"ngsp {words} {option}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_target_script_and_module_exists(page: Path) -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for target in re.findall(r"^make ([a-z-]+)", code(page), re.MULTILINE):
        assert target in targets, target
    for script in re.findall(r"scripts/[a-z-]+(?:\.sh)?", prose(page)):
        assert (PROJECT / script).is_file(), script
    for module in re.findall(r"python -m ([a-z_.0-9]+)", prose(page)):
        assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_file_of_ours_that_is_named_exists(page: Path) -> None:
    written_here = {name.rpartition("/")[0] for each in PAGES for name in named_files(each)}
    for name in re.findall(r"`((?:ngsp|tests|adapters|schemas|bench|docs)/[\w./-]*)`", prose(page)):
        if name.rstrip("/") not in written_here:
            assert (PROJECT / name).exists(), name


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_variable_is_a_setting_of_something(page: Path) -> None:
    settings = {f"NGSP_{name.upper()}" for name in Settings.model_fields}
    settings |= {f"NGSP_ADAPTER_{name.upper()}" for name in AdapterSettings.model_fields}
    declared = "".join(block.text for each in PAGES for block in blocks(each, "yaml"))
    manifests = "".join(path.read_text("utf-8") for path in (PROJECT / "adapters").glob("*/manifest.yaml"))
    for name in _VARIABLE.findall(prose(page)):
        if name not in settings:
            assert f'"{name}"' in _sources() or re.search(rf": {name}\b", declared + manifests), name


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_metric_exists(page: Path) -> None:
    families = {family.name for family in Metrics().collect()} | GAUGES.keys()
    for pair in _METRIC.findall(prose(page)):
        name = pair[0] or pair[1]
        assert (
            name in families
            or name.removesuffix(next(filter(name.endswith, _SUFFIXES), "")) in families
            or name in ("ngsp_inbox", "ngsp_sources")  # tables of an adapter's
        ), name


def test_every_gauge_of_a_gateway_stands_in_the_operations_page() -> None:
    text = prose(PROJECT / "docs" / "operations.md")
    read = (PROJECT / "ngsp" / "app.py").read_text("utf-8")
    for name in GAUGES:
        assert name in text or name not in read, name


def test_every_decision_stands_in_the_list() -> None:
    folder = PROJECT / "docs" / "decisions"
    written = sorted(path for path in folder.glob("[0-9]*.md"))
    assert sorted(set(links(folder / "README.md"))) == [path.name for path in written]
    for number, path in enumerate(written, 1):
        text = path.read_text("utf-8")
        assert path.name.startswith(f"{number:04d}-")
        assert text.startswith(f"# {number:04d} ")
        assert all(f"**{part}.**" in text for part in ("Context", "Decision", "Consequences"))
        assert len(text.splitlines()) <= 40
