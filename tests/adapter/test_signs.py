"""What an adapter's process tells of itself: breakers by name, what is in work, what is paused."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ngsp.adapter.breaker import Breaker
from ngsp.adapter.breakers import MOST_BREAKERS, Breakers
from ngsp.adapter.manifest import ManifestError
from ngsp.adapter.process import AdapterSettings, Registrar
from ngsp.bus import EmbeddedBus
from ngsp.registry.documents import HeartbeatDocument
from tests.adapter.conftest import OfficeOf
from tests.adapter.desk import desk_at
from tests.adapter.front import Front, front
from tests.adapter.office import Office, in_work
from tests.adapter.test_work import Gated
from tests.support.waiting import until


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def fail(breaker: Breaker) -> None:
    with breaker.admit() as permit:
        permit.failed()


def test_a_breaker_has_a_name_and_its_changes_are_logged() -> None:
    breakers, clock = Breakers(lambda: "g01-population"), Clock()
    breakers["registry"] = breaker = Breaker(threshold=1, open_s=10, jitter=0, clock=clock)
    breakers["registry"] = breaker
    breakers["archive"] = Breaker()
    with capture_logs() as lines:
        fail(breaker)
        assert breakers.states() == {"registry": "open", "archive": "closed"}
        clock.now = 10
        assert breakers.states()["registry"] == "half-open"
        with breaker.admit() as permit:
            permit.succeeded()
    assert [(line["breaker"], line["state"]) for line in lines] == [
        ("registry", "open"),
        ("registry", "half-open"),
        ("registry", "closed"),
    ]
    assert {line["adapter"] for line in lines} == {"g01-population"}
    breakers["registry"] = Breaker()
    with capture_logs() as lines:
        fail(breaker)
    assert lines == [], "another has its place"


@pytest.mark.parametrize("name", ["", "Registry", "a b", "-a", "a" * 41, "900000000001/x"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name of a breaker"):
        Breakers(lambda: "a")[name] = Breaker()


def test_breakers_are_few() -> None:
    breakers = Breakers(lambda: "a")
    for number in range(MOST_BREAKERS):
        breakers[f"b{number}"] = Breaker()
    with pytest.raises(ValueError, match="already"):
        breakers["one-more"] = Breaker()
    breakers["b0"] = Breaker()


def registrar(office: Office, gateway: Front) -> Registrar:
    settings = AdapterSettings(
        kafka_bootstrap="127.0.0.1:1",
        key_file=Path("unused"),
        gateway_url=gateway.url,
        client_id="provider",
        client_secret="secret",
    )
    return Registrar(settings, office.adapter)


async def test_a_heartbeat_tells_how_the_process_is(embedded: EmbeddedBus, office_of: OfficeOf) -> None:
    office = office_of("idempotent")
    office.work = gated = Gated(office)
    office.adapter.breakers["registry"] = breaker = Breaker(threshold=1)
    async with (
        front() as gateway,
        desk_at(embedded, office.path, [office.topic]) as desk,
        office.serving(embedded, max_in_work=2) as runner,
    ):
        told = registrar(office, gateway)
        beating = asyncio.create_task(told.beat_for_ever(runner, 0.05))
        await until(lambda: bool(gateway.beats), "the first heartbeat")
        assert gateway.beats[0] == {
            "process": gateway.beats[0]["process"],
            "probe": True,
            "build": gateway.beats[0]["build"],
            "schemas": gateway.beats[0]["schemas"],
            "breakers": {"registry": "closed"},
            "in_work": 0,
            "paused": [],
            "troubles": [],
        }
        assert set(gateway.beats[0]["schemas"]) == {office.path}
        assert HeartbeatDocument.model_validate(gateway.beats[0]).process.endswith(f"-{os.getpid()}")
        for _ in range(3):
            await desk.deliver(desk.envelope())
        await in_work(runner, 2)
        fail(breaker)

        def is_told() -> bool:
            beat = gateway.beats[-1]
            return (beat["breakers"], beat["in_work"], beat["paused"]) == ({"registry": "open"}, 2, [office.path])

        await until(is_told, "what is in work and what is wrong")
        gated.gate.set()
        await until(lambda: gateway.beats[-1]["in_work"] == 0 and not gateway.beats[-1]["paused"], "it to be idle")
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        await told.close()


def problem(code: str, status: int, **more: object) -> tuple[int, dict[str, object]]:
    return status, {"code": code, "status": status, "title": "T", "detail": "D.", "remedy": "R.", **more}


async def test_a_gateway_that_cannot_register_now_is_asked_again(office_of: OfficeOf) -> None:
    office = office_of("idempotent")
    async with front() as gateway:
        told = registrar(office, gateway)
        for code, status in (
            ("draining", 503),
            ("internal", 500),
            ("too-many-requests", 429),
            ("request-timeout", 408),
        ):
            gateway.registering.append(problem(code, status))
        await told.register(0.01)
        assert gateway.registered == [office.adapter.id] * 5
        await told.close()


async def test_a_manifest_that_is_refused_is_told_with_its_places(office_of: OfficeOf) -> None:
    office = office_of("idempotent")
    async with front() as gateway:
        told = registrar(office, gateway)
        fault = {"pointer": "/services/0/mode", "detail": "Of no known mode."}
        gateway.registering.append(problem("invalid-registration", 422, errors=[fault]))
        with pytest.raises(ManifestError, match=r"invalid-registration: D\. R\.\n  /services/0/mode: Of no known"):
            await told.register(0.01)
        await told.close()


async def test_where_nobody_is_named_nothing_is_registered(office_of: OfficeOf, tmp_path: Path) -> None:
    nobody = AdapterSettings(kafka_bootstrap="127.0.0.1:1", key_file=tmp_path, gateway_url="http://127.0.0.1:1")
    with pytest.raises(ManifestError, match="NGSP_ADAPTER_CLIENT_ID"):
        Registrar(nobody, office_of("idempotent").adapter)
