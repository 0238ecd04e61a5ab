"""The shared catalogues beside the administrative units: older provinces, peoples, countries, members."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.g22_catalogue.adapter import MEMBERS_VARIABLE, adapter
from adapters.g22_catalogue.lists import countries, members, older_provinces, peoples
from adapters.g22_catalogue.units import ABOLISHED_PROVINCES, Catalogue
from ngsp.adapter import ManifestError
from tests.adapters.door import Door, door_to

PROJECT = Path(__file__).parents[2]
DECLARED = PROJECT / "ngsp" / "demo" / "registry" / "members.yaml"
SERVICES = ("older-provinces", "ethnic-groups", "countries", "members")


@pytest.fixture(scope="module")
async def doors(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, Door]]:
    folder = tmp_path_factory.mktemp("catalogues")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MEMBERS_VARIABLE, str(DECLARED))
        async with AsyncExitStack() as stack:
            yield {name: await stack.enter_async_context(door_to(adapter, folder, service=name)) for name in SERVICES}


def examples(service: str) -> list[dict[str, Any]]:
    folder = PROJECT / "schemas" / service / "v1" / "examples"
    return [orjson.loads(file.read_bytes()) for file in sorted(folder.glob("*.json"))]


@pytest.mark.parametrize("service", SERVICES)
async def test_examples_hold(doors: dict[str, Door], service: str) -> None:
    for example in examples(service):
        found = await doors[service].answer(example["request"])
        assert found["entries"][: len(example["reply"]["entries"])] == example["reply"]["entries"]


@pytest.mark.parametrize(("service", "code"), [("older-provinces", "99"), ("ethnic-groups", "55"), ("countries", "ZZ")])
async def test_an_unknown_code_is_a_no(doors: dict[str, Door], service: str, code: str) -> None:
    reply = await doors[service].ask({"code": code})
    assert (reply.status, reply.code) == ("not-found", "KHONG-CO-MA")
    assert await doors[service].answer({"name": "khong co ten nay"}) == {"entries": []}


def test_the_63_provinces_lead_to_the_34() -> None:
    units = Catalogue()
    found = older_provinces(units).all()
    assert len(found) == 63
    now = {province.code for province in units.provinces()}
    assert {entry["now"]["code"] for entry in found} == now
    assert {entry["code"] for entry in found} - now == ABOLISHED_PROVINCES
    for province in units.provinces():  # each bears the name of one of its parts
        parts = [entry["name"] for entry in found if entry["now"]["code"] == province.code]
        assert any(part.split()[-1] in province.name for part in parts), province.name


async def test_lists_are_whole(doors: dict[str, Door]) -> None:
    assert len((await doors["ethnic-groups"].answer({"list": "all"}))["entries"]) == 54 == len(peoples())
    found = (await doors["countries"].answer({"list": "all"}))["entries"]
    assert len(found) == len({entry["code"] for entry in found}) == len(countries()) == 249
    declared = (await doors["members"].answer({"list": "all"}))["entries"]
    assert len(declared) == DECLARED.read_text("utf-8").count("kind: member")


async def test_members_are_found_by_both_codes_and_both_names(doors: dict[str, Door]) -> None:
    by_code = await doors["members"].answer({"code": "G22"})
    assert by_code == await doors["members"].answer({"code": "000.00.00.G22"})
    for name in ("van phong chinh phu", "Office of the Government"):
        assert by_code["entries"][0] in (await doors["members"].answer({"name": name}))["entries"]


@pytest.mark.parametrize("text", ["kind: member\n", "[]", "kind: [", "- 1\n"])
def test_a_file_of_members_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "members.yaml").write_text(text, "utf-8")
    with pytest.raises(ManifestError, match=r"members\.yaml"):
        members(tmp_path / "members.yaml")
    with pytest.raises(ManifestError, match="nowhere"):
        members(tmp_path / "nowhere.yaml")
