"""`POST /v1/adapters/{id}/probe` and `ngsp adapter probe`: through the bus and back, touching nothing, in the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest

import ngsp
from ngsp.bus.base import Message
from ngsp.bus.embedded import EmbeddedBus
from ngsp.messages import uuid7
from tests.exchange.test_limits import log_blocked
from tests.support.gateway import Rig
from tests.support.problems import problem
from tests.support.waiting import until
from tests.transactions.test_cli_transactions import environment, run_ngsp

PATH = "/v1/adapters/h41-tests/probe"
LOOK_UP = "H41/look-up/v1"


@pytest.fixture
async def heard(rig: Rig) -> AsyncIterator[None]:
    """The adapter has beaten once, so that the gateway knows that it answers probes."""

    async def online() -> bool:
        return bool((await rig.get("/v1/adapters/h41-tests", by="operator")).json()["state"] == "online")

    await until(online, "the adapter to be online")
    yield


async def probe(rig: Rig, by: str = "operator", **document: Any) -> httpx.Response:
    headers = await rig.headers(by)
    return await rig.http.post(PATH, headers=headers, json=document or None)


async def test_a_probe_comes_back_and_is_in_the_log_as_what_it_is(rig: Rig, heard: None) -> None:
    answer = await probe(rig)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["outcome"], found["code"], found["build"]) == ("ok", None, ngsp.__version__)
    assert found["adapter"] == "h41-tests" and found["service"] == LOOK_UP and found["backend"] is None
    timings = found["timings_ms"]
    assert set(timings) == {"sent", "adapter", "bus", "total"}
    assert 0 <= timings["sent"] <= timings["total"] and timings["bus"] <= timings["total"] < 5_000
    assert rig.provider.seen == [], "no function of the author was called"
    before, entry = await rig.entries(found["id"])
    assert (before["kind"], entry["kind"]) == ("probing", "probed")
    assert before["call"] == entry["call"] == {"client": "operator", "member": "G22"}
    assert before["probe"] == entry["probe"] == {"adapter": "h41-tests", "service": LOOK_UP, "what": "adapter"}
    assert entry["outcome"] == {"status": 200} and entry["timings_us"]["total"] == round(timings["total"] * 1000)
    assert (await rig.call()).status_code == 200

    async def projected() -> bool:
        behind = "SELECT count(*) FROM entries e, projection p WHERE (e.xid, e.seq) > (p.xid, p.seq)"
        return bool(await rig.rows.fetchval(behind) == 0)

    await until(projected, "the log to be projected")
    assert await rig.rows.fetchval("SELECT count(*) FROM transactions WHERE tx = $1", found["id"]) == 0
    assert await rig.rows.fetchval("SELECT count(*) FROM quarantine") == 0
    problem(await rig.get(f"/v1/transactions/{found['id']}", by="operator"), 404, "not-found")


async def test_by_which_service_and_with_the_system_behind_it(rig: Rig, heard: None) -> None:
    found = (await probe(rig, service="H41/send/v1", backend=True)).json()
    assert (found["service"], found["outcome"]) == ("H41/send/v1", "ok")
    assert found["backend"] == {"state": "none", "code": None}, "an adapter in Python has none of its own"
    other = await probe(rig, service="H41/nothing/v1")
    assert (other.status_code, [fault["pointer"] for fault in other.json()["errors"]]) == (422, ["/service"])


async def test_a_service_that_is_disabled_can_be_tried_before_it_is_enabled(rig: Rig, heard: None) -> None:
    address = "/v1/services/H41/whole/v1/state"
    headers = await rig.headers("operator")
    await rig.http.put(address, headers=headers, json={"state": "disabled", "reason": "Chưa mở"})
    try:
        assert (await probe(rig, service="H41/whole/v1")).json()["outcome"] == "ok"
    finally:
        await rig.http.put(address, headers=headers, json={"state": "active"})


async def test_no_answer_ends_in_time(rig: Rig, heard: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner is held back by its bus: nothing that was sent is taken."""
    held: list[Message] = []
    post = EmbeddedBus.post

    async def hold(self: EmbeddedBus, topic: str, headers: Any, body: bytes) -> Any:
        if dict(headers).get("ngsp-probe") == b"adapter":
            held.append(Message(topic, headers, body))
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        return await post(self, topic, headers, body)

    with monkeypatch.context() as patched:
        patched.setattr(EmbeddedBus, "post", hold)
        answer = await probe(rig, timeout_s=0.2)
    found = answer.json()
    assert (answer.status_code, found["outcome"], found["code"]) == (200, "no-answer", "no-answer")
    assert found["build"] is None and set(found["timings_ms"]) == {"sent", "total"}
    assert 200 <= found["timings_ms"]["total"] < 5_000
    _, entry = await rig.entries(found["id"])
    assert entry["outcome"] == {"class": "probe", "code": "no-answer"}
    assert len(held) == 1 and held[0].value == b""


@asynccontextmanager
async def each_probe(before: Callable[[str], Awaitable[None]]) -> AsyncIterator[list[str]]:
    """Awaits `before` with a probe's id when it is about to be on the bus; which there were."""
    sent: list[str] = []
    post = EmbeddedBus.post

    async def noted(self: EmbeddedBus, topic: str, headers: Any, body: bytes) -> Any:
        found = dict(headers)
        if found.get("ngsp-probe") and found.get("ngsp-reply-to"):
            sent.append(found["ngsp-id"].decode())
            await before(sent[-1])
        return await post(self, topic, headers, body)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(EmbeddedBus, "post", noted)
        yield sent


async def test_a_probe_is_in_the_log_before_it_is_sent_and_before_it_is_answered(rig: Rig, heard: None) -> None:
    """A gateway that is killed in between leaves what it had sent in the log."""
    kinds: list[list[str]] = []

    async def look(id: str) -> None:
        kinds.append(await rig.kinds(id))

    async with each_probe(look) as sent:
        found = (await probe(rig)).json()
    assert (sent, kinds) == ([found["id"]], [["probing"]])
    assert await rig.kinds(found["id"]) == ["probing", "probed"]


@pytest.mark.parametrize("when", ["before it is sent", "before it is answered"])
async def test_a_log_that_cannot_be_written_is_503(
    rig: Rig, heard: None, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(rig.parts.prober._log.writer, "_timeout_s", 0.5)
    async with AsyncExitStack() as stack:

        async def block(id: str = "") -> None:
            await stack.enter_async_context(log_blocked(rig))

        if when == "before it is sent":
            await block()
        async with each_probe(block) as sent:
            problem(await probe(rig), 503, "log-unavailable")
    assert len(sent) == (when == "before it is answered")

    async def answered() -> bool:
        return (await probe(rig)).status_code == 200

    await until(answered, "the log to be written again")
    for id in sent:
        assert await rig.kinds(id) in (["probing"], ["probing", "probed"]), "told to nobody, whether stored or not"


async def test_an_adapter_that_did_not_say_so_is_not_probed(rig: Rig) -> None:
    manifest = {
        "id": "h41-others",
        "provider": "H41",
        "services": [{**rig.provider.services[0], "service": "others"}],
    }
    headers = await rig.headers("operator")
    assert (await rig.http.put("/v1/adapters/h41-others", headers=headers, json=manifest)).status_code in (200, 201)
    problem(await rig.http.post("/v1/adapters/h41-others/probe", headers=headers), 409, "state-conflict")
    sign = {"build": "another language", "schemas": {}}
    await rig.http.post("/v1/adapters/h41-others/heartbeat", headers=headers, json=sign)
    problem(await rig.http.post("/v1/adapters/h41-others/probe", headers=headers), 409, "state-conflict")
    willing = sign | {"probe": True, "process": "other"}
    await rig.http.post("/v1/adapters/h41-others/heartbeat", headers=headers, json=willing)
    problem(await rig.http.post("/v1/adapters/h41-others/probe", headers=headers), 409, "state-conflict")
    problem(await rig.http.post("/v1/adapters/nobody/probe", headers=headers), 404, "not-found")


async def test_only_operators_probe(rig: Rig) -> None:
    for client in ("caller", "provider"):
        problem(await probe(rig, by=client), 403, "scope-missing")
    assert (await rig.http.post(PATH)).status_code == 401


@pytest.mark.parametrize("document", [{"timeout_s": 31}, {"timeout_s": 0}, {"backend": "yes"}, {"what": "else"}])
async def test_wrong_probes_are_refused(rig: Rig, document: dict[str, Any]) -> None:
    problem(await probe(rig, **document), 422, "schema-mismatch")


async def test_the_command(rig: Rig, heard: None) -> None:
    code, out, err = await run_ngsp("adapter", "probe", "h41-tests", "--backend", env=environment(rig))
    assert (code, err) == (0, "") and out.startswith(f"ok  {LOOK_UP}") and "total" in out and "backend: none" in out
    code, out, err = await run_ngsp("adapter", "probe", "h41-tests", env=environment(rig, "caller"))
    assert (code, out) == (1, "") and "scope-missing" in err
    code, _, err = await run_ngsp("adapter", "probe", uuid7(), env=environment(rig))
    assert code == 1 and "not-found" in err


async def test_the_interface_describes_it(rig: Rig) -> None:
    document = orjson.loads((await rig.http.get("/openapi.json")).content)
    assert "/v1/adapters/{id}/probe" in document["paths"]
