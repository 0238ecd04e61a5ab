"""One gateway with compatible routes for all tests of the folder, and an old client's hands on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from ngsp.local.postgres import LocalPostgres
from tests.compatible.old_clients import NationalClient
from tests.support.gateway import Provider, Rig, agreement, running_gateway, service

LOOK_UP = "/apiCSDLThu/1.0/traCuu"
WHOLE = "/apiCSDLThu/1.0/toanBo"
OFFICER = "/apiCSDLThu/1.0/canBo"
SEND = "/apiCSDLThu/1.0/guiHoSo"
PLACES = "/apiCSDLThu/1.0/hoSo/{so}/chiTiet"
TWICE = "/apiCSDLThu/1.0/haiThoaThuan"
STRANGE = "/apiCSDLThu/1.0/khongDuoc"
ENDED = "/apiCSDLThu/1.0/hetHieuLuc"
ECHO = "/apiCSDLThu/1.0/nhacLai"
CODED = "/apiCSDLThu/1.0/theoMa"


def route(id: str, path: str, name: str, **others: Any) -> dict[str, Any]:
    """A compatible route to H41's service `name`, as it is declared."""
    title = {"vi": f"Tuyến {id}", "en": f"Route {id}"}
    declared = {"kind": "compatible-route", "id": id, "title": title, "path": path, "service": f"H41/{name}/v1"}
    return declared | {"methods": ["POST"], "purpose": "testing"} | others


ROUTES = [
    route(
        "look-up",
        LOOK_UP,
        "look-up",
        methods=["GET"],
        query=["so", "viec"],
        request={"id": "query.so", "do": "query.viec || 'it'"},
        reply={
            "MainInformation": {"SO": "body.id", "TEN": "join('; ', body.people[].name || `[]`)"},
            "DataCount": "length(body.people || `[]`)",
            "Status": "'1'",
            "Message": "'success'",
        },
        error={"Status": "'0'", "Message": "title", "Code": "code", "MaGiaoDich": "id"},
    ),
    route("whole", WHOLE, "whole"),
    route(
        "officer",
        OFFICER,
        "officer",
        headers=["x-muc-dich"],
        purpose=None,
        purpose_from='headers."x-muc-dich"',
        officer="body.maCanBo",
        dossier="body.maHoSo",
        procedure="body.maTTHC",
        request={"do": "body.viec", "n": "to_number(body.soLuong)"},
    ),
    route(
        "send",
        SEND,
        "send",
        key="body.maYeuCau",
        request={"do": "body.viec"},
        accepted={"Status": "'1'", "MaGiaoDich": "id", "TheoDoi": "location"},
        reply={"Status": "'1'", "KetQua": "body.did"},
    ),
    route("places", PLACES, "look-up", methods=["GET"], request={"id": "path.so"}),
    route("twice", TWICE, "twice", agreements=["G22/second"], request={"do": "'it'"}),
    route("strange", STRANGE, "nobody", methods=["GET"], request={"do": "'it'"}),
    route("ended", ENDED, "ended"),
    route("echo", ECHO, "whole", reply={"DaNhan": "payload.do", "KetQua": "body.did"}),
    route(
        "coded",
        CODED,
        "look-up",
        methods=["GET"],
        query=["ma"],
        request={"do": "lookup('viec', query.ma)"},
        tables={"viec": {"1": "it"}},
    ),
    route("closed", "/apiCSDLThu/1.0/dong", "whole", active=False),
]


def provider() -> Provider:
    found = Provider()
    found.services += [service("twice"), service("nobody"), service("ended")]
    found.documents = [agreement("twice", "second"), *ROUTES]
    found.terms["nobody"] = {"consumer": "H14"}
    return found


@pytest.fixture(scope="session")
async def shared_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway(postgres, folder, provider(), trusted_proxies="127.0.0.1", max_log_wait_s=10) as found:
        yield found


@pytest.fixture
async def rig(shared_rig: Rig) -> AsyncIterator[Rig]:
    shared_rig.provider.seen.clear()
    yield shared_rig
    shared_rig.provider.act = Provider.act.__get__(shared_rig.provider)  # type: ignore[method-assign]


@pytest.fixture
def national(rig: Rig) -> NationalClient:
    return NationalClient(rig.http, "caller", rig.secrets["caller"])
