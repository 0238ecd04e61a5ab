"""The enterprise adapter against the registry's own process, well and misbehaving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from adapters.g12_enterprise.adapter import URL_VARIABLE, adapter, registry_url
from adapters.g12_enterprise.registry import ANSWER_MARGIN_S, EnterpriseRegistry
from adapters.g12_enterprise.registry_server.data import enterprises
from ngsp.adapter import Failed, ManifestError, RecordNotFound, Unavailable
from ngsp.adapter.breaker import Breaker, BreakerState
from ngsp.registry.model import Schema
from tests.adapters.door import door_to, example
from tests.adapters.registry_process import RegistryProcess

CODE = example("enterprise-lookup", "1-joint-stock-company")["request"]["maSoDoanhNghiep"]


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Seen:
    """The registry as an adapter sees it, with a breaker (three failures, ten seconds) whose clock stands still."""

    clock: Clock
    breaker: Breaker
    enterprises: EnterpriseRegistry

    def state(self) -> BreakerState:
        return self.breaker.state

    async def fails(self, kind: type[Exception], remaining_s: float = 5.0) -> str:
        with pytest.raises(kind) as raised:
            await self.enterprises.find(CODE, remaining_s)
        return str(raised.value)


@pytest.fixture
async def seen(registry: RegistryProcess) -> AsyncIterator[Seen]:
    await registry.switch("none")
    clock = Clock()
    breaker = Breaker(threshold=3, open_s=10.0, jitter=0.0, clock=clock)
    found = EnterpriseRegistry(registry.url, breaker)
    yield Seen(clock, breaker, found)
    await found.close()
    await registry.switch("none")


async def test_examples_are_what_the_adapter_answers(
    registry: RegistryProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await registry.switch("none")
    monkeypatch.setenv(URL_VARIABLE, registry.url)
    async with door_to(adapter, tmp_path) as door:
        for name in ("1-joint-stock-company", "2-branch"):
            shown = example("enterprise-lookup", name)
            assert await door.answer(shown["request"]) == shown["reply"]
        missing = await door.ask({"maSoDoanhNghiep": "9000000000"})
        assert (missing.status, missing.code) == ("not-found", "KHONG-CO-DOANH-NGHIEP")
        await registry.switch("down")
        down = await door.ask({"maSoDoanhNghiep": CODE})
        assert (down.status, down.code) == ("retry", "registry-down")
        await registry.switch("none")
        assert (await door.ask({"maSoDoanhNghiep": CODE})).status == "ok"


async def test_every_record_is_translated_into_the_reply_schema(seen: Seen) -> None:
    (service,) = adapter.manifest.services
    schema = Schema(service.reply_schema, "digest")
    for code in list(enterprises())[::60]:
        assert schema.faults(await seen.enterprises.find(code, 10.0)) == ()


async def test_connections_are_pooled(seen: Seen, registry: RegistryProcess) -> None:
    before = (await registry.state())["connections"]
    for _ in range(20):
        await seen.enterprises.find(CODE, 5.0)
    assert (await registry.state())["connections"] - before == 1


@pytest.mark.parametrize(
    ("fault", "kind", "code"),
    [
        ("error", Failed, "registry-status-500"),
        ("html", Failed, "registry-not-json"),
        ("redirect", Failed, "registry-status-302"),
        ("huge", Failed, "registry-too-large"),
        ("broken", Failed, "registry-not-json"),
        ("other", Failed, "registry-other-record"),
        ("overloaded", Unavailable, "registry-status-503"),
        ("down", Unavailable, "registry-down"),
    ],
)
async def test_misbehaviour_is_told_apart_and_counted(
    seen: Seen, registry: RegistryProcess, fault: str, kind: type[Exception], code: str
) -> None:
    await registry.switch(fault)
    assert await seen.fails(kind) == code
    assert seen.breaker.failures == 1
    await registry.switch("none")
    assert (await seen.enterprises.find(CODE, 5.0))["maSoDoanhNghiep"] == CODE
    assert seen.breaker.failures == 0


async def test_redirects_are_not_followed(seen: Seen, registry: RegistryProcess) -> None:
    await registry.switch("redirect")
    before = (await registry.state())["requests"]
    await seen.fails(Failed)
    assert (await registry.state())["requests"] - before == 1


@pytest.mark.parametrize(("fault", "delay_s"), [("hang", 0.0), ("slow", 30.0), ("trickle", 0.0)])
async def test_waits_no_longer_than_the_request_has_left(
    seen: Seen, registry: RegistryProcess, fault: str, delay_s: float
) -> None:
    await registry.switch(fault, delay_s)
    started_s = time.monotonic()
    assert await seen.fails(Unavailable, remaining_s=1.2) == "registry-timeout"
    assert 1.0 <= time.monotonic() - started_s < 2.0
    assert seen.breaker.failures == 1


async def test_caller_in_haste_opens_no_breaker(seen: Seen, registry: RegistryProcess) -> None:
    await registry.switch("hang")
    for remaining_s in (0.0, 0.1, 0.2, 0.3):
        assert await seen.fails(Unavailable, remaining_s) == "registry-timeout"
    assert (seen.state(), seen.breaker.failures) == ("closed", 0)


async def test_impatient_callers_take_no_connection_from_the_others(seen: Seen, registry: RegistryProcess) -> None:
    few = EnterpriseRegistry(registry.url, Breaker(), max_connections=4)
    patience_s = [ANSWER_MARGIN_S + number / 2_000 for number in range(200)]
    for _ in range(2):
        given_up = await asyncio.gather(*(few.find(CODE, left_s) for left_s in patience_s), return_exceptions=True)
        assert any(isinstance(outcome, Unavailable) for outcome in given_up)
    await registry.switch("slow", 1.8)
    # All places at once: were one lost, the last call would have to wait for another's and come too late.
    await asyncio.gather(*(few.find(CODE, 5.0) for _ in range(4)))
    await few.close()


async def test_no_record_is_an_answer_and_closes_the_count(seen: Seen, registry: RegistryProcess) -> None:
    await registry.switch("error")
    await seen.fails(Failed)
    await registry.switch("none")
    with pytest.raises(RecordNotFound):
        await seen.enterprises.find("9000000000", 5.0)
    assert seen.breaker.failures == 0


async def test_breaker_leaves_the_registry_alone_then_tries_once(seen: Seen, registry: RegistryProcess) -> None:
    await registry.switch("error")
    for _ in range(3):
        await seen.fails(Failed)
    assert seen.state() == "open"
    before = (await registry.state())["requests"]
    for _ in range(10):
        assert await seen.fails(Unavailable) == "registry-left-alone"
    assert (await registry.state())["requests"] == before

    seen.clock.now += 10.0
    await seen.fails(Failed)
    assert seen.state() == "open"

    await registry.switch("none")
    seen.clock.now += 10.0
    assert await seen.enterprises.find(CODE, 5.0)
    assert seen.state() == "closed"


async def test_cancelled_call_counts_as_nothing(seen: Seen, registry: RegistryProcess) -> None:
    await registry.switch("hang")
    before = (await registry.state())["requests"]
    call = asyncio.create_task(seen.enterprises.find(CODE, 5.0))
    async with asyncio.timeout(10.0):
        while (await registry.state())["requests"] == before:
            await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert seen.breaker.failures == 0


@pytest.mark.parametrize(
    "value", [None, "", "registry:8080", "ftp://registry", "http://", "http://u:p@registry", "http://registry/path"]
)
def test_address_must_be_plain(value: str | None) -> None:
    with pytest.raises(ManifestError, match=URL_VARIABLE):
        registry_url(value)


def test_address_is_taken_as_given() -> None:
    assert registry_url("http://127.0.0.1:8099/") == "http://127.0.0.1:8099"


def test_manifest_reveals_no_address() -> None:
    assert b"http" not in orjson.dumps(
        [
            service.model_dump(exclude={"request_schema", "reply_schema", "examples"})
            for service in adapter.manifest.services
        ]
    )
