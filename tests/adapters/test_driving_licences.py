"""Synthetic driving licences, the rules of renewal, and the adapter in front of its SOAP system."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.g01_driving_licence.licence_server.desk import record, renewed_classes, working_days_after
from adapters.g01_driving_licence.licence_server.licences import POLICE_SINCE, Licence, licences
from ngsp.adapter import Adapter
from ngsp.adapter.contract import Effort, try_contract
from ngsp.adapter.trial import Trial, Tried, on_trial
from ngsp.messages import uuid7
from ngsp.registry.declared import DeclaredMember, read_declarations
from tests.adapters.door import example
from tests.adapters.stand_in import PROJECT, StandIn

FOLDER = PROJECT / "adapters" / "g01_driving_licence"
PREFIX = "NGSP_G01_LICENCE"
LICENCES = list(licences().values())
CAR = example("driving-licence-renewal", "2-car")["request"]


@pytest.fixture(scope="module")
async def trial(tmp_path_factory: pytest.TempPathFactory, licence_system: StandIn) -> AsyncIterator[Trial]:
    adapter = Adapter.load(FOLDER / "manifest.yaml")
    async with on_trial(adapter, tmp_path_factory.mktemp("licences"), licence_system.environment(PREFIX)) as served:
        yield served


async def ask(trial: Trial, service: str, payload: Any, *, id: str = "", dossier: str = "") -> Tried:
    body = orjson.dumps(payload)
    tried = await trial.ask(f"{service}/v1", body, id=id, officer="canbo-0017", dossier=dossier, deadline_s=20.0)
    assert tried.faults == ()
    return tried


_unused = iter([each for each in LICENCES if each.status in ("01", "02")][100:])


def renewal(licence: Licence, **changed: Any) -> dict[str, Any]:
    """A renewal of `licence` with a health certificate of last month."""
    certificate = CAR["giayKhamSucKhoe"] | {"ngayCap": str(datetime.now(UTC).date() - timedelta(days=30))}
    holder = {"soDinhDanh": licence.holder.id, "ngaySinh": str(licence.holder.born), "soGPLX": licence.number}
    return {**CAR, "giayKhamSucKhoe": certificate, **holder, **changed}


def of_class(code: str) -> Licence:
    """A licence of that class that no test has used yet."""
    return next(each for each in _unused if each.classes[0].code == code)


def test_there_are_more_than_ten_thousand_and_they_are_always_the_same() -> None:
    assert len(LICENCES) == 10_731
    digest = hashlib.sha256(orjson.dumps([record(licence) for licence in LICENCES])).hexdigest()
    assert digest == "9a021cabebc838a9a59776563ed98b6da5bafcf0dda753c99cc3cb561a1babd2"


def test_they_are_nobodys_and_hold_together() -> None:
    for licence in LICENCES:
        assert licence.number.startswith("99"), "no province has this code"
        assert licence.holder.id[0] == "9"
        police = licence.authority[0].startswith("CSGT-")
        assert police == (licence.issued >= POLICE_SINCE), "who issues changed on 1 March 2025"
        for each in licence.classes:
            assert each.passed.year - licence.holder.born.year >= 18
            assert each.until is None or each.until > each.passed
    assert {each.status for each in LICENCES} == {"01", "02", "03", "04"}


def test_the_registry_knows_who_kept_them_before() -> None:
    found, _ = read_declarations(PROJECT / "ngsp" / "demo" / "registry")
    members = {each.name: each.document for each in found if isinstance(each.document, DeclaredMember)}
    assert members["G04"].valid_to == members["G01.08"].valid_from == POLICE_SINCE
    assert members["G01.08"].valid_to is None


@pytest.mark.parametrize(
    ("day", "due"),
    [
        (date(2025, 8, 12), date(2025, 8, 19)),  # Tuesday
        (date(2025, 8, 15), date(2025, 8, 22)),  # Friday
        (date(2025, 8, 16), date(2025, 8, 22)),  # Saturday
        (date(2025, 8, 29), date(2025, 9, 8)),  # over National Day, a Tuesday
    ],
)
def test_five_working_days(day: date, due: date) -> None:
    assert working_days_after(day, 5) == due


@pytest.mark.parametrize("name", ["1-by-its-number", "2-by-the-holder"])
async def test_examples_are_what_the_adapter_answers(trial: Trial, name: str) -> None:
    shown = example("driving-licence-lookup", name)
    assert (await ask(trial, "driving-licence-lookup", shown["request"])).payload == shown["reply"]


@pytest.mark.parametrize("field", ["soGPLX", "ngaySinh"])
async def test_what_does_not_fit_is_not_found(trial: Trial, field: str) -> None:
    request = example("driving-licence-lookup", "1-by-its-number")["request"]
    other = {"soGPLX": "999999999999", "ngaySinh": "1990-01-01"}[field]
    reply = (await ask(trial, "driving-licence-lookup", request | {field: other})).reply
    assert (reply.status, reply.code) == ("not-found", "KHONG-CO-GIAY-PHEP")


async def test_every_kind_of_licence_becomes_a_reply_of_the_schema(trial: Trial) -> None:
    for licence in LICENCES[::250]:
        request = {"maCanBo": "canbo-0017", "soGPLX": licence.number, "ngaySinh": str(licence.holder.born)}
        (found,) = (await ask(trial, "driving-licence-lookup", request)).payload["giayPhep"]
        assert (found["soGPLX"], found["hoTen"]) == (licence.number, licence.holder.name.full)


async def test_a_renewal_is_taken_in_once_and_due_after_five_working_days(trial: Trial) -> None:
    licence, id = of_class("B2"), uuid7()
    request = renewal(licence)
    first = await ask(trial, "driving-licence-renewal", request, id=id, dossier="000.00.00.G01-250812-0001")
    again = await asyncio.gather(*(ask(trial, "driving-licence-renewal", request, id=id) for _ in range(4)))
    assert first.reply.status == "ok"
    # The dossier is part of what is asked: without it, it is another request under the same code.
    assert {(tried.reply.status, tried.reply.code) for tried in again} == {("refused", "TRUNG-MA-YEU-CAU")}
    same = await ask(trial, "driving-licence-renewal", request, id=id, dossier="000.00.00.G01-250812-0001")
    assert same.reply.body == first.reply.body
    received = date.fromisoformat(first.payload["ngayTiepNhan"])
    assert first.payload["ngayHenTra"] == str(working_days_after(received, 5))
    assert first.payload["hangDuocCap"] == renewed_classes(licence) == ["B"]
    other = (await ask(trial, "driving-licence-renewal", request)).reply
    assert (other.status, other.code) == ("refused", "DANG-CO-HO-SO")


@pytest.mark.parametrize(
    ("code", "status"), [("A1", "ok"), ("A2", "ok"), ("B1", "refused"), ("B2", "refused"), ("C", "refused")]
)
async def test_who_needs_no_health_certificate(trial: Trial, code: str, status: str) -> None:
    """A1, A and B1 need none; the B1 of before 2025 is a car's class, which is B now."""
    request = renewal(of_class(code))
    del request["giayKhamSucKhoe"]
    reply = (await ask(trial, "driving-licence-renewal", request)).reply
    assert (reply.status, reply.code) == (status, "" if status == "ok" else "THIEU-GIAY-KHAM-SUC-KHOE")


@pytest.mark.parametrize("days_old", [368, -2])
async def test_a_health_certificate_that_does_not_count(trial: Trial, days_old: int) -> None:
    issued = datetime.now(UTC).date() - timedelta(days=days_old)
    certificate = CAR["giayKhamSucKhoe"] | {"ngayCap": str(issued)}
    reply = (await ask(trial, "driving-licence-renewal", renewal(of_class("B2"), giayKhamSucKhoe=certificate))).reply
    assert (reply.status, reply.code) == ("refused", "GIAY-KHAM-SUC-KHOE-HET-HAN")


@pytest.mark.parametrize("status", ["03", "04"])
async def test_a_licence_that_was_taken_away_is_not_renewed(trial: Trial, status: str) -> None:
    taken = next(each for each in LICENCES if each.status == status)
    reply = (await ask(trial, "driving-licence-renewal", renewal(taken))).reply
    assert (reply.status, reply.code) == ("refused", "BI-TUOC-HOAC-THU-HOI")


async def test_somebody_elses_licence_is_not_found(trial: Trial) -> None:
    request = renewal(of_class("B2"), soDinhDanh="940093023023")
    reply = (await ask(trial, "driving-licence-renewal", request)).reply
    assert (reply.status, reply.code) == ("not-found", "KHONG-CO-GIAY-PHEP")


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [("busy", "retry", "DANG-BAN"), ("error", "failed", "LOI-HE-THONG"), ("html", "failed", "backend-not-xml")],
)
async def test_misbehaviour_is_told_apart(
    trial: Trial, licence_system: StandIn, kind: str, status: str, code: str
) -> None:
    request = example("driving-licence-lookup", "1-by-its-number")["request"]
    await licence_system.switch(kind)
    reply = (await ask(trial, "driving-licence-lookup", request)).reply
    await licence_system.switch("none")
    assert (reply.status, reply.code) == (status, code)
    assert (await ask(trial, "driving-licence-lookup", request)).reply.status == "ok"


def test_the_contract_holds_with_the_system_itself(
    licence_system: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in licence_system.variables(PREFIX).items():
        monkeypatch.setenv(name, value)
    findings = try_contract(Adapter.load(FOLDER / "manifest.yaml"), FOLDER, Effort(live=True, cases=15))
    assert [finding for finding in findings if finding.faults] == []
    assert {finding.service for finding in findings} == {"driving-licence-lookup/v1", "driving-licence-renewal/v1"}
