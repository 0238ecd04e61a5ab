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
    """`beats`: the heartbeats so far. `registered`: the adapters that came with a manifest, each time. `off_s`: how far
    its clock is ahead of this machine's."""

    url: str = ""
    off_s: float = 0.0
    beats: list[dict[str, Any]] = field(default_factory=list)
    registering: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """What registrations are answered with, in turn; then 200."""
    registered: list[str] = field(default_factory=list)

    async def _token(self, request: web.Request) -> web.Response:
        return self._answer({"access_token": "a-token", "token_type": "Bearer", "expires_in": 600})

    async def _beat(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != "Bearer a-token":
            return self._answer({}, 401)
        self.beats.append(await request.json())
        return self._answer({"state": "online", "differing": []})

    async def _manifest(self, request: web.Request) -> web.Response:
        self.registered.append((await request.json())["id"])
        status, body = self.registering.pop(0) if self.registering else (200, {})
        return self._answer(body, status)

    def _answer(self, body: dict[str, Any], status: int = 200) -> web.Response:
        date = formatdate(time.time() + self.off_s, usegmt=True)
        kind = "application/json" if status < 400 else "application/problem+json"
        return web.json_response(body, status=status, headers={"Date": date}, content_type=kind)


@asynccontextmanager
async def front() -> AsyncIterator[Front]:
    found = Front()
    app = web.Application()
    app.router.add_post("/oauth2/token", found._token)
    app.router.add_post("/v1/adapters/{id}/heartbeat", found._beat)
    app.router.add_put("/v1/adapters/{id}", found._manifest)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()
