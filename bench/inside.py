"""A whole gateway in the process of the bench, called at its ASGI interface: no client and no socket to be measured."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from ngsp.adapter import Adapter
from ngsp.api.front import FrontDoor
from ngsp.app import create_app
from ngsp.config import Settings
from ngsp.database import migrate
from ngsp.local.postgres import LocalPostgres
from ngsp.registry.apply import run_apply


@dataclass(frozen=True, slots=True)
class Inside:
    """The gateway at work. `folder` has its clients' secrets."""

    door: FrontDoor
    url: str
    folder: Path

    def secret(self, client: str) -> str:
        return (self.folder / f"{client}.secret").read_text("ascii").strip()

    async def bearer(self, client: str) -> dict[str, str]:
        """The header with a token of `client`."""
        basic = base64.b64encode(f"{client}:{self.secret(client)}".encode()).decode()
        form = {"authorization": f"Basic {basic}", "content-type": "application/x-www-form-urlencoded"}
        _, answer = await ask(self.door, "POST", "/oauth2/token", form, b"grant_type=client_credentials")
        return {"authorization": f"Bearer {orjson.loads(answer)['access_token']}"}


async def ask(
    door: FrontDoor, method: str, path: str, headers: dict[str, str], body: bytes = b"", query: bytes = b""
) -> tuple[int, bytes]:
    """One request at the ASGI interface: status and body."""
    answered: list[Any] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": query, "client": ("127.0.0.1", 40_000),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        answered.append(message)

    await door(scope, receive, send)
    return answered[0]["status"], b"".join(message.get("body", b"") for message in answered[1:])


@asynccontextmanager
async def gateway_inside(
    folder: Path, documents: Sequence[dict[str, Any]], adapters: Sequence[Adapter], **others: Any
) -> AsyncIterator[Inside]:
    """Over a real PostgreSQL and the bus inside the process. `documents`: of the registry; `others`: settings."""
    declared = folder / "registry.yaml"
    declared.write_text("---\n".join(orjson.dumps(one).decode() + "\n" for one in documents), "utf-8")
    async with LocalPostgres(folder / "postgres") as server:
        await server.create_database("bench")
        url = server.url("bench")
        await migrate(url)
        with (folder / "registry.log").open("w") as out:
            if await asyncio.to_thread(run_apply, declared, url, False, out):
                raise RuntimeError((folder / "registry.log").read_text())
        given: dict[str, Any] = {"database_url": url, "kek": base64.b64encode(bytes(range(32))).decode()} | others
        settings = Settings(**given, adapter_folder=folder / "adapters", log_level="WARNING", max_log_wait_s=10)
        door = create_app(settings, adapters)
        async with _living(door):
            yield Inside(door, url, folder)


@asynccontextmanager
async def _living(door: FrontDoor) -> AsyncIterator[None]:
    """ASGI's lifespan around what is done inside."""
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.ensure_future(door({"type": "lifespan", "state": {}}, said.get, heard.put))
    for phase in ("startup", "shutdown"):
        await said.put({"type": f"lifespan.{phase}"})
        answer = await heard.get()
        if answer["type"] != f"lifespan.{phase}.complete":
            raise RuntimeError(answer.get("message", phase))
        if phase == "startup":
            try:
                yield
            except BaseException:
                task.cancel()
                raise
    await task
