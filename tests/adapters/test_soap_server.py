"""The stand-ins' SOAP server: what it takes, whom it lets in, and that another client than ours gets on with it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import zeep
from lxml import etree
from zeep.exceptions import Fault
from zeep.wsse.username import UsernameToken

from adapters.soap_server.security import PROFILE, WSSE, WSU, Account, Guard
from tests.adapters.door import example
from tests.adapters.stand_in import StandIn

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
POPULATION = "adapters.g01_population.population_server"
ASKED = example("population-lookup", "1-head-of-household")


def password_of(system: StandIn) -> str:
    return Path(system.told["password_file"]).read_text("ascii")


def token(nonce: bytes = b"a nonce of sixteen", created: str = "", password: str = "secret", **changed: str) -> Any:
    """An envelope with a digest of `password`, parts of it `changed`."""
    created = created or datetime.now(UTC).isoformat()
    digest = base64.b64encode(hashlib.sha1(nonce + created.encode() + password.encode()).digest()).decode()
    parts = {"username": "ngsp", "digest": digest, "kind": "PasswordDigest"} | changed
    return etree.fromstring(
        f'<e:Envelope xmlns:e="{SOAP}" xmlns:s="{WSSE}" xmlns:u="{WSU}"><e:Header><s:Security><s:UsernameToken>'
        f"<s:Username>{parts['username']}</s:Username>"
        f'<s:Password Type="{PROFILE}#{parts["kind"]}">{parts["digest"]}</s:Password>'
        f"<s:Nonce>{base64.b64encode(nonce).decode()}</s:Nonce><u:Created>{created}</u:Created>"
        f"</s:UsernameToken></s:Security></e:Header><e:Body/></e:Envelope>"
    )


def at(minutes: float) -> str:
    return (datetime.now(UTC) + timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")


def test_a_token_is_good_once() -> None:
    guard = Guard(Account("ngsp", "secret", digest=True))
    guard.check(token())
    guard.check(token(nonce=b"another nonce of sixteen", created=at(-4)))
    with pytest.raises(Exception, match="xác thực"):
        guard.check(token())


@pytest.mark.parametrize(
    "bad",
    [
        token(password="guessed"),
        token(username="somebody"),
        token(created=at(-20)),
        token(created=at(24 * 60)),
        token(created="yesterday"),
        token(created=datetime.now(UTC).replace(tzinfo=None).isoformat()),
        token(nonce=b"short"),
        token(kind="PasswordText", digest="secret"),
        etree.fromstring(f'<e:Envelope xmlns:e="{SOAP}"><e:Body/></e:Envelope>'),
    ],
)
def test_whoever_is_not_the_account_is_not_let_in(bad: Any) -> None:
    with pytest.raises(Exception, match="xác thực"):
        Guard(Account("ngsp", "secret", digest=True)).check(bad)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "soap:Client"),
        (b"{}", "soap:Client"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "soap:Client"),
        (f'<e:Envelope xmlns:e="{SOAP}"><e:Body/></e:Envelope>'.encode(), "f:FailedAuthentication"),
    ],
)
async def test_what_is_no_request_gets_a_fault(population_system: StandIn, body: bytes, code: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(population_system.url, content=body)
    assert answer.status_code == 500
    assert etree.fromstring(answer.content).findtext(".//faultcode") == code


async def test_zeeps_own_client_gets_on_with_it(population_system: StandIn) -> None:
    """Fetches WSDL and schema from it, and asks: two implementations of the same contract."""

    def ask() -> Any:
        right = UsernameToken(
            population_system.told["username"], password_of(population_system), use_digest=True, zulu_timestamp=True
        )
        client = zeep.Client(f"{population_system.url}/?wsdl", wsse=right)
        service = client.create_service("{urn:vn:bca:csdldc:tich-hop:1}CSDLDanCuSoap", population_system.url)
        header = {"ThongTinKetNoi": {"MaYeuCau": "1", "MaTichHop": "H41", "CanBoXacThuc": "canbo-0017"}}
        request = ASKED["request"]
        body = {name: request[name] for name in ("MaDichVu", "MaCanBo", "HoVaTen", "SoDinhDanh")}
        found = service.TraCuuCongDan(**body, NgaySinh=request["NgaySinh"].replace("-", ""), _soapheaders=header)
        with pytest.raises(Fault) as wrong:
            service.TraCuuCongDan(**body, NgaySinh="19000101", _soapheaders=header)
        client.transport.session.close()
        return found, wrong.value

    found, wrong = await asyncio.to_thread(ask)
    assert found.CongDan.HoVaTen.Ten == ASKED["reply"]["HoVaTen"]["Ten"]
    assert wrong.detail.findtext(".//{*}MaLoi") == "KHONG_TIM_THAY"


async def test_it_ends_with_0_and_keeps_its_password(tmp_path: Path) -> None:
    password = tmp_path / "password"
    first = StandIn(POPULATION, "--password-file", str(password))
    async with first:
        made = password_of(first)
        assert len(made) >= 24
        assert password.stat().st_mode & 0o777 == 0o600
        assert first.told["subjects"] == 13_502
        assert await first.end(signal.SIGTERM) == 0
    async with StandIn(POPULATION, "--password-file", str(password)) as again:
        assert password_of(again) == made


def test_it_imports_nothing_of_the_bus() -> None:
    program = (
        f"import sys, {POPULATION}.__main__, adapters.g01_driving_licence.licence_server.__main__\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'ngsp'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
