"""Birth notices and health certificates: signed by their clinics, verified with keys that came over the bus."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from adapters.g18_health.health_server import papers as made
from adapters.g18_health.health_server.papers import Paper
from ngsp.adapter import Adapter
from tests.adapters.door import Door, door_to, example
from tests.adapters.stand_in import StandIn

MANIFEST = Path(__file__).parents[2] / "adapters" / "g18_health" / "manifest.yaml"
NOTICE, CERTIFICATE, KEY = "birth-notice", "health-certificate", "clinic-signing-key"


@pytest.fixture
async def doors(health_system: StandIn, tmp_path: Path) -> AsyncIterator[dict[str, Door]]:
    await health_system.switch("none")
    environment = health_system.environment("NGSP_G18_HEALTH")
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                door_to(Adapter.load(MANIFEST), tmp_path / name, environment, service=name)
            )
            for name in (NOTICE, CERTIFICATE, KEY)
        }
    await health_system.switch("none")


@cache
def birth_notices() -> dict[str, Paper]:
    return made.birth_notices()


@cache
def health_certificates() -> dict[str, Paper]:
    return made.health_certificates()


def request_for(paper: Paper) -> dict[str, str]:
    if "maGCS" in paper.document:
        return {"maGCS": paper.document["maGCS"]}
    return {"soGiay": paper.document["soGiay"], "soDinhDanh": paper.holder}


def test_there_are_more_than_ten_thousand_papers_the_same_each_time() -> None:
    notices, certificates = birth_notices(), health_certificates()
    assert len(notices) + len(certificates) > 10_000
    assert (notices, certificates) == (made.birth_notices(), made.health_certificates())
    assert all(paper.holder[:1] == "9" for paper in certificates.values())
    assert all(paper.document["me"]["SoGiayToTuyThan"][:1] == "9" for paper in notices.values())
    assert {bool(paper.holder) for paper in notices.values()} == {True, False}, "registered children and new-borns"


@pytest.mark.parametrize(
    ("service", "name"),
    [
        (NOTICE, "1-new-born"),
        (NOTICE, "2-registered"),
        (CERTIFICATE, "1-driving"),
        (CERTIFICATE, "2-work"),
        (KEY, "1-nghe-an"),
        (KEY, "2-ha-noi"),
    ],
)
async def test_examples_hold(doors: dict[str, Door], service: str, name: str) -> None:
    shown = example(service, name)
    assert await doors[service].answer(shown["request"]) == shown["reply"]


async def test_papers_of_all_kinds_pass_as_they_are(doors: dict[str, Door]) -> None:
    for service, papers in ((NOTICE, birth_notices()), (CERTIFICATE, health_certificates())):
        for paper in [each for each in papers.values() if not each.withdrawn][::700]:
            found = await doors[service].answer(request_for(paper))
            assert paper.document in found.values()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def verify(paper: dict[str, Any], signature: str, key: dict[str, str]) -> None:
    """InvalidSignature where `signature`, a detached JWS, is not that of `paper`'s canonical JSON."""
    header, payload, value = signature.split(".")
    assert payload == ""
    canonical = base64.urlsafe_b64encode(orjson.dumps(paper, option=orjson.OPT_SORT_KEYS)).rstrip(b"=")
    Ed25519PublicKey.from_public_bytes(decoded(key["x"])).verify(decoded(value), header.encode() + b"." + canonical)


@pytest.mark.parametrize(
    ("service", "member", "changed"), [(NOTICE, "giayChungSinh", "ngayCap"), (CERTIFICATE, "giayKham", "ketLuan")]
)
async def test_a_signature_holds_for_its_paper_alone(
    doors: dict[str, Door], service: str, member: str, changed: str
) -> None:
    papers = birth_notices() if service == NOTICE else health_certificates()
    paper = next(each for each in papers.values() if each.clinic.code == "40001" and not each.withdrawn)
    found = await doors[service].answer(request_for(paper))
    header = orjson.loads(decoded(found["chuKy"].partition(".")[0]))
    assert header == {"alg": "EdDSA", "kid": "40001-2020"}
    key = (await doors[KEY].answer({"maKhoa": header["kid"]}))["khoa"]
    verify(found[member], found["chuKy"], key)
    with pytest.raises(InvalidSignature):
        verify(found[member] | {changed: "KHAC"}, found["chuKy"], key)
    another = (await doors[KEY].answer({"maKhoa": "01001-2020"}))["khoa"]
    with pytest.raises(InvalidSignature):
        verify(found[member], found["chuKy"], another)


@pytest.mark.parametrize(
    ("service", "asked", "code"),
    [
        (NOTICE, {"maGCS": "40-17920-2025-99999"}, "KHONG-CO-GIAY"),
        (CERTIFICATE, {"soGiay": "40001-25-999999", "soDinhDanh": "900000000009"}, "KHONG-CO-GIAY"),
        (KEY, {"maKhoa": "99001-2020"}, "KHONG-CO-KHOA"),
    ],
)
async def test_nothing_there_is_a_no(doors: dict[str, Door], service: str, asked: dict[str, str], code: str) -> None:
    reply = await doors[service].ask(asked)
    assert (reply.status, reply.code) == ("not-found", code)


async def test_a_certificate_is_shown_to_who_knows_whose_it_is(doors: dict[str, Door]) -> None:
    one, other = [each for each in health_certificates().values() if not each.withdrawn][:2]
    reply = await doors[CERTIFICATE].ask(request_for(one) | {"soDinhDanh": other.holder})
    assert (reply.status, reply.code) == ("not-found", "KHONG-CO-GIAY")


@pytest.mark.parametrize("service", [NOTICE, CERTIFICATE])
async def test_a_withdrawn_paper_is_refused(doors: dict[str, Door], service: str) -> None:
    papers = birth_notices() if service == NOTICE else health_certificates()
    reply = await doors[service].ask(request_for(next(each for each in papers.values() if each.withdrawn)))
    assert (reply.status, reply.code) == ("refused", "GIAY-DA-THU-HOI")


@pytest.mark.parametrize("service", [NOTICE, CERTIFICATE, KEY])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("error", "failed", "backend-status-500"),
        ("overloaded", "retry", "backend-status-503"),
        ("other", "failed", "other-"),
        ("html", "failed", "backend-not-json"),
        ("down", "retry", "backend-down"),
    ],
)
async def test_misbehaviour_is_told_apart(
    doors: dict[str, Door], health_system: StandIn, service: str, fault: str, status: str, code: str
) -> None:
    last = {
        NOTICE: request_for(list(birth_notices().values())[-1]),
        CERTIFICATE: request_for(list(health_certificates().values())[-1]),
        KEY: {"maKhoa": "96001-2020"},
    }
    await health_system.switch(fault)
    reply = await doors[service].ask(last[service])
    assert (reply.status, reply.code[: len(code)]) == (status, code)
