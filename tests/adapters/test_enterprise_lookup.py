"""The enterprise adapter, declared, against the registry's own process, well and misbehaving."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from adapters.g12_enterprise.adapter import adapter as shared
from adapters.g12_enterprise.registry_server.data import enterprises
from ngsp.adapter import Adapter, ManifestError, Request
from ngsp.adapter.backends.rest import Rest
from ngsp.adapter.breaker import Breaker, BreakerState
from ngsp.messages import Envelope, uuid7
from tests.adapters.door import Door, door_to, example
from tests.adapters.stand_in import StandIn
from tests.support.waiting import until

MANIFEST = Path(__file__).parents[2] / "adapters" / "g12_enterprise" / "manifest.yaml"
PREFIX = "NGSP_G12_REGISTRY"
CODE = example("enterprise-lookup", "1-joint-stock-company")["request"]["maSoDoanhNghiep"]
ASKED = {"maSoDoanhNghiep": CODE}


@pytest.fixture
async def adapter(registry: StandIn) -> AsyncIterator[Adapter]:
    """One with a breaker of its own; the registry is well before and after."""
    await registry.switch("none")
    yield Adapter.load(MANIFEST)
    await registry.switch("none")


@pytest.fixture
async def door(registry: StandIn, adapter: Adapter, tmp_path: Path) -> AsyncIterator[Door]:
    async with door_to(adapter, tmp_path, registry.environment(PREFIX)) as found:
        yield found


def backend(adapter: Adapter) -> Rest:
    assert isinstance(adapter.backend, Rest)
    return adapter.backend


async def test_examples_are_what_the_adapter_answers(door: Door, registry: StandIn) -> None:
    for name in ("1-joint-stock-company", "2-branch"):
        shown = example("enterprise-lookup", name)
        assert await door.answer(shown["request"]) == shown["reply"]
    missing = await door.ask({"maSoDoanhNghiep": "9000000000"})
    assert (missing.status, missing.code) == ("not-found", "KHONG-CO-DOANH-NGHIEP")
    await registry.switch("down")
    down = await door.ask(ASKED)
    assert (down.status, down.code) == ("retry", "backend-down")
    await registry.switch("none")
    assert (await door.ask(ASKED)).status == "ok"


async def test_every_record_is_translated_into_the_reply_schema(door: Door) -> None:
    for code in list(enterprises())[::60]:
        assert (await door.answer({"maSoDoanhNghiep": code}))["maSoDoanhNghiep"] == code


async def test_connections_and_tokens_are_kept(door: Door, registry: StandIn) -> None:
    before = await registry.state()
    for _ in range(20):
        await door.answer(ASKED)
    after = await registry.state()
    assert after["connections"] - before["connections"] == 1
    assert after["tokens"] - before["tokens"] == 1


async def test_a_token_the_registry_has_forgotten_is_renewed(door: Door, registry: StandIn) -> None:
    await door.answer(ASKED)
    before = await registry.state()
    await registry.forget_tokens()
    assert (await door.answer(ASKED))["maSoDoanhNghiep"] == CODE
    assert (await registry.state())["tokens"] - before["tokens"] == 1


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("error", "failed", "backend-status-500"),
        ("html", "failed", "backend-not-json"),
        ("redirect", "failed", "backend-status-302"),
        ("huge", "failed", "backend-too-large"),
        ("broken", "failed", "backend-not-json"),
        ("other", "failed", "registry-other-record"),
        ("overloaded", "retry", "backend-status-503"),
        ("cut", "retry", "backend-cut-off"),
        ("down", "retry", "backend-down"),
    ],
)
async def test_misbehaviour_is_told_apart_and_counted(
    door: Door, adapter: Adapter, registry: StandIn, fault: str, status: str, code: str
) -> None:
    await registry.switch(fault)
    reply = await door.ask(ASKED)
    assert (reply.status, reply.code) == (status, code)
    tries = backend(adapter).config.retry.attempts if status == "retry" else 1
    assert backend(adapter).breaker.failures == tries
    await registry.switch("none")
    assert (await door.answer(ASKED))["maSoDoanhNghiep"] == CODE
    assert backend(adapter).breaker.failures == 0


async def test_redirects_are_not_followed(door: Door, registry: StandIn) -> None:
    await registry.switch("redirect")
    before = (await registry.state())["requests"]
    assert (await door.ask(ASKED)).status == "failed"
    assert (await registry.state())["requests"] - before == 1


@pytest.mark.parametrize(("fault", "delay_s"), [("hang", 0.0), ("slow", 30.0), ("trickle", 0.0)])
async def test_waits_no_longer_than_the_request_has_left(
    door: Door, adapter: Adapter, registry: StandIn, fault: str, delay_s: float
) -> None:
    await registry.switch(fault, delay_s)
    started_s = time.monotonic()
    reply = await door.ask(ASKED, deadline_s=1.3)
    assert (reply.status, reply.code) == ("retry", "backend-timeout")
    assert 1.0 <= time.monotonic() - started_s < 2.0
    assert backend(adapter).breaker.failures == 1


async def test_caller_in_haste_opens_no_breaker(door: Door, adapter: Adapter, registry: StandIn) -> None:
    await registry.switch("hang")
    for deadline_s in (0.05, 0.15, 0.2, 0.3):
        assert (await door.ask(ASKED, deadline_s=deadline_s)).code == "backend-timeout"
    assert (backend(adapter).breaker.state, backend(adapter).breaker.failures) == ("closed", 0)


async def test_no_record_is_an_answer_and_closes_the_count(door: Door, adapter: Adapter, registry: StandIn) -> None:
    await registry.switch("error")
    assert (await door.ask(ASKED)).status == "failed"
    await registry.switch("none")
    assert (await door.ask({"maSoDoanhNghiep": "9000000000"})).status == "not-found"
    assert backend(adapter).breaker.failures == 0


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


async def test_breaker_leaves_the_registry_alone_then_tries_once(
    door: Door, adapter: Adapter, registry: StandIn
) -> None:
    clock = Clock()
    breaker = backend(adapter).breaker = Breaker(threshold=3, open_s=10.0, jitter=0.0, clock=clock)

    def state() -> BreakerState:
        return breaker.state

    await registry.switch("error")
    for _ in range(3):
        assert (await door.ask(ASKED)).code == "backend-status-500"
    assert state() == "open"
    before = (await registry.state())["requests"]
    for _ in range(10):
        left_alone = await door.ask(ASKED)
        assert (left_alone.status, left_alone.code) == ("retry", "backend-left-alone")
    assert (await registry.state())["requests"] == before

    clock.now += 10.0
    assert (await door.ask(ASKED)).code == "backend-status-500"
    assert state() == "open"

    await registry.switch("none")
    clock.now += 10.0
    assert await door.answer(ASKED)
    assert state() == "closed"


async def test_cancelled_call_counts_as_nothing(adapter: Adapter, registry: StandIn) -> None:
    until_ms = int(time.time() * 1000) + 60_000
    request = Request(Envelope(uuid7(), "", until_ms, "test", ("",), "", "", orjson.dumps(ASKED)))
    (serve,) = (adapter.function(path) for path in adapter.declared())
    await registry.switch("hang")
    async with adapter.open_resources(registry.environment(PREFIX)):
        before = (await registry.state())["requests"]
        call = asyncio.ensure_future(serve(request))

        async def asked() -> bool:
            return bool((await registry.state())["requests"] > before)

        await until(asked, "the registry was asked")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert backend(adapter).breaker.failures == 0


@pytest.mark.parametrize("missing", ["URL", "CLIENT_ID", "SECRET_FILE"])
async def test_what_is_missing_is_named(registry: StandIn, tmp_path: Path, missing: str) -> None:
    known = registry.environment(PREFIX)

    def environment(name: str) -> str | None:
        return None if name == f"{PREFIX}_{missing}" else known(name)

    with pytest.raises(ManifestError, match=f"{PREFIX}_{missing}"):
        async with Adapter.load(MANIFEST).open_resources(environment):
            pass


async def test_a_secret_that_is_wrong_comes_again(registry: StandIn, tmp_path: Path) -> None:
    """Nothing was done, and an operator may mend it before the deadline."""
    wrong = tmp_path / "secret"
    wrong.write_text("wrong")
    known = registry.environment(PREFIX)

    def environment(name: str) -> str | None:
        return str(wrong) if name == f"{PREFIX}_SECRET_FILE" else known(name)

    async with door_to(Adapter.load(MANIFEST), tmp_path, environment) as door:
        reply = await door.ask(ASKED)
    assert (reply.status, reply.code) == ("retry", "backend-token-refused")


def test_the_service_is_declared_in_twenty_five_lines() -> None:
    _, _, service = MANIFEST.read_text("utf-8").partition("services:\n")
    assert len(service.splitlines()) <= 25


def test_registration_reveals_nothing_of_the_back_end() -> None:
    registered = orjson.dumps(
        [
            {key: value for key, value in service.items() if key not in ("request_schema", "reply_schema", "examples")}
            for service in shared.manifest.registration()["services"]
        ]
    )
    assert not [word for word in (b"http", b"apiCSDLDKDN", b"MA_SO", b"token") if word in registered]
