"""Health-insurance cards: every result code, and children's cards given once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from adapters.g24_insurance.insurance_server.cards import Card, holders
from adapters.g24_insurance.insurance_server.desk import NOTES, OFFICERS
from ngsp.adapter import Adapter
from ngsp.messages import uuid7
from tests.adapters.door import Door, door_to, example
from tests.adapters.stand_in import StandIn

MANIFEST = Path(__file__).parents[2] / "adapters" / "g24_insurance" / "manifest.yaml"
CHECK, ISSUE = "health-insurance-card-check", "child-health-insurance-card-issue"
OFFICER, OFFICER_NAME = next(iter(OFFICERS.items()))
CHILD = example(ISSUE, "1-new-born")["request"]


@pytest.fixture
async def doors(insurance_system: StandIn, tmp_path: Path) -> AsyncIterator[dict[str, Door]]:
    await insurance_system.switch("none")
    environment = insurance_system.environment("NGSP_G24_INSURANCE")
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                door_to(Adapter.load(MANIFEST), tmp_path / name, environment, service=name)
            )
            for name in (CHECK, ISSUE)
        }
    await insurance_system.switch("none")


def card(state: str) -> Card:
    return next(found for found in holders().values() if found.state == state)


def asked(of: Card, **others: str) -> dict[str, Any]:
    request = {
        "soThe": of.number,
        "hoTen": of.holder.name.full,
        "ngaySinh": of.holder.born.isoformat(),
        "hoTenCanBo": OFFICER_NAME,
        "cccdCanBo": OFFICER,
    }
    return {name: value for name, value in (request | others).items() if value}


def test_there_are_more_than_ten_thousand_cards_the_same_each_time() -> None:
    found = holders()
    assert len(found) > 10_000
    assert found == holders()
    assert len({each.number for each in found.values()}) == len(found)
    assert {each.state for each in found.values()} == {"valid", "renewed", "replaced", "expired", "withdrawn"}
    assert all(each.holder.id[:1] == "9" for each in found.values())


@pytest.mark.parametrize(
    ("state", "changed", "code"),
    [
        ("valid", {}, "000"),
        ("valid", {"ngaySinh": "", "namSinh": "own"}, "000"),
        ("renewed", {"soThe": "older"}, "003"),
        ("replaced", {"soThe": "older"}, "004"),
        ("renewed", {}, "000"),
        ("expired", {}, "010"),
        ("valid", {"soThe": "DN4400000000000"}, "050"),
        ("valid", {"soThe": "900000000001"}, "050"),
        ("valid", {"soThe": "DN44012345678"}, "051"),
        ("valid", {"soThe": "DN4990000000000"}, "052"),
        ("valid", {"soThe": "DN9400000000000"}, "053"),
        ("valid", {"hoTenCanBo": "Người Khác"}, "054"),
        ("valid", {"cccdCanBo": "900000000009"}, "055"),
        ("valid", {"hoTen": "Nguyễn Thị Khác"}, "060"),
        ("valid", {"ngaySinh": "1900-01-01"}, "070"),
        ("withdrawn", {}, "110"),
    ],
)
async def test_every_result_code(doors: dict[str, Door], state: str, changed: dict[str, str], code: str) -> None:
    of = card(state)
    own = {"older": of.replaces, "own": str(of.holder.born.year)}
    reply = await doors[CHECK].answer(asked(of, **{name: own.get(value, value) for name, value in changed.items()}))
    assert (reply["maKetQua"], reply["ghiChu"]) == (code, NOTES[code])
    shown = reply["the"]
    assert (shown is not None) is (code in ("000", "003", "004", "010", "110"))
    if shown:
        assert shown["soThe"] == of.number, "of a replaced card the present one"


async def test_examples_hold(doors: dict[str, Door]) -> None:
    for name in ("1-valid", "2-by-identity-number", "3-renewed", "4-none"):
        shown = example(CHECK, name)
        assert await doors[CHECK].answer(shown["request"]) == shown["reply"]


async def test_names_fit_in_any_case_and_form(doors: dict[str, Door]) -> None:
    of = card("valid")
    assert (await doors[CHECK].answer(asked(of, hoTen=of.holder.name.full.upper())))["maKetQua"] == "000"


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("error", "failed", "backend-status-500"),
        ("html", "failed", "backend-not-json"),
        ("broken", "failed", "backend-not-json"),
        ("overloaded", "retry", "backend-status-503"),
        ("down", "retry", "backend-down"),
        ("other", "failed", "other-card"),
    ],
)
async def test_misbehaviour_is_told_apart(
    doors: dict[str, Door], insurance_system: StandIn, fault: str, status: str, code: str
) -> None:
    await insurance_system.switch(fault)
    reply = await doors[CHECK].ask(asked(card("valid")))
    assert (reply.status, reply.code) == (status, code)


def child(serial: int, **others: Any) -> dict[str, Any]:
    request: dict[str, Any] = CHILD | {"soDinhDanh": f"9402257{serial:05d}"} | others
    return request


async def test_a_child_gets_one_card_however_often_it_is_asked(doors: dict[str, Door]) -> None:
    id = uuid7()
    first = await doors[ISSUE].answer(child(1), id=id)
    assert first["soThe"].startswith("TE140")
    assert (first["tuNgay"], first["denNgay"]) == ("2025-12-20", "2031-12-20")
    assert await doors[ISSUE].answer(child(1), id=id) == first
    again = await doors[ISSUE].ask(child(1))
    assert (again.status, again.code) == ("refused", "DA_CO_THE")


async def test_answers_lost_on_the_way_give_no_second_card(doors: dict[str, Door], insurance_system: StandIn) -> None:
    id = uuid7()
    await insurance_system.switch("cut")
    assert (await doors[ISSUE].ask(child(2), id=id)).status == "retry"
    await insurance_system.switch("none")
    first = await doors[ISSUE].answer(child(2), id=id)
    assert await doors[ISSUE].answer(child(2), id=id) == first
    assert Counter([(await doors[ISSUE].ask(child(2))).code for _ in range(3)]) == {"DA_CO_THE": 3}


@pytest.mark.parametrize(
    ("changed", "status", "code"),
    [
        ({"ngaySinh": "2019-12-31"}, "refused", "QUA_TUOI"),
        ({"maTinh": "99"}, "refused", "205"),
        ({"soDinhDanh": card("valid").holder.id}, "refused", "DA_CO_THE"),
    ],
)
async def test_who_gets_no_card(doors: dict[str, Door], changed: dict[str, Any], status: str, code: str) -> None:
    reply = await doors[ISSUE].ask(child(3, **changed))
    assert (reply.status, reply.code) == (status, code)
