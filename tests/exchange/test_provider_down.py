"""A provider's system that is down: 502 at once with the time to come again, and it is left alone meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from ngsp.adapter import Adapter
from ngsp.local.ports import free_port
from ngsp.local.postgres import LocalPostgres
from tests.support.gateway import Provider, running_gateway, service
from tests.support.problems import problem
from tests.support.waiting import until

THRESHOLD = 3
OPEN_S = 0.5


@dataclass
class Declared(Provider):
    """The adapter of a declared service before a REST system."""

    folder: Path = Path()
    services: list[dict[str, Any]] = field(default_factory=lambda: [service("look-up")])

    def adapter(self) -> Adapter:
        path = self.folder / "manifest.yaml"
        backend = {
            "kind": "rest",
            "url": {"env": "NGSP_TEST_SYSTEM_URL"},
            "breaker": {"failures": THRESHOLD, "open_s": OPEN_S},
        }
        served = service("look-up") | {"call": {"method": "GET", "path": "/it"}, "reply": {"did": "body.did"}}
        path.write_bytes(orjson.dumps({"id": "h41-tests", "provider": "H41", "backend": backend, "services": [served]}))
        return Adapter.load(path)


async def test_a_system_that_is_down_is_502_left_alone_and_found_again(
    postgres: LocalPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, asked = free_port(), 0
    monkeypatch.setenv("NGSP_TEST_SYSTEM_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("NGSP_ADAPTER_ALLOWED_NETWORKS", "127.0.0.0/8")

    async def it(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.json_response({"did": "it"})

    async with running_gateway(postgres, tmp_path, Declared(folder=tmp_path)) as rig:
        codes: list[str] = []
        while "backend-left-alone" not in codes:  # it may be asked again and again on a slow machine
            assert len(codes) < 100, codes
            answer = await rig.call()
            problem(answer, 502, "provider-unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
            assert await rig.kinds(answer.headers["Ngsp-Transaction"]) == ["accepted", "failed"]
            codes.append(answer.json()["provider_code"])
        assert set(codes[:-1]) == {"backend-down"}
        app = web.Application()
        app.router.add_get("/it", it)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

        async def answered() -> bool:
            return (await rig.call()).status_code == 200

        try:
            await until(answered, "the system to be found again")
        finally:
            await runner.cleanup()
        assert asked == 1
