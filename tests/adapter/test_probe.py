"""A probe is answered by the runner: through the bus and back, and nothing of the provider's is touched."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from aiohttp import web

import ngsp
from ngsp.adapter import Adapter
from ngsp.bus import Bus, EmbeddedBus
from ngsp.messages import Effect, Envelope, Reply
from tests.adapter.conftest import OfficeOf
from tests.adapter.desk import desk_at
from tests.adapter.office import EFFECTS
from tests.adapters.door import door_to

MANIFEST = """\
id: g12-small
provider: G12
backend: {kind: rest, url: {env: SMALL_URL}, breaker: {failures: 1}}
services:
  - service: enterprise
    version: v1
    deadline_s: 5
    title: {vi: Tra cứu, en: Look-up}
    description: {vi: Tra cứu doanh nghiệp, en: Enterprise look-up}
    request_schema: {type: object}
    reply_schema: {type: object}
    call: {path: "/enterprises/{payload.code}"}
"""


@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_probe_comes_back_and_does_nothing(bus: Bus, office_of: OfficeOf, effect: Effect) -> None:
    office = office_of(effect)
    async with desk_at(bus, office.path, [office.topic]) as desk, office.serving(bus) as runner:
        envelope = desk.envelope(probe="adapter", body=b"")
        reply = await desk.ask(envelope)
        assert (reply.status, reply.id, reply.adapter, reply.probe) == ("ok", envelope.id, runner.id, True)
        found = orjson.loads(reply.body)
        assert found["build"] == ngsp.__version__ and found["took_us"] >= 0 and set(found) == {"build", "took_us"}
        assert orjson.loads((await desk.ask(desk.envelope(probe="backend"))).body)["backend"] == {"state": "none"}
        assert (await desk.ask(desk.envelope(probe="adapter", deadline_s=-1))).status == "expired"
        assert office.calls == []
        same_id = await desk.ask(desk.envelope(id=envelope.id))
        assert (same_id.status, same_id.probe) == ("ok", False), "no inbox knows of the probe"
        assert office.calls == [envelope.id]


async def test_a_probe_of_no_known_kind_is_no_request(embedded: EmbeddedBus, office_of: OfficeOf) -> None:
    office = office_of("idempotent")
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        strange = desk.envelope()
        await desk.deliver_raw([*strange.headers(), ("ngsp-probe", b"harder")])
        assert (await desk.ask(desk.envelope())).status == "ok"
        assert desk.replies(strange.id) == [] and len(office.calls) == 1


def test_a_probe_survives_the_wire() -> None:
    envelope = Envelope("i", "s", 5, "probe", ("",), "x", "ngsp.reply.1", b"", probe="backend")
    assert Envelope.read(envelope.headers(), b"") == envelope
    reply = Reply("i", "s", "ok", b"{}", adapter="a", probe=True)
    assert Reply.read(reply.headers(), b"{}") == reply


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, list[str]]]:
    """A back end that notes the paths it is asked for, and answers 204."""
    paths: list[str] = []

    async def serve(request: web.Request) -> web.Response:
        paths.append(f"{request.method} {request.path}")
        return web.Response(status=500 if "/broken" in request.path else 204)

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", paths
    await runner.cleanup()


async def _probed(url: str, folder: Path) -> dict[str, object]:
    path = folder / "manifest.yaml"
    path.write_text(MANIFEST, "utf-8")
    surroundings = {"SMALL_URL": url, "NGSP_ADAPTER_ALLOWED_NETWORKS": "127.0.0.0/8"}
    async with door_to(Adapter.load(path), folder, surroundings.get) as door:
        reply = await door.ask({}, probe="backend")
    assert (reply.status, reply.probe) == ("ok", True)
    found: dict[str, object] = orjson.loads(reply.body)["backend"]
    return found


async def test_the_back_end_is_asked_where_the_operator_wants_it(server: tuple[str, list[str]], tmp_path: Path) -> None:
    url, paths = server
    found = await _probed(url, tmp_path)
    assert found["state"] == "ok" and isinstance(found["took_us"], int) and "code" not in found
    assert len(paths) == 1 and "enterprises" not in paths[0]
    assert (await _probed(f"{url}/broken", tmp_path))["code"] == "backend-status-500"


async def test_a_back_end_that_is_away_is_told(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = await _probed(f"http://127.0.0.1:{free.getsockname()[1]}", tmp_path)
    assert found["state"] == "failed" and found["code"]
