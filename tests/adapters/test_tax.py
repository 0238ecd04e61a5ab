"""Tax obligations of companies and persons."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest

from adapters.g01_population.citizens import population
from adapters.g12_enterprise.registry_server.data import enterprises
from adapters.g12_tax.tax_server.ledger import OF_AGE_BORN_BEFORE, Ledger
from ngsp.adapter import Adapter
from tests.adapters.door import Door, door_to, example
from tests.adapters.stand_in import StandIn

MANIFEST = Path(__file__).parents[2] / "adapters" / "g12_tax" / "manifest.yaml"
ASKED = example("tax-obligations", "1-company")["request"]


@pytest.fixture
async def door(tax_system: StandIn, tmp_path: Path) -> AsyncIterator[Door]:
    await tax_system.switch("none")
    async with door_to(Adapter.load(MANIFEST), tmp_path, tax_system.environment("NGSP_G12_TAX")) as found:
        yield found
    await tax_system.switch("none")


def test_there_are_more_than_ten_thousand_payers() -> None:
    assert Ledger().payers > 10_000


@pytest.mark.parametrize("name", ["1-company", "2-person-until"])
async def test_examples_hold(door: Door, name: str) -> None:
    shown = example("tax-obligations", name)
    assert await door.answer(shown["request"]) == shown["reply"]


async def test_payers_of_all_kinds_are_translated(door: Door) -> None:
    persons = [id for id, person in population().items() if person.born < OF_AGE_BORN_BEFORE]
    for code in [*list(enterprises())[::500], *persons[::800]]:
        found = await door.answer({"maSoThue": code})
        assert found["maSoThue"] == code
        assert all(0 <= each["daNop"] <= each["phaiNop"] for each in found["khoanNop"])


async def test_up_to_a_day(door: Door) -> None:
    whole = (await door.answer(ASKED))["khoanNop"]
    until = (await door.answer(ASKED | {"denNgay": "2026-01-31"}))["khoanNop"]
    assert until == [each for each in whole if date.fromisoformat(each["hanNop"]) <= date(2026, 1, 31)]
    assert (await door.answer(ASKED | {"denNgay": "2020-01-01"}))["khoanNop"] == []


@pytest.mark.parametrize("code", ["0100000000", "900000000009"])
async def test_nobody_is_a_no(door: Door, code: str) -> None:
    reply = await door.ask({"maSoThue": code})
    assert (reply.status, reply.code) == ("not-found", "KHONG-CO-NGUOI-NOP-THUE")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("error", "failed", "backend-status-500"),
        ("overloaded", "retry", "backend-status-503"),
        ("other", "failed", "other-payer"),
        ("html", "failed", "backend-not-json"),
        ("down", "retry", "backend-down"),
    ],
)
async def test_misbehaviour_is_told_apart(door: Door, tax_system: StandIn, fault: str, status: str, code: str) -> None:
    await tax_system.switch(fault)
    asked = dict(ASKED) if fault != "other" else {"maSoThue": list(enterprises())[5]}
    reply = await door.ask(asked)
    assert (reply.status, reply.code) == (status, code)
