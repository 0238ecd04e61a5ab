"""The population adapter's other services, and its system misbehaving in every way it knows."""

from __future__ import annotations

import asyncio
import resource
import time
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.g01_population.citizens import population
from ngsp.adapter import Adapter
from ngsp.adapter.contract import Effort, try_contract
from ngsp.adapter.trial import Trial, Tried, on_trial
from ngsp.messages import uuid7
from tests.adapters.door import example
from tests.adapters.stand_in import PROJECT, StandIn

FOLDER = PROJECT / "adapters" / "g01_population"
PREFIX = "NGSP_G01_POPULATION"
OFFICER = "canbo-0017"
LOOK_UP = example("population-lookup", "1-head-of-household")
ISSUE = example("identity-number-issue", "1-both-parents")["request"]
RESIDENCE = example("residence-registration", "1-permanent")["request"]


@pytest.fixture(scope="module")
async def trial(tmp_path_factory: pytest.TempPathFactory, population_system: StandIn) -> AsyncIterator[Trial]:
    adapter = Adapter.load(FOLDER / "manifest.yaml")
    folder = tmp_path_factory.mktemp("population")
    async with on_trial(adapter, folder, population_system.environment(PREFIX)) as served:
        yield served


@pytest.fixture
async def system(trial: Trial, population_system: StandIn) -> AsyncIterator[StandIn]:
    """Well again after each test; a good answer forgets the failures that the breaker has counted."""
    yield population_system
    await population_system.switch("none")
    assert (await ask(trial, "population-lookup", LOOK_UP["request"])).reply.status == "ok"


async def ask(
    trial: Trial, service: str, payload: Any, *, id: str = "", officer: str = OFFICER, deadline_s: float = 20.0
) -> Tried:
    body = orjson.dumps(payload)
    tried = await trial.ask(f"{service}/v1", body, id=id, officer=officer, deadline_s=deadline_s)
    assert tried.faults == ()
    return tried


_numbers = iter(range(100, 100_000))


def birth(**changed: Any) -> dict[str, Any]:
    """A birth that nobody has registered yet."""
    return {**ISSUE, "soDangKy": f"{next(_numbers)}/2025", **changed}


@pytest.mark.parametrize("name", ["1-it-fits", "2-another-name", "3-no-such-number"])
async def test_verification_answers_yes_or_no(trial: Trial, name: str) -> None:
    shown = example("population-verification", name)
    assert (await ask(trial, "population-verification", shown["request"])).payload == shown["reply"]


async def test_a_number_is_issued_once_however_often_it_is_asked_for(trial: Trial) -> None:
    request, id = birth(), uuid7()
    first = await ask(trial, "identity-number-issue", request, id=id)
    again = await asyncio.gather(*(ask(trial, "identity-number-issue", request, id=id) for _ in range(5)))
    assert {tried.reply.body for tried in again} == {first.reply.body}
    number = first.payload["SoDinhDanh"]
    assert (number[:6], int(number[6:]) >= 750_000) == ("940225", True)
    other = await ask(trial, "identity-number-issue", request)
    assert (other.reply.status, other.reply.code) == ("refused", "DA-CAP-SO")


async def test_the_same_code_for_another_child_is_refused(trial: Trial) -> None:
    request, id = birth(), uuid7()
    assert (await ask(trial, "identity-number-issue", request, id=id)).reply.status == "ok"
    other = await ask(trial, "identity-number-issue", birth(), id=id)
    assert (other.reply.status, other.reply.code) == ("refused", "TRUNG-MA-YEU-CAU")


async def test_an_answer_that_was_lost_is_given_again(trial: Trial, system: StandIn) -> None:
    """The system did it and hung up: the submission comes again and gets the number that was issued then."""
    request, id = birth(), uuid7()
    await system.switch("cut")
    lost = await ask(trial, "identity-number-issue", request, id=id)
    assert (lost.reply.status, lost.reply.code) == ("retry", "backend-cut-off")
    await system.switch("none")
    found = await ask(trial, "identity-number-issue", request, id=id)
    following = await ask(trial, "identity-number-issue", birth())
    assert int(following.payload["SoDinhDanh"]) == int(found.payload["SoDinhDanh"]) + 1, "one number, not two"


async def test_an_issued_child_is_a_citizen_with_parents(trial: Trial) -> None:
    request = birth(nks=ISSUE["nks"] | {"HoTen": "Hồ Thị Ngọc Ánh", "GioiTinh": 2, "MaDanToc": "24"})
    number = (await ask(trial, "identity-number-issue", request)).payload["SoDinhDanh"]
    asked = LOOK_UP["request"] | {"SoDinhDanh": number, "HoVaTen": "hồ thị ngọc ánh", "NgaySinh": "2025-08-01"}
    found = (await ask(trial, "population-lookup", asked)).payload
    assert found["HoVaTen"] == {"Ho": "Hồ", "ChuDem": "Thị Ngọc", "Ten": "Ánh"}
    assert (found["Cha"]["SoDinhDanh"], found["Me"]["SoDinhDanh"]) == (ISSUE["cha"], ISSUE["me"])
    assert (found["DanToc"], found["ChuHo"]["QuanHe"]) == ("Thổ", "Con")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"me": "999000000000"}, "KHONG-CO-CHA-ME"),
        ({"noiDangKy": "00000"}, "SAI-DU-LIEU"),
        ({"ngayDangKy": "2025-07-31"}, "SAI-DU-LIEU"),
        ({"MaCanBo": "canbo-0018"}, "SAI-CAN-BO"),
    ],
)
async def test_what_the_database_refuses(trial: Trial, changed: dict[str, Any], code: str) -> None:
    reply = (await ask(trial, "identity-number-issue", birth(**changed))).reply
    assert (reply.status, reply.code) == ("refused", code)


async def test_a_registered_residence_is_where_the_citizen_lives(trial: Trial) -> None:
    id = uuid7()
    first = await ask(trial, "residence-registration", RESIDENCE, id=id)
    again = await ask(trial, "residence-registration", RESIDENCE, id=id)
    assert first.reply.body == again.reply.body
    assert first.payload["NoiCuTru"] == example("residence-registration", "1-permanent")["reply"]["NoiCuTru"]
    asked = {name: RESIDENCE[name] for name in ("HoVaTen", "SoDinhDanh", "NgaySinh")}
    found = (await ask(trial, "population-lookup", LOOK_UP["request"] | asked)).payload
    assert (found["ThuongTru"]["MaXa"], found["ThuongTru"]["ChiTiet"]) == (RESIDENCE["MaXa"], RESIDENCE["ChiTiet"])


async def test_residence_of_nobody_and_with_nobody(trial: Trial) -> None:
    nobody = (await ask(trial, "residence-registration", RESIDENCE | {"SoDinhDanh": "999000000000"})).reply
    assert (nobody.status, nobody.code) == ("not-found", "KHONG-CO-CONG-DAN")
    homeless = (await ask(trial, "residence-registration", RESIDENCE | {"ChuHo": "999000000000"})).reply
    assert (homeless.status, homeless.code) == ("refused", "KHONG-CO-CHU-HO")


@pytest.mark.parametrize(
    "text", ["Số 1 ]]> đường <b>Lê Lợi</b>", "Số 2 \"'&amp;; --", "Số 3 <!DOCTYPE a>", "Số 4 ệ 𠮷"]
)
async def test_quotes_and_markup_stay_what_they_are(trial: Trial, text: str) -> None:
    tried = await ask(trial, "residence-registration", RESIDENCE | {"ChiTiet": text})
    assert tried.payload["NoiCuTru"]["ChiTiet"] == text


MISBEHAVIOUR = [
    ("overloaded", "retry", "backend-status-503"),
    ("busy", "retry", "DANG-BAN"),
    ("clock", "retry", "backend-fault-FailedAuthentication"),
    ("down", "retry", "backend-down"),
    ("cut", "retry", "backend-cut-off"),
    ("error", "failed", "LOI-HE-THONG"),
    ("html", "failed", "backend-not-xml"),
    ("html-as-xml", "failed", "backend-not-xml"),
    ("text", "failed", "backend-not-xml"),
    ("empty", "failed", "backend-not-xml"),
    ("redirect", "failed", "backend-status-302"),
    ("huge", "failed", "backend-too-large"),
    ("truncated", "failed", "backend-not-xml"),
    ("gzip", "failed", "backend-encoded"),
    ("not-utf-8", "failed", "backend-not-xml"),
    ("charset-conflict", "failed", "backend-charset"),
    ("unknown-charset", "failed", "backend-charset"),
    ("dtd", "failed", "backend-xml-dtd"),
    ("bomb", "failed", "backend-not-xml"),
    ("external", "failed", "backend-xml-dtd"),
    ("deep", "failed", "backend-not-xml"),
    ("soap-1.2", "failed", "backend-not-soap"),
    ("no-envelope", "failed", "backend-not-soap"),
    ("no-body", "failed", "backend-off-wsdl"),
    ("missing-field", "failed", "backend-off-wsdl"),
    ("other", "failed", "other-record"),
]


@pytest.mark.parametrize(("kind", "status", "code"), MISBEHAVIOUR, ids=[kind for kind, _, _ in MISBEHAVIOUR])
async def test_each_fault_has_its_class(trial: Trial, system: StandIn, kind: str, status: str, code: str) -> None:
    await system.switch(kind)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    reply = (await ask(trial, "population-lookup", LOOK_UP["request"])).reply
    assert (reply.status, reply.code, reply.body) == (status, code, b"")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 50_000


async def test_an_answer_in_another_coding_is_read(trial: Trial, system: StandIn) -> None:
    await system.switch("utf-16")
    assert (await ask(trial, "population-lookup", LOOK_UP["request"])).payload == LOOK_UP["reply"]


@pytest.mark.parametrize("kind", ["hang", "trickle"])
async def test_nobody_waits_longer_than_the_request_has(trial: Trial, system: StandIn, kind: str) -> None:
    await system.switch(kind)
    started = time.monotonic()
    reply = (await ask(trial, "population-lookup", LOOK_UP["request"], deadline_s=1.4)).reply
    assert (reply.status, reply.code) == ("retry", "backend-timeout")
    assert 1.0 < time.monotonic() - started < 4.0


async def test_many_at_once_each_get_their_own(trial: Trial) -> None:
    citizens = list(population().values())[:1200:40]
    asked = [{"HoVaTen": each.name.full, "SoDinhDanh": each.id, "NgaySinh": each.born.isoformat()} for each in citizens]
    found = await asyncio.gather(*(ask(trial, "population-lookup", LOOK_UP["request"] | each) for each in asked))
    for tried, citizen in zip(found, citizens, strict=True):
        assert tried.payload["SoDinhDanh"] == citizen.id
        name = tried.payload["HoVaTen"]
        spelt = " ".join(filter(None, (name["Ho"], name["ChuDem"], name["Ten"])))
        assert unicodedata.normalize("NFC", spelt) == citizen.name.full


def test_the_contract_holds_with_the_system_itself(
    population_system: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in population_system.variables(PREFIX).items():
        monkeypatch.setenv(name, value)
    findings = try_contract(Adapter.load(FOLDER / "manifest.yaml"), FOLDER, Effort(live=True, cases=15))
    assert [finding for finding in findings if finding.faults] == []
    assert {finding.service for finding in findings} == {
        *("population-lookup/v1", "population-verification/v1"),
        *("identity-number-issue/v1", "residence-registration/v1"),
    }
