"""Stands for a gateway where an adapter registers and beats: keeps what it is told, and tells the time it is set to."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from aiohttp import web


@dataclass
class Front:
    """`beats`: the heartbeats so far. `off_s`: how far its clock is ahead of this machine's."""

    url: str = ""
    off_s: float = 0.0
    beats: list[dict[str, Any]] = field(default_factory=list)

    async def _token(self, request: web.Request) -> web.Response:
        return self._answer({"access_token": "a-token", "token_type": "Bearer", "expires_in": 600})

    async def _beat(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer a-token":
            return self._answer({}, 401)
        self.beats.append(await request.json())
        return self._answer({"state": "online", "differing": []})

    def _answer(self, body: dict[str, Any], status: int = 200) -> web.Response:
        date = formatdate(time.time() + self.off_s, usegmt=True)
        return web.json_response(body, status=status, headers={"Date": date})


@asynccontextmanager
async def front() -> AsyncIterator[Front]:
    found = Front()
    app = web.Application()
    app.router.add_post("/oauth2/token", found._token)
    app.router.add_post("/v1/adapters/{id}/heartbeat", found._beat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()
