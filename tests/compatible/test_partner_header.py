"""The header `lgspaccesstoken`: what it proves, what it does not, and that a revocation bites."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.compatible.conftest import ENDED, LOOK_UP
from tests.compatible.old_clients import partner_header
from tests.support.gateway import Rig, further_gateway
from tests.support.problems import MARKER, unseen
from tests.support.waiting import until

REVOKED_WITHIN_S = 5.0
"""A second, on a machine that does nothing else."""
_addresses = (f"10.9.{number >> 8 & 255}.{number & 255}" for number in itertools.count(1))


def b64(value: Any) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()


async def look_up(rig: Rig, header: str, address: str | None = None, **headers: str) -> httpx.Response:
    """From an address of its own unless one is given: attempts are counted by address."""
    sent = {"lgspaccesstoken": header, "X-Forwarded-For": address or next(_addresses)} | headers
    return await rig.http.get(LOOK_UP, params={"so": "900000000001"}, headers=sent)


def members(rig: Rig, **others: Any) -> dict[str, Any]:
    found = {"AccessKey": "other", "SecretKey": rig.secrets["other"], "AppName": "x", "PartnerCode": "G22"} | others
    return {name: value for name, value in found.items() if value is not ...}


def without(good: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in good.items() if key != name}


PROVES_NOBODY: dict[str, Callable[[dict[str, Any]], str]] = {
    "empty": lambda good: "",
    "no base64": lambda good: "%%%",
    "cut short": lambda good: b64(good)[:-3],
    "padded too much": lambda good: b64(good).rstrip("=") + "=====",
    "with a tab in it": lambda good: b64(good)[:20] + "\t" + b64(good)[20:],
    "of the other alphabet": lambda good: b64(good) + "-_",
    "twice": lambda good: b64(good) + ", " + b64(good),
    "no JSON": lambda good: b64(MARKER.encode()),
    "no UTF-8": lambda good: b64(b"\xff\xfe"),
    "UTF-16": lambda good: b64(json.dumps(good).encode("utf-16")),
    "a list": lambda good: b64([good]),
    "a text": lambda good: b64(json.dumps(good)),
    "a key twice": lambda good: b64(json.dumps(good).encode()[:-1] + b', "AccessKey": "other"}'),
    "deep": lambda good: b64(b"[" * 500 + b"]" * 500),
    "no name": lambda good: b64(good | {"AccessKey": ""}),
    "a number for a name": lambda good: b64(good | {"AccessKey": 5}),
    "no secret": lambda good: b64(good | {"SecretKey": None}),
    "a list for a secret": lambda good: b64(good | {"SecretKey": ["x"]}),
    "an empty unit": lambda good: b64(good | {"PartnerCode": ""}),
    "no unit": lambda good: b64(without(good, "PartnerCode")),
    "a list for a unit": lambda good: b64(good | {"PartnerCode": ["G22"]}),
    "a number for the other unit": lambda good: b64(good | {"PartnerCodeCus": 7}),
    "too long": lambda good: b64(good | {"AppName": "x" * 2_000}),
    "a secret too long": lambda good: b64(good | {"SecretKey": "x" * 257}),
    "a wrong secret": lambda good: b64(good | {"SecretKey": "ngsp_wrong"}),
    "an unknown client": lambda good: b64(good | {"AccessKey": "nobody-" + MARKER}),
    "a path": lambda good: b64(good | {"AccessKey": "../" + MARKER}),
    "SQL": lambda good: b64(good | {"AccessKey": "' OR 1=1--"}),
}


@pytest.mark.parametrize("what", PROVES_NOBODY)
async def test_what_proves_nobody(rig: Rig, capsys: pytest.CaptureFixture[str], what: str) -> None:
    """One and the same answer, on calls and at the token endpoint; nothing of it is kept."""
    header = PROVES_NOBODY[what](members(rig))
    answer = await look_up(rig, header)
    assert answer.status_code == 401, answer.text
    nobody = await rig.http.get(LOOK_UP)
    known = {name: value for name, value in nobody.json().items() if name != "MaGiaoDich"}
    assert answer.json() == known | {"MaGiaoDich": answer.headers["Ngsp-Transaction"]}
    sent = {"lgspaccesstoken": header, "X-Forwarded-For": next(_addresses)}
    token = await rig.http.post("/token", data={"grant_type": "client_credentials"}, headers=sent)
    assert (token.status_code, token.json()["error"]) == (401, "invalid_client")
    assert rig.provider.seen == []
    unseen(answer.content, token.content, capsys.readouterr().err.encode())


@pytest.mark.parametrize(
    "others",
    [
        {"PartnerCode": "H41"},
        {"PartnerCode": "000.00.00.H41"},
        {"PartnerCode": "g22"},
        {"PartnerCode": "G22 "},
        {"PartnerCode": "G22.01"},
        {"PartnerCode": "00.00.G22"},
        {"PartnerCode": "nobody"},
        {"PartnerCodeCus": "H41"},
        {"PartnerCodeCus": "000.01.00.G22"},
    ],
)
async def test_another_unit_is_refused(rig: Rig, others: dict[str, str]) -> None:
    header = b64(members(rig, **others))
    answer = await look_up(rig, header)
    assert (answer.status_code, answer.json()["Code"]) == (403, "access-denied")
    (found,) = await rig.entries(answer.headers["Ngsp-Transaction"])
    assert found["call"]["client"] == "other"
    assert found["outcome"]["reason"] == "PartnerCode is not of the client's member"
    token = await rig.http.post(
        "/token", data={"grant_type": "client_credentials"}, headers={"lgspaccesstoken": header}
    )
    assert (token.status_code, token.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    "others",
    [
        {"PartnerCodeCus": ""},
        {"PartnerCodeCus": None},
        {"PartnerCodeCus": "000.00.00.G22"},
        {"AppName": ...},
        {"AppName": "Phần mềm một cửa"},
        {"Version": "2"},
    ],
)
async def test_what_may_be_left_out(rig: Rig, others: dict[str, Any]) -> None:
    assert (await look_up(rig, b64(members(rig, **others)))).status_code == 200


async def test_a_member_without_an_older_code_has_none(rig: Rig) -> None:
    provider = {"AccessKey": "provider", "SecretKey": rig.secrets["provider"]}
    member = {"name": {"vi": "x", "en": "x"}, "valid_from": "2020-01-01", "zone": "national"}
    headers = await rig.headers("operator")
    for old_code, unit, status, reason in (
        ("000.00.00.H41", "000.00.00.H41", 403, "no agreement"),  # it is who it says; that it calls nobody is its own
        ("", "000.00.00.H41", 403, "PartnerCode is not of the client's member"),
        ("", "H41", 403, "no agreement"),
        ("", "", 401, ""),
        ("000.00.00.H41", "000.00.00.H41", 403, "no agreement"),
    ):
        put = await rig.http.put("/v1/members/H41", headers=headers, json=member | {"old_code": old_code})
        assert put.status_code == 200, put.text
        answer = await look_up(rig, b64(members(rig, **provider, PartnerCode=unit)))
        assert answer.status_code == status
        found = await rig.entries(answer.headers["Ngsp-Transaction"])
        assert [entry["outcome"]["reason"] for entry in found] == ([reason] if reason else [])


async def test_two_proofs_are_of_one_client(rig: Rig) -> None:
    good = b64(members(rig))
    own = f"Bearer {await rig.token('other')}"
    assert (await look_up(rig, good, Authorization=own)).status_code == 200
    another = f"Bearer {await rig.token('caller')}"
    for authorization in (another, "Bearer x", "Basic " + b64(b"other:x")):
        assert (await look_up(rig, good, Authorization=authorization)).status_code == 401
    wrong = b64(members(rig, SecretKey="ngsp_wrong"))
    assert (await look_up(rig, wrong, Authorization=own)).status_code == 401


async def test_many_calls_cost_one_slow_hash(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """All at once, so that whoever comes while the first is being proved waits for it."""
    header = b64(members(rig, AppName="many calls"))
    address = next(_addresses)
    answers = await asyncio.gather(*(look_up(rig, header, address) for _ in range(60)))
    assert {(answer.status_code, answer.json().get("Code")) for answer in answers} == {(200, None)}
    proved = [line for line in capsys.readouterr().err.splitlines() if "partner.proved" in line]
    assert len(proved) == 1


async def test_guessing_is_slowed_for_who_guesses(rig: Rig) -> None:
    guesser, known = next(_addresses), next(_addresses)
    good = b64(members(rig, AppName="guessed at"))
    assert (await look_up(rig, good, known)).status_code == 200
    answers = [await look_up(rig, b64(members(rig, SecretKey=f"ngsp_{n}")), guesser) for n in range(8)]
    assert [answer.status_code for answer in answers[:5]] == [401] * 5
    assert answers[-1].status_code == 429
    assert answers[-1].json()["Code"] == "too-many-attempts"
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert (await look_up(rig, good, known)).status_code == 200


async def test_a_new_secret_makes_the_old_one_useless(rig: Rig) -> None:
    """The header stays proved for a minute, the token behind it does not stay good."""
    address = next(_addresses)
    header = partner_header("other", rig.secrets["other"], "G22")
    assert (await look_up(rig, header, address)).status_code == 200
    body = {"member": "G22", "name": {"vi": "x", "en": "x"}, "scopes": ["exchange"], "secret": "generate"}
    put = await rig.http.put("/v1/clients/other", headers=await rig.headers("operator"), json=body)
    assert put.status_code == 200, put.text
    assert (await look_up(rig, header, address)).status_code == 401
    rig.secrets["other"] = put.json()["secret"]
    rig.tokens.pop("other", None)
    assert (await look_up(rig, partner_header("other", rig.secrets["other"], "G22"), address)).status_code == 200


async def test_a_client_that_is_switched_off(rig: Rig) -> None:
    header = partner_header("other", rig.secrets["other"], "G22")
    assert (await look_up(rig, header)).status_code == 200
    body = {"member": "G22", "name": {"vi": "x", "en": "x"}, "scopes": ["exchange"], "active": False}
    headers = await rig.headers("operator")
    assert (await rig.http.put("/v1/clients/other", headers=headers, json=body)).status_code == 200
    assert (await look_up(rig, header)).status_code == 401
    assert (await rig.http.put("/v1/clients/other", headers=headers, json=body | {"active": True})).status_code == 200
    assert (await look_up(rig, header)).status_code == 200, "a proof made anew, not one that was kept"


async def test_a_revoked_agreement_bites_here_too(rig: Rig) -> None:
    headers = {"lgspaccesstoken": partner_header("other", rig.secrets["other"], "G22")}
    assert (await rig.http.post(ENDED, json={"do": "it"}, headers=headers)).status_code == 200
    id = await rig.agreement("ended")
    answer = await rig.post(f"/v1/agreements/{id}/revoke", by="provider", json={"reason": "hết căn cứ pháp lý"})
    assert answer.status_code == 200, answer.text
    answer = await rig.http.post(ENDED, json={"do": "it"}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "access-denied")


async def test_a_new_secret_bites_on_every_gateway(rig: Rig, tmp_path: Path) -> None:
    """Each has proved the header for itself; the news comes to each by its snapshot."""
    header = partner_header("other", rig.secrets["other"], "G22")
    async with further_gateway(rig, tmp_path) as second:
        assert (await look_up(second, header)).status_code == 200
        body = {"member": "G22", "name": {"vi": "x", "en": "x"}, "scopes": ["exchange"], "secret": "generate"}
        put = await rig.http.put("/v1/clients/other", headers=await rig.headers("operator"), json=body)
        rig.secrets["other"] = put.json()["secret"]
        rig.tokens.pop("other", None)

        async def refused() -> bool:
            return (await look_up(second, header)).status_code == 401

        await until(refused, "the other gateway refuses the old secret", REVOKED_WITHIN_S)
        assert (await look_up(second, partner_header("other", rig.secrets["other"], "G22"))).status_code == 200
