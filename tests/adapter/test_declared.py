"""Declarative adapters: a manifest alone, served from the bus against a real HTTP server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from ngsp.adapter import Adapter
from tests.adapters.door import door_to

MANIFEST = """\
id: g12-small
provider: G12
backend:
  kind: rest
  url: {env: SMALL_URL}
services:
  - service: enterprise
    version: v1
    deadline_s: 5
    title: {vi: Tra cứu, en: Look-up}
    description: {vi: Tra cứu doanh nghiệp, en: Enterprise look-up}
    request_schema: {type: object}
    reply_schema: {type: object}
    call: {path: "/enterprises/{payload.code}", query: {from: purpose}}
    reply: {code: body.MA, name: body.TEN, registered: "iso_date(body.NGAY, 'dd/MM/yyyy')"}
    outcomes:
      - {when: "status == `404`", outcome: not-found, code: KHONG-CO}
      - {when: "body.LOI", outcome: refused, code: "LOI-{body.LOI}"}
"""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async def enterprise(request: web.Request) -> web.Response:
        code = request.match_info["code"]
        if code == "0":
            return web.json_response({"KET_QUA": "KHONG"}, status=404)
        if code == "1":
            return web.json_response({"LOI": 17})
        return web.json_response({"MA": code, "TEN": request.query["from"], "NGAY": "01/07/2025"})

    app = web.Application()
    app.router.add_get("/enterprises/{code}", enterprise)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_manifest_alone_is_an_adapter(url: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(MANIFEST, "utf-8")
    adapter = Adapter.load(path)
    assert "backend" not in adapter.manifest.registration()
    assert "call" not in adapter.manifest.registration()["services"][0]
    async with door_to(
        adapter, tmp_path, {"SMALL_URL": url, "NGSP_ADAPTER_ALLOWED_NETWORKS": "127.0.0.0/8"}.get
    ) as door:
        assert await door.answer({"code": "a/b"}) == {"code": "a/b", "name": "test", "registered": "2025-07-01"}
        missing = await door.ask({"code": "0"})
        assert (missing.status, missing.code) == ("not-found", "KHONG-CO")
        refused = await door.ask({"code": "1"})
        assert (refused.status, refused.code) == ("refused", "LOI-17")
