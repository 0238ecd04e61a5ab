"""A whole gateway in the process of the bench, called at its ASGI interface: no client and no socket to be measured."""

from __future__ import annotations

import argparse
import asyncio
import base64
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import uvloop

from bench.adapters.figures import Figure
from bench.figures import median
from bench.machine import commit, machine
from ngsp.adapter import Adapter
from ngsp.api.front import FrontDoor
from ngsp.app import create_app
from ngsp.config import Settings
from ngsp.database import migrate
from ngsp.local.postgres import LocalPostgres
from ngsp.registry.apply import run_apply
from ngsp.text import tr

Measure = Callable[[Path, bool], Coroutine[Any, Any, list[Figure]]]
"""Measures in a folder of its own, which goes afterwards; True: short and rough."""


def measured(name: str, about: str | None, measure: Measure, arguments: Sequence[str] | None) -> list[Figure]:
    """What `python -m bench {name}` measures; says before it on what."""
    parser = argparse.ArgumentParser(prog=f"python -m bench {name}", description=about)
    parser.add_argument("--quick", action="store_true", help=tr("ngắn và thô", "short and rough"))
    chosen = parser.parse_args(arguments)
    print(f"{tr('bản', 'commit')} {commit()}; {machine()}")
    with tempfile.TemporaryDirectory(prefix="ngsp-bench-", ignore_cleanup_errors=True) as folder:
        return uvloop.run(measure(Path(folder), chosen.quick))


def medians(taken: Mapping[str, Sequence[tuple[float, float]]]) -> list[Figure]:
    """`taken`: by subject, processor time in µs and calls a second of each run."""
    return [
        Figure(name, median([cpu for cpu, _ in found]), median([rate for _, rate in found]))
        for name, found in taken.items()
    ]


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
