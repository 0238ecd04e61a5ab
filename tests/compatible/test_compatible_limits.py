"""Limits and failures behind an old address: the statuses of everywhere else, in the old shape."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ngsp.adapter import Failed, Interrupted, Refused, Request, Unavailable
from ngsp.local.postgres import LocalPostgres
from tests.compatible.conftest import route
from tests.compatible.old_clients import NationalClient, partner_header
from tests.support.gateway import Provider, Rig, running_gateway, service
from tests.support.waiting import until

ERROR = {"StatusCode": "status", "Description": "title", "Code": "code", "MaGiaoDich": "id", "MaLoi": "provider_code"}
ALONE = 3
"""What one client may have of the gateway's room while nobody else is about."""


def old(name: str, **others: Any) -> dict[str, Any]:
    return route(name, f"/gioiHan/{name}", name, error=ERROR, **others)


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    names = ("plain", "metered", "dated")
    provider = Provider(
        services=[*(service(name) for name in names), service("slow", deadline_s=0.4), service("long", deadline_s=30)],
        terms={"metered": {"quota_per_day": 3}},
        documents=[
            old("plain"),
            old("metered"),
            old("slow"),
            old("long"),
            old("dated", reply={"NGAY": "iso_date(body.did, 'dd/MM/yyyy')"}),
        ],
    )
    folder = tmp_path_factory.mktemp("gateway")
    settings: dict[str, Any] = {"max_in_flight": ALONE + 1, "max_client_share": 0.5, "max_log_wait_s": 10}
    async with running_gateway(postgres, folder, provider, **settings) as found:
        yield found


@pytest.fixture
async def rig(module_rig: Rig) -> AsyncIterator[Rig]:
    module_rig.provider.seen.clear()
    yield module_rig
    module_rig.provider.act = Provider.act.__get__(module_rig.provider)  # type: ignore[method-assign]


@pytest.fixture
def national(rig: Rig) -> NationalClient:
    return NationalClient(rig.http, "caller", rig.secrets["caller"])


def failed(answer: httpx.Response, status: int, code: str) -> str:
    """Checks the answer's shape; gives its transaction."""
    found = answer.json()
    assert (answer.status_code, found["StatusCode"], found["Code"]) == (status, status, code), answer.text
    assert set(found) == set(ERROR)
    assert found["Description"]
    tx = answer.headers["Ngsp-Transaction"]
    assert found["MaGiaoDich"] == tx
    assert answer.headers["Cache-Control"] == "no-store"
    if status in (429, 503):
        assert int(answer.headers["Retry-After"]) >= 1
    return tx


async def test_the_quota_is_the_agreement_s(rig: Rig, national: NationalClient) -> None:
    assert (await rig.call("metered")).status_code == 200, "spent at the other door"
    answers = [await national.post("/gioiHan/metered", {"do": "it"}) for _ in range(3)]
    assert [answer.json().get("Code", "") for answer in answers] == ["", "", "quota-exhausted"]
    tx = failed(answers[-1], 429, "quota-exhausted")
    assert [found["outcome"]["code"] for found in await rig.entries(tx)] == ["quota-exhausted"]


@pytest.mark.parametrize(
    ("raised", "status", "code", "kind"),
    [
        (Refused("KHONG-DUOC"), 409, "provider-refused", "refused"),
        (Failed("hong"), 502, "provider-failed", "failed"),
        (Unavailable("mat-ket-noi"), 502, "provider-unavailable", "failed"),
        (Interrupted("dut"), 504, "outcome-unknown", "unknown"),
    ],
)
async def test_what_the_provider_says(
    rig: Rig, national: NationalClient, raised: Exception, status: int, code: str, kind: str
) -> None:
    async def act(request: Request) -> object:
        raise raised

    rig.provider.act = act  # type: ignore[method-assign]
    answer = await national.post("/gioiHan/plain", {"do": "it"})
    tx = failed(answer, status, code)
    assert await rig.kinds(tx) == ["accepted", kind]
    assert answer.json()["MaLoi"] == str(raised)


async def test_a_reply_off_its_schema(rig: Rig, national: NationalClient) -> None:
    async def act(request: Request) -> object:
        return {"surprise": 1}

    rig.provider.act = act  # type: ignore[method-assign]
    failed(await national.post("/gioiHan/plain", {"do": "it"}), 502, "bad-reply")


async def test_no_answer_in_time(rig: Rig, national: NationalClient) -> None:
    waiting = asyncio.Event()

    async def act(request: Request) -> object:
        await waiting.wait()
        return {"did": "late"}

    rig.provider.act = act  # type: ignore[method-assign]
    tx = failed(await national.post("/gioiHan/slow", {"do": "it"}), 504, "no-answer")
    waiting.set()
    assert (await rig.kinds(tx))[:2] == ["accepted", "unknown"]


async def test_a_reply_that_does_not_fit_the_old_shape_is_ours_to_mend(
    rig: Rig, national: NationalClient, capsys: pytest.CaptureFixture[str]
) -> None:
    """The provider did its part, and the log says so; the operator is told which route."""

    async def act(request: Request) -> object:
        return {"did": "2025-07-01 zqmarkerzq"}

    rig.provider.act = act  # type: ignore[method-assign]
    answer = await national.post("/gioiHan/dated", {"do": "it"})
    tx = failed(answer, 500, "internal")
    assert await rig.kinds(tx) == ["accepted", "succeeded"]
    said = [line for line in capsys.readouterr().err.splitlines() if "compatible.reply_has_no_shape" in line]
    assert len(said) == 1
    assert '"route":"dated"' in said[0]
    assert "zqmarkerzq" not in said[0] + answer.text

    async def fits(request: Request) -> object:
        return {"did": "01/07/2025"}

    rig.provider.act = fits  # type: ignore[method-assign]
    assert (await national.post("/gioiHan/dated", {"do": "it"})).json() == {"NGAY": "2025-07-01"}


async def test_too_many_at_once_by_either_door(rig: Rig, national: NationalClient) -> None:
    """Both doors share the gateway's room; a header proved before is counted for its client."""
    go_on = asyncio.Event()

    async def act(request: Request) -> object:
        await go_on.wait()
        return {"did": "it"}

    await national.get_token()
    headers = {"lgspaccesstoken": partner_header("caller", rig.secrets["caller"], "G22")}
    assert (await rig.http.post("/gioiHan/plain", json={"do": "it"}, headers=headers)).status_code == 200
    rig.provider.act = act  # type: ignore[method-assign]
    rig.provider.seen.clear()
    held = [asyncio.create_task(national.post("/gioiHan/long", {"do": "it"})) for _ in range(ALONE)]
    await until(lambda: len(rig.provider.seen) == ALONE, "the calls are in flight")
    for answer in (
        await national.post("/gioiHan/long", {"do": "it"}),
        await rig.http.post("/gioiHan/long", json={"do": "it"}, headers=headers),
    ):
        tx = failed(answer, 429, "too-many-requests")
        assert await rig.entries(tx) == [], "turned away at the gate"
    go_on.set()
    assert [answer.status_code for answer in await asyncio.gather(*held)] == [200] * (ALONE)


async def test_a_draining_gateway(rig: Rig, national: NationalClient) -> None:
    """The last one: this gateway takes nothing any more."""
    await national.get_token()
    await rig.door.drain()
    failed(await national.post("/gioiHan/plain", {"do": "it"}), 503, "draining")
