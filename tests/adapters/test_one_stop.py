"""The one-stop shop of Nghệ An: dossiers in, states and results out, units that nobody mapped kept and shown."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from adapters.h41_dossiers.dossier_server.dossiers import Dossier, digest, due, opening, units
from adapters.h41_dossiers.dossier_server.dossiers import dossiers as made
from ngsp.adapter import Adapter
from ngsp.messages import uuid7
from tests.adapters.door import Door, door_to, example
from tests.adapters.stand_in import StandIn, inside

MANIFEST = Path(__file__).parents[2] / "adapters" / "h41_dossiers" / "manifest.yaml"
HAND_IN, RESULT, CHANGE = "one-stop-dossier", "one-stop-result", "procedure-change-received"
ASKED = example(HAND_IN, "1-birth")["request"]
_serials = itertools.count(1)


@pytest.fixture
async def doors(dossier_system: StandIn, tmp_path: Path) -> AsyncIterator[dict[str, Door]]:
    await dossier_system.switch("none")
    environment = dossier_system.environment("NGSP_H41_DOSSIERS")
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                door_to(Adapter.load(MANIFEST), tmp_path / name, environment, service=name)
            )
            for name in (HAND_IN, RESULT, CHANGE)
        }
    await dossier_system.switch("none")


@cache
def dossiers() -> dict[str, Dossier]:
    return made()


def dossier(**changed: Any) -> Any:
    """One that was never handed in."""
    return ASKED | {"maHoSo": f"000.00.00.H41-260201-{next(_serials):04d}"} | changed


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M")  # noqa: DTZ007 - the stand-in is in the time of Việt Nam


def test_there_are_more_than_ten_thousand_dossiers_the_same_each_time() -> None:
    assert len(dossiers()) > 10_000
    assert dossiers() == made()
    assert {each.status for each in dossiers().values()} == set(range(1, 11))
    assert all(each.unit in units() for each in dossiers().values())


@pytest.mark.parametrize(
    ("sent", "received", "ends"),
    [
        ("2026-01-12 09:15", "2026-01-12 09:15", "2026-01-13 17:00"),
        ("2026-01-12 06:00", "2026-01-12 07:30", "2026-01-13 17:00"),
        ("2026-01-12 17:00", "2026-01-13 07:30", "2026-01-14 17:00"),
        ("2026-01-16 19:40", "2026-01-19 07:30", "2026-01-20 17:00"),
        ("2026-01-17 09:00", "2026-01-19 07:30", "2026-01-20 17:00"),
        ("2026-01-16 16:59", "2026-01-16 16:59", "2026-01-19 17:00"),
    ],
)
def test_days_are_working_days(sent: str, received: str, ends: str) -> None:
    assert opening(moment(sent)) == moment(received)
    assert due(moment(received), 1) == moment(ends)


@pytest.mark.parametrize("name", ["1-returned", "2-supplement", "3-new"])
async def test_examples_of_results_hold(doors: dict[str, Door], name: str) -> None:
    shown = example(RESULT, name)
    assert await doors[RESULT].answer(shown["request"]) == shown["reply"]


@pytest.mark.parametrize("name", ["1-birth", "2-in-the-evening"])
async def test_examples_of_receipts_hold_but_for_their_codes(doors: dict[str, Door], name: str) -> None:
    shown = example(HAND_IN, name)
    asked = dossier(**{member: value for member, value in shown["request"].items() if member != "maHoSo"})
    found = await doors[HAND_IN].answer(asked)
    own = {"maHoSo": asked["maHoSo"], "soBienNhan": f"BN-{asked['maHoSo'].partition('-')[2]}"}
    assert found == shown["reply"] | own


@pytest.mark.parametrize("status", range(1, 11))
async def test_each_state_is_told_with_its_steps(doors: dict[str, Door], status: int) -> None:
    for of in [each for each in dossiers().values() if each.status == status][::200]:
        found = await doors[RESULT].answer({"maHoSo": of.code})
        assert (found["trangThai"], len(found["buoc"])) == (status, len(of.steps))
        ends = [step["den"] for step in found["buoc"]]
        assert None not in ends[:-1]
        assert [step["tu"] for step in found["buoc"]][1:] == ends[:-1]
        assert (found["ngayTiepNhan"] is None) == (status in (1, 3))
        assert (found["ngayTra"] is not None) == (status == 10)
        assert found["ketQua"] == ({"soVanBan": of.result, "maBam": digest(of.result)} if status >= 9 else None)
        assert bool(found["lyDo"]) == (status in (3, 5, 8))


async def test_a_dossier_is_received_once_however_often_it_comes(doors: dict[str, Door]) -> None:
    id, asked = uuid7(), dossier()
    first = await doors[HAND_IN].answer(asked, id=id)
    assert await doors[HAND_IN].answer(asked, id=id) == first
    again = await doors[HAND_IN].ask(asked)
    assert (again.status, again.code) == ("refused", "DA_CO_HO_SO")
    state = await doors[RESULT].answer({"maHoSo": asked["maHoSo"]})
    assert (state["trangThai"], state["ngayHenTra"]) == (2, first["ngayHenTra"])


async def test_an_answer_lost_on_the_way_makes_no_second_receipt(
    doors: dict[str, Door], dossier_system: StandIn
) -> None:
    id, asked = uuid7(), dossier()
    await dossier_system.switch("cut")
    assert (await doors[HAND_IN].ask(asked, id=id)).status == "retry"
    await dossier_system.switch("none")
    assert (await doors[HAND_IN].answer(asked, id=id))["maHoSo"] == asked["maHoSo"]


async def test_a_dossier_for_a_unit_that_nobody_mapped_is_refused_kept_and_shown(doors: dict[str, Door]) -> None:
    id, asked = uuid7(), dossier(maDonVi="H41.99999")
    for _ in range(2):
        reply = await doors[HAND_IN].ask(asked, id=id)
        assert (reply.status, reply.code) == ("refused", "CHUA_ANH_XA_DON_VI")
    kept = await doors[RESULT].answer({"maHoSo": asked["maHoSo"]})
    assert (kept["trangThai"], kept["lyDo"]) == (3, "CHUA_ANH_XA_DON_VI")
    assert kept["donVi"] == {"ma": "H41.99999", "ten": None}
    assert kept["nguoiNop"] == asked["nguoiNop"]["HoTen"]


async def test_a_procedure_of_elsewhere_is_refused(doors: dict[str, Door]) -> None:
    reply = await doors[HAND_IN].ask(dossier(maThuTuc="1.000000"))
    assert (reply.status, reply.code) == ("refused", "KHONG_CO_THU_TUC")


@pytest.mark.parametrize("name", ["1-amended", "2-abolished"])
async def test_a_change_of_a_procedure_is_taken_once_by_its_event(
    doors: dict[str, Door], dossier_system: StandIn, name: str
) -> None:
    """Each delivery of it is another transaction; the event is the same."""
    shown = example(CHANGE, name)
    event = shown["request"] | {"id": f"{uuid7()}-{shown['request']['id']}"}
    assert await doors[CHANGE].answer(event) == shown["reply"]
    assert await doors[CHANGE].answer(event) == {"daCo": True}
    async with inside(dossier_system) as system:
        answer = await system.get("/ThayDoiTTHC", params={"maSuKien": event["id"]})
        missing = await system.get("/ThayDoiTTHC", params={"maSuKien": "none"})
    data = event["data"]
    assert answer.json()["data"] == {
        "MaSuKien": event["id"],
        "MaTTHC": data["maThuTuc"],
        "PhienBan": str(data["phienBan"]),
        "Loai": event["type"],
        "SoQuyetDinh": data["quyetDinh"],
        "NgayHieuLuc": data["hieuLucTu"].replace("-", ""),
        "SoLan": 2,
    }
    assert missing.json()["error_code"] == "KHONG_CO_SU_KIEN"


async def test_no_such_dossier_is_a_no(doors: dict[str, Door]) -> None:
    reply = await doors[RESULT].ask({"maHoSo": "000.00.00.H41-990101-0001"})
    assert (reply.status, reply.code) == ("not-found", "KHONG-CO-HO-SO")


@pytest.mark.parametrize(
    ("service", "fault", "status", "code"),
    [
        (RESULT, "error", "failed", "backend-status-500"),
        (RESULT, "html", "failed", "backend-not-json"),
        (RESULT, "broken", "failed", "backend-not-json"),
        (RESULT, "other", "failed", "other-dossier"),
        (HAND_IN, "overloaded", "retry", "backend-status-503"),
        (HAND_IN, "down", "retry", "backend-down"),
    ],
)
async def test_misbehaviour_is_told_apart(
    doors: dict[str, Door], dossier_system: StandIn, service: str, fault: str, status: str, code: str
) -> None:
    await dossier_system.switch(fault)
    reply = await doors[service].ask(dossier() if service == HAND_IN else {"maHoSo": list(dossiers())[7]})
    assert (reply.status, reply.code) == (status, code)
