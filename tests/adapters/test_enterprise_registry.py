"""The stand-in registry: its data, and its interface as a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from stdnum.vn import mst
from vietnam_provinces import Province, Ward

from adapters.g12_enterprise.adapter import adapter
from adapters.g12_enterprise.registry_server.data import check_digit, enterprises
from adapters.g12_enterprise.registry_server.desk import DETAIL_PATH
from tests.adapters.stand_in import StandIn

RECORDS = enterprises()


def test_there_are_at_least_ten_thousand_and_they_are_always_the_same() -> None:
    assert len(RECORDS) == 11_995
    assert enterprises.__wrapped__() == RECORDS
    # By this figure the data of another machine, or of a later version, are known to be the same.
    assert (
        hashlib.sha256(json.dumps(RECORDS, sort_keys=True).encode()).hexdigest()
        == "b6be33edefb0bfee5895377b2273be8562dcd938eaa85a6ab2d04a7fc166635f"
    )


def test_codes_pass_the_standard_check_and_are_of_no_real_enterprise() -> None:
    branches = 0
    for code, record in RECORDS.items():
        assert mst.is_valid(code)
        assert code.startswith("9")
        if "-" in code:
            branches += 1
            assert re.fullmatch(r"[0-9]{10}-[0-9]{3}", code)
            assert record["MA_SO_CHA"] == code[:10]
            assert record["MA_SO_CHA"] in RECORDS
    assert branches > 1_000


def test_check_digit_agrees_with_the_standard() -> None:
    for number in range(912_345_000, 912_348_000):
        nine = str(number)
        assert [digit for digit in range(10) if mst.is_valid(f"{nine}{digit}")] == (
            [] if check_digit(nine) is None else [check_digit(nine)]
        )


def test_records_are_of_real_places_and_synthetic_people() -> None:
    provinces = {f"{found.code:02d}": found.name for found in Province.iter_all()}
    communes = {f"{found.code:05d}": (found.name, f"{found.province_code:02d}") for found in Ward.iter_all()}
    for record in RECORDS.values():
        address = record["DIA_CHI"]
        assert communes[address["MA_XA"]] == (address["XA"], address["MA_TINH"])
        assert provinces[address["MA_TINH"]] == address["TINH"]
        assert record["DAI_DIEN"]
        assert all(re.fullmatch(r"9[0-9]{11}", person["SO_DINH_DANH"]) for person in record["DAI_DIEN"])
        assert record["LOAI_HINH"] in adapter.manifest.tables["loai-hinh"]
        assert record["TINH_TRANG"] in adapter.manifest.tables["tinh-trang"]
        assert re.fullmatch(r"[0-3][0-9]/[01][0-9]/20[0-2][0-9]", record["NGAY_DK"])


def test_program_imports_nothing_of_the_bus() -> None:
    script = (
        "import sys, adapters.g12_enterprise.registry_server.__main__; print([m for m in sys.modules if 'ngsp' in m])"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout.strip() == "[]"


PROGRAM = "adapters.g12_enterprise.registry_server"


async def token(registry: StandIn, client: httpx.AsyncClient, secret: str = "") -> httpx.Response:
    """What the registry answers to its client's credentials, or to a wrong secret."""
    known = Path(registry.told["secret_file"]).read_text("ascii")
    return await client.post(
        "/token", data={"grant_type": "client_credentials"}, auth=(registry.told["client_id"], secret or known)
    )


async def bearer(registry: StandIn, client: httpx.AsyncClient) -> dict[str, str]:
    return {"Authorization": f"Bearer {(await token(registry, client)).json()['access_token']}"}


async def test_interface_and_switches(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    program = StandIn(PROGRAM, "--ready-file", str(ready))
    async with program as registry, httpx.AsyncClient(base_url=registry.url) as client:
        assert json.loads(ready.read_text())["url"] == registry.url
        code, record = next(iter(RECORDS.items()))
        headers = await bearer(registry, client)
        found = await client.get(DETAIL_PATH, params={"maSo": code}, headers=headers)
        assert (found.status_code, found.json()) == (200, {"KET_QUA": "OK", "DU_LIEU": record})
        assert (await client.get(DETAIL_PATH, params={"maSo": "9000000000"}, headers=headers)).status_code == 404
        assert (await client.get(DETAIL_PATH, headers=headers)).status_code == 400
        assert (await client.get("/tinhTrang")).json() == {"KET_QUA": "OK"}
        state = await registry.state()
        assert (state["requests"], state["connections"], state["tokens"]) == (4, 1, 1)
        async with httpx.AsyncClient() as operator:
            wrong = await operator.put(f"{registry.control_url}/fault", json={"kind": "flood"})
            assert wrong.status_code == 400


async def test_nothing_without_a_good_token(registry: StandIn) -> None:
    await registry.switch("none")
    async with httpx.AsyncClient(base_url=registry.url) as client:
        given = await token(registry, client)
        assert given.status_code == 200
        assert given.json() | {"access_token": ""} == {
            "access_token": "",
            "scope": "default",
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        assert (await token(registry, client, "wrong")).status_code == 401
        assert (await client.post("/token", data={"grant_type": "password"}, auth=("a", "b"))).status_code == 401
        for shown in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {given.json()['access_token']}"},
        ):
            answer = await client.get(DETAIL_PATH, params={"maSo": next(iter(RECORDS))}, headers=shown)
            assert answer.status_code == 401
        await registry.forget_tokens()
        headers = {"Authorization": f"Bearer {given.json()['access_token']}"}
        assert (await client.get(DETAIL_PATH, params={"maSo": "9000000000"}, headers=headers)).status_code == 401


def test_the_secret_is_of_its_own_and_closed_to_others(registry: StandIn, tmp_path: Path) -> None:
    file = Path(registry.told["secret_file"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(file.read_text("ascii")) >= 32


async def test_carries_many_requests_over_few_connections(registry: StandIn) -> None:
    await registry.switch("none")
    before = await registry.state()
    codes = list(RECORDS)[:400]
    limits = httpx.Limits(max_connections=8)
    async with httpx.AsyncClient(base_url=registry.url, limits=limits, timeout=20.0) as client:
        headers = await bearer(registry, client)
        calls = (client.get(DETAIL_PATH, params={"maSo": code}, headers=headers) for code in codes)
        found = await asyncio.gather(*calls)
    assert [answer.json()["DU_LIEU"]["MA_SO"] for answer in found] == codes
    after = await registry.state()
    assert after["requests"] - before["requests"] == 400
    assert after["connections"] - before["connections"] <= 8


async def test_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    async with StandIn(PROGRAM, "--secret-file", str(tmp_path / "secret")) as registry:
        assert await registry.end(signal.SIGTERM) == 0
