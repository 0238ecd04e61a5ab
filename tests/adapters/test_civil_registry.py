"""The national civil registry: births entered once each, supplements and refusals, extracts."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from adapters.g15_civil_registry.civil_server.desk import ON_THE_WAY
from adapters.g15_civil_registry.civil_server.register import PAGES_IN_BOOK, Register
from ngsp.adapter import Adapter
from ngsp.messages import Reply, uuid7
from tests.adapters.door import Door, door_to, example
from tests.adapters.stand_in import StandIn

MANIFEST = Path(__file__).parents[2] / "adapters" / "g15_civil_registry" / "manifest.yaml"
ENTER, EXTRACT = "civil-birth-record", "civil-extract"
BIRTH = example(ENTER, "1-both-parents")["request"]
_codes = itertools.count(1)


@pytest.fixture
async def doors(civil_system: StandIn, tmp_path: Path) -> AsyncIterator[dict[str, Door]]:
    await civil_system.switch("none")
    environment = civil_system.environment("NGSP_G15_CIVIL")
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                door_to(Adapter.load(MANIFEST), tmp_path / name, environment, service=name)
            )
            for name in (ENTER, EXTRACT)
        }
    await civil_system.switch("none")


def birth(*, parents: dict[str, Any] | None = None, child: dict[str, Any] | None = None, **changed: Any) -> Any:
    """A birth that nobody registered yet; `parents`: changed in both, `changed`: of `data`."""
    data = BIRTH["data"] | {"maGCS": f"40-17920-2025-T{next(_codes):05d}"} | changed
    data["nks"] = data["nks"] | (child or {})
    data |= {who: data[who] | (parents or {}) for who in ("me", "cha")}
    return BIRTH | {"data": data}


@cache
def register() -> Register:
    return Register()


def test_there_are_more_than_ten_thousand_entries_the_same_each_time() -> None:
    found = register()
    assert len(found.by_person) > 10_000
    assert found.by_person == Register().by_person
    assert len(found.by_number) == len(found.by_person), "a number is given once"
    assert all(id.startswith("9") for id in found.by_person)


@pytest.mark.parametrize("name", ["1-child", "2-by-number"])
async def test_examples_of_extracts_hold(doors: dict[str, Door], name: str) -> None:
    shown = example(EXTRACT, name)
    assert await doors[EXTRACT].answer(shown["request"]) == shown["reply"]


async def test_entries_of_all_kinds_are_translated(doors: dict[str, Door]) -> None:
    for entry in list(register().by_person.values())[::900]:
        found = await doors[EXTRACT].answer({"soDinhDanh": entry.id})
        assert (found["hoTen"], found["ngaySinh"]) == (entry.name, entry.born.isoformat())
        assert (found["cha"] is None, found["me"] is None) == (entry.father is None, entry.mother is None)


async def test_a_birth_is_entered_once_however_often_it_comes(doors: dict[str, Door]) -> None:
    id, asked = uuid7(), birth()
    first = await doors[ENTER].answer(asked, id=id)
    assert first["soDinhDanh"].startswith("940225")
    assert first["ngayDangKy"] == "2025-08-12"
    assert 1 <= first["trangSo"] <= PAGES_IN_BOOK
    assert await doors[ENTER].answer(asked, id=id) == first
    again = await doors[ENTER].ask(asked)
    assert (again.status, again.code) == ("refused", "DA_DANG_KY")
    extract = await doors[EXTRACT].answer({"noiDangKy": "17920", "soDangKy": first["soDangKy"]})
    assert extract["soDinhDanh"] == first["soDinhDanh"]
    assert extract["cha"] == {"hoTen": "Hồ Ngọc Cường", "soGiayTo": "940093023023"}


async def test_numbers_follow_one_another(doors: dict[str, Door]) -> None:
    numbers = [int((await doors[ENTER].answer(birth()))["soDangKy"].partition("/")[0]) for _ in range(3)]
    assert numbers == list(range(numbers[0], numbers[0] + 3))


async def test_an_answer_lost_on_the_way_enters_no_second_birth(doors: dict[str, Door], civil_system: StandIn) -> None:
    id, asked = uuid7(), birth()
    await civil_system.switch("cut")
    assert (await doors[ENTER].ask(asked, id=id)).status == "retry"
    await civil_system.switch("none")
    first = await doors[ENTER].answer(asked, id=id)
    assert await doors[ENTER].answer(asked, id=id) == first


async def test_a_birth_that_is_still_looked_at_comes_again_until_it_is_entered(doors: dict[str, Door]) -> None:
    id, asked = uuid7(), birth(parents={"QuocTich": "Lào"})
    replies: list[Reply] = []
    while not replies or replies[-1].status == "retry":
        replies.append(await doors[ENTER].ask(asked, id=id))
        assert len(replies) <= len(ON_THE_WAY) + 1
    assert {(reply.status, reply.code) for reply in replies[:-1]} == {("retry", "DANG-XU-LY")}
    assert replies[-1].status == "ok"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (birth() | {"fileDinhKem": []}, "BO-SUNG-THIEU_GIAY_CHUNG_SINH"),
        (birth() | {"fileDinhKem": [BIRTH["fileDinhKem"][0] | {"maBam": "0" * 64}]}, "BO-SUNG-TEP_HONG"),
        (birth(noiDangKy="99999"), "NOI_DANG_KY_KHONG_CO"),
        (birth(child={"NgaySinh": "2025-08-13"}), "NGAY_SINH_SAI"),
        (birth(child={"NgaySinh": "2025-06-12"}), "TRA-LAI-QUA_HAN_DANG_KY"),
        (birth(parents={"HoTen": "Người Khác"}), "TRA-LAI-CHA_ME_KHONG_KHOP"),
    ],
)
async def test_what_stands_against_an_entry_is_told(doors: dict[str, Door], asked: Any, code: str) -> None:
    reply = await doors[ENTER].ask(asked)
    assert (reply.status, reply.code) == ("refused", code)


async def test_a_late_registration_is_entered_as_one(doors: dict[str, Door]) -> None:
    late = await doors[ENTER].answer(birth(child={"NgaySinh": "2024-02-29"}, loaiDangKy=2))
    assert late["soDinhDanh"].startswith("940224")


@pytest.mark.parametrize("asked", [{"soDinhDanh": "900000000009"}, {"noiDangKy": "17920", "soDangKy": "9999/2020"}])
async def test_nothing_there_is_a_no(doors: dict[str, Door], asked: dict[str, str]) -> None:
    reply = await doors[EXTRACT].ask(asked)
    assert (reply.status, reply.code) == ("not-found", "KHONG-CO-TRICH-LUC")


@pytest.mark.parametrize(
    ("fault", "service", "status", "code"),
    [
        ("error", EXTRACT, "failed", "backend-status-500"),
        ("html", EXTRACT, "failed", "backend-not-json"),
        ("broken", EXTRACT, "failed", "backend-not-json"),
        ("other", EXTRACT, "failed", "other-person"),
        ("overloaded", ENTER, "retry", "backend-status-503"),
        ("html", ENTER, "failed", "backend-not-json"),
        ("down", ENTER, "retry", "backend-down"),
    ],
)
async def test_misbehaviour_is_told_apart(
    doors: dict[str, Door], civil_system: StandIn, fault: str, service: str, status: str, code: str
) -> None:
    await civil_system.switch(fault)
    reply = await doors[service].ask(birth() if service == ENTER else {"soDinhDanh": list(register().by_person)[-1]})
    assert (reply.status, reply.code) == (status, code)
