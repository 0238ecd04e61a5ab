"""Customs declarations by files: batches of the office, and what is left for it, answered once."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.g12_customs.customs_office.declarations import batches
from adapters.g12_customs.customs_office.office import Office
from ngsp.adapter import Adapter
from ngsp.local.child import signal_to
from ngsp.messages import uuid7
from tests.adapters.door import Door, door_to, example

PROJECT = Path(__file__).parents[2]
MANIFEST = PROJECT / "adapters" / "g12_customs" / "manifest.yaml"
LOOK_UP, FILE = "customs-declaration-lookup", "customs-declaration"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("customs")
    Office(found).lay_batches()
    return found


@pytest.fixture
async def doors(folder: Path, tmp_path: Path) -> AsyncIterator[dict[str, Door]]:
    environment = {"NGSP_G12_CUSTOMS_FOLDER": str(folder)}.get
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(door_to(Adapter.load(MANIFEST), tmp_path, environment, service=name))
            for name in (LOOK_UP, FILE)
        }


def test_there_are_more_than_ten_thousand_the_same_each_time(folder: Path, tmp_path: Path) -> None:
    found = [row for rows in batches().values() for row in rows]
    assert len(found) > 10_000
    assert len({row["SO_TK"] for row in found}) == len(found)
    Office(tmp_path).lay_batches()
    for file in (folder / "lo").iterdir():
        assert (tmp_path / "lo" / file.name).read_bytes() == file.read_bytes()


async def test_examples_hold(doors: dict[str, Door]) -> None:
    for name in ("1-first-day", "2-quotes"):
        shown = example(LOOK_UP, name)
        assert await doors[LOOK_UP].answer(shown["request"]) == shown["reply"]


@pytest.mark.parametrize("changed", [{"soToKhai": "999999999999"}, {"ngayDangKy": "2020-01-01"}])
async def test_what_is_in_no_batch_is_a_no(doors: dict[str, Door], changed: dict[str, str]) -> None:
    reply = await doors[LOOK_UP].ask(example(LOOK_UP, "1-first-day")["request"] | changed)
    assert (reply.status, reply.code) == ("not-found", "KHONG-CO-TO-KHAI")


async def test_every_declaration_of_a_batch_is_translated(doors: dict[str, Door]) -> None:
    day, rows = next(iter(batches().items()))
    for row in rows[::25]:
        found = await doors[LOOK_UP].answer({"soToKhai": row["SO_TK"], "ngayDangKy": day.isoformat()})
        assert (found["soToKhai"], found["triGia"]) == (row["SO_TK"], int(row["TRI_GIA"]))


def declaration(**others: Any) -> dict[str, Any]:
    request: dict[str, Any] = example(FILE, "1-green")["request"]
    return request | others


async def test_a_declaration_is_filed_once_and_its_answer_found_later(doors: dict[str, Door], folder: Path) -> None:
    office, id = Office(folder), uuid7()
    for _ in range(2):
        waiting = await doors[FILE].ask(declaration(), id=id, deadline_s=0.9)
        assert (waiting.status, waiting.code) == ("retry", "file-no-answer")
    office.look()
    assert office.taken == 1
    assert list((folder / "den").iterdir()) == []
    first = await doors[FILE].answer(declaration(), id=id)
    assert first["luong"] == "xanh"
    assert await doors[FILE].answer(declaration(), id=id) == first
    office.look()
    assert office.taken == 1, "what the office has taken is not left for it again"


async def test_the_office_may_refuse(doors: dict[str, Door], folder: Path) -> None:
    id = uuid7()
    stranger = declaration(maSoThue="0100000000")
    assert (await doors[FILE].ask(stranger, id=id, deadline_s=0.9)).status == "retry"
    Office(folder).look()
    reply = await doors[FILE].ask(stranger, id=id)
    assert (reply.status, reply.code) == ("refused", "MST_KHONG_HOAT_DONG")


async def test_the_office_as_a_program(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "adapters.g12_customs.customs_office", "--ready-file", str(tmp_path / "ready.json")),
        stdout=PIPE,
        cwd=PROJECT,
    )
    try:
        assert process.stdout is not None
        told = orjson.loads(await asyncio.wait_for(process.stdout.readline(), 30))
        assert told == orjson.loads((tmp_path / "ready.json").read_bytes())
        environment = {"NGSP_G12_CUSTOMS_FOLDER": told["folder"]}.get
        async with door_to(Adapter.load(MANIFEST), tmp_path / "inbox", environment, service=FILE) as door:
            assert (await door.answer(declaration(triGia=2_000_000_000), deadline_s=20))["luong"] == "do"
    finally:
        signal_to(process, signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
