"""Administrative procedures: the version of a day, replies kept while they hold, changes by number."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from adapters.g22_procedures.procedure_server.catalogue import HOLDS_S, Catalogue
from adapters.g22_procedures.procedure_server.procedures import procedures
from adapters.rest_server.server import Asked
from ngsp.adapter import Adapter, Found, Refused, Unavailable
from ngsp.adapter.event_types import EventTypes
from ngsp.adapter.events import Changes
from tests.adapters.door import Door, door_to, example
from tests.adapters.stand_in import StandIn, inside

MANIFEST = Path(__file__).parents[2] / "adapters" / "g22_procedures" / "manifest.yaml"
LOOK_UP, CHANGES = "procedures", "procedure-changes"


@pytest.fixture
async def doors(procedure_system: StandIn, tmp_path: Path) -> AsyncIterator[dict[str, Door]]:
    await procedure_system.switch("none")
    environment = procedure_system.environment("NGSP_G22_PROCEDURES")
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                door_to(Adapter.load(MANIFEST), tmp_path / name, environment, service=name)
            )
            for name in (LOOK_UP, CHANGES)
        }
    await procedure_system.switch("none")


@cache
def catalogue() -> Catalogue:
    return Catalogue()


def abolished() -> str:
    return next(code for code, versions in catalogue().procedures.items() if versions[-1].until)


def test_there_are_more_than_ten_thousand_versions_the_same_each_time() -> None:
    found = catalogue().procedures
    assert sum(map(len, found.values())) > 10_000
    assert found == procedures()
    for versions in found.values():
        assert [each.number for each in versions] == list(range(1, len(versions) + 1))
        assert all(one.until == other.since - timedelta(days=1) for one, other in pairwise(versions))


@pytest.mark.parametrize(
    ("service", "name"),
    [
        (LOOK_UP, "1-interlinked-birth"),
        (LOOK_UP, "2-with-organ"),
        (LOOK_UP, "3-older-version"),
        (CHANGES, "1-from-the-beginning"),
        (CHANGES, "2-nothing-new"),
    ],
)
async def test_examples_hold(doors: dict[str, Door], service: str, name: str) -> None:
    shown = example(service, name)
    assert await doors[service].answer(shown["request"]) == shown["reply"]


async def test_the_version_of_each_day(doors: dict[str, Door]) -> None:
    for code in list(catalogue().procedures)[::900]:
        for version in catalogue().procedures[code]:
            for day in {version.since, version.until or version.since}:
                found = await doors[LOOK_UP].answer({"maThuTuc": code, "ngay": day.isoformat()})
                assert (found["phienBan"], found["thoiHanNgayLamViec"]) == (version.number, version.days)


async def test_today_is_meant_where_no_day_is_asked_for(doors: dict[str, Door]) -> None:
    found = await doors[LOOK_UP].answer({"maThuTuc": "1.001193"})
    assert found["phienBan"] == found["cacPhienBan"][-1]["phienBan"], "the last one is in force for years"


async def test_an_organ_is_no_slower_than_the_procedure_asks(doors: dict[str, Door]) -> None:
    for code in list(catalogue().procedures)[::900]:
        since = catalogue().procedures[code][-1].since.isoformat()
        whole = await doors[LOOK_UP].answer({"maThuTuc": code, "ngay": since})
        organ = await doors[LOOK_UP].answer({"maThuTuc": f"{code}.000.00.00.H37", "ngay": since})
        assert (whole["coQuan"], organ["coQuan"]) == (None, "H37")
        assert 1 <= organ["thoiHanNgayLamViec"] <= whole["thoiHanNgayLamViec"]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"maThuTuc": "1.000000"}, "KHONG-CO-THU-TUC"),
        ({"maThuTuc": "1.001193", "ngay": "2010-01-01"}, "KHONG-CO-HIEU-LUC"),
        ({"maThuTuc": abolished(), "ngay": "2099-01-01"}, "KHONG-CO-HIEU-LUC"),
    ],
)
async def test_nothing_there_is_a_no(doors: dict[str, Door], asked: dict[str, str], code: str) -> None:
    reply = await doors[LOOK_UP].ask(asked)
    assert (reply.status, reply.code) == ("not-found", code)


async def test_a_reply_that_holds_is_given_again_without_asking(
    doors: dict[str, Door], procedure_system: StandIn
) -> None:
    asked = {"maThuTuc": "1.003583", "ngay": "2025-08-12"}
    first = await doors[LOOK_UP].answer(asked)
    before = (await procedure_system.state())["requests"]
    await procedure_system.switch("down")
    assert await doors[LOOK_UP].answer(asked) == first
    await procedure_system.switch("none")
    assert (await procedure_system.state())["requests"] == before
    await doors[LOOK_UP].answer(asked | {"ngay": "2025-08-13"})
    assert (await procedure_system.state())["requests"] == before + 1


def test_an_answer_is_to_be_kept_until_its_version_ends_and_no_longer() -> None:
    code = abolished()
    until = catalogue().procedures[code][-1].until
    assert until is not None
    midnight = datetime(until.year, until.month, until.day, 17, tzinfo=UTC)  # in Việt Nam, at the end of that day
    moments = iter([midnight - timedelta(seconds=60), midnight - timedelta(seconds=HOLDS_S + 1)])
    at_night = Catalogue(lambda: next(moments))
    for holds_s in (60, HOLDS_S):
        status, document = at_night.answer(Asked("GET", f"/thuTuc/{code}", {}, {}, b""))
        assert isinstance(document, dict)
        assert (status, document["luuTamGiay"]) == (200, holds_s)


async def pages(door: Door, after: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    more = True
    while more:
        page = await door.answer({"sau": after, "toiDa": 500})
        found += page["thayDoi"]
        assert page["cuoi"] == after + len(page["thayDoi"])
        after, more = page["cuoi"], page["conNua"]
    return found


async def test_following_the_numbers_gives_every_change_once(doors: dict[str, Door]) -> None:
    found = await pages(doors[CHANGES], 0)
    assert [each["so"] for each in found] == list(range(1, len(found) + 1))
    assert [each["ngayCongBo"] for each in found] == sorted(each["ngayCongBo"] for each in found)
    kinds = Counter(each["loai"] for each in found)
    versions = catalogue().procedures.values()
    assert kinds["BAN_HANH"] == len(versions)
    assert kinds["BAN_HANH"] + kinds["SUA_DOI"] == sum(map(len, versions))
    assert kinds["BAI_BO"] == sum(1 for each in versions if each[-1].until)
    assert await pages(doors[CHANGES], len(found) - 3) == found[-3:]


async def test_a_number_of_another_catalogue_is_refused(doors: dict[str, Door]) -> None:
    reply = await doors[CHANGES].ask({"sau": 999_999_999})
    assert (reply.status, reply.code) == ("refused", "SO-CHUA-CO")


# Events

EVENTS = "G22/procedure-events/v1"
OWN = "2.001583"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return tmp_path / "secret"


@asynccontextmanager
async def following(system: StandIn) -> AsyncIterator[Changes]:
    """The source of the adapter, beside a stand-in of the test's own."""
    adapter = Adapter.load(MANIFEST)
    async with adapter.open_resources(system.environment("NGSP_G22_PROCEDURES")):
        yield adapter.sources[EVENTS].over(None)


@asynccontextmanager
async def own_system(secret: Path) -> AsyncIterator[StandIn]:
    async with StandIn("adapters.g22_procedures.procedure_server", "--secret-file", str(secret)) as process:
        yield process


async def amend(system: StandIn, decision: str, code: str = OWN) -> dict[str, Any]:
    async with inside(system) as client:
        answer = await client.post(f"/thuTuc/{code}/phienBan", json={"quyetDinh": decision})
        found: dict[str, Any] = answer.json() | {"status": answer.status_code}
        return found


def documents(found: Found) -> list[dict[str, Any]]:
    return [event.to_publish("/G22/g22-procedures").document() for event in found.events]


async def test_an_amendment_becomes_an_event_and_what_was_there_before_does_not(secret: Path) -> None:
    filled_with = len(catalogue().events)
    versions = catalogue().procedures[OWN]
    async with own_system(secret) as system, following(system) as changes:
        assert await changes(None) == Found([], str(filled_with))
        amended = [await amend(system, f"{number}/QĐ-VPCP") for number in (1, 2)]
        assert [(each["status"], each["so"], each["phienBan"]) for each in amended] == [
            (201, filled_with + number, len(versions) + number) for number in (1, 2)
        ]
        for cursor in (None, str(filled_with)):
            found = await changes(cursor)
            assert (found.cursor, found.more) == (str(filled_with + 2), False)
            first, second = documents(found)
            assert (first["id"], first["type"]) == (f"{filled_with + 1}-1/QĐ-VPCP", "vn.gov.vpcp.procedure.amended")
            assert (first["subject"], first["data"]["quyetDinh"]) == (OWN, "1/QĐ-VPCP")
            assert first["data"]["hieuLucTu"] < second["data"]["hieuLucTu"]
            types = EventTypes(Adapter.load(MANIFEST).published()[EVENTS].schemas)
            assert [types.faults(event) for event in (first, second)] == [(), ()]
        async with door_to(
            Adapter.load(MANIFEST), secret.parent / "door", system.environment("NGSP_G22_PROCEDURES"), service=LOOK_UP
        ) as door:
            shown = await door.answer({"maThuTuc": OWN, "ngay": second["data"]["hieuLucTu"]})
            assert shown["cacPhienBan"][-1]["quyetDinh"] == "2/QĐ-VPCP"
            assert [each["phienBan"] for each in shown["cacPhienBan"]] == list(range(1, len(versions) + 3))


async def test_the_system_keeps_its_amendments_over_a_restart(secret: Path) -> None:
    async with own_system(secret) as system:
        await amend(system, "7/QĐ-VPCP")
        async with following(system) as changes:
            before = await changes(None)
    async with own_system(secret) as system, following(system) as changes:
        assert await changes(None) == before
        assert await changes(before.cursor) == Found([], before.cursor)


async def test_every_change_there_ever_was_fits_its_schema(secret: Path) -> None:
    types = EventTypes(Adapter.load(MANIFEST).published()[EVENTS].schemas)
    kinds: Counter[str] = Counter()
    async with own_system(secret) as system, following(system) as changes:
        cursor: str | None = "0"
        while True:
            found = await changes(cursor)
            for event in documents(found):
                assert types.faults(event) == ()
                kinds[event["type"].rpartition(".")[2]] += 1
            cursor = found.cursor
            if not found.more:
                break
    assert kinds.keys() == {"issued", "amended", "abolished"}
    assert kinds.total() == len(catalogue().events)


async def test_a_source_that_is_refused_or_left_alone(secret: Path) -> None:
    async with own_system(secret) as system, following(system) as changes:
        with pytest.raises(Refused):
            await changes("999999")
        await system.switch("overloaded")
        with pytest.raises(Unavailable):
            await changes(None)
        assert (await amend(system, "1/QĐ-VPCP"))["status"] == 503


async def test_what_cannot_be_amended_is_not(secret: Path) -> None:
    async with own_system(secret) as system:
        told = [await amend(system, "1/QĐ-VPCP", code) for code in ("1.000000", abolished())]
        assert [(each["status"], each["maLoi"]) for each in told] == [(404, "KHONG_CO_THU_TUC"), (409, "DA_BAI_BO")]
    assert not secret.with_suffix(".jsonl").exists()


BOTH = (LOOK_UP, CHANGES)
FAULTS = [
    ("error", "failed", "backend-status-500"),
    ("overloaded", "retry", "backend-status-503"),
    ("html", "failed", "backend-not-json"),
    ("broken", "failed", "backend-not-json"),
    ("down", "retry", "backend-down"),
]


@pytest.mark.parametrize(
    ("service", "fault", "status", "code"),
    [(LOOK_UP, "other", "failed", "other-procedure"), *((each, *fault) for each in BOTH for fault in FAULTS)],
)
async def test_misbehaviour_is_told_apart(
    doors: dict[str, Door], procedure_system: StandIn, service: str, fault: str, status: str, code: str
) -> None:
    await procedure_system.switch(fault)
    reply = await doors[service].ask({"maThuTuc": "1.004222"} if service == LOOK_UP else {"sau": 0})
    assert (reply.status, reply.code) == (status, code)
