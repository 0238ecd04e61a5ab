"""The full path as a target of the bench."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from bench.floor.target import BODY
from bench.plan import RequestPlan
from ngsp.database import migrate
from ngsp.local.kafka import LocalKafka
from ngsp.local.ports import free_port
from ngsp.local.postgres import LocalPostgres
from ngsp.local.programs import Programs, key_file
from ngsp.registry.apply import run_apply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

DATABASE = "bench_full"
SERVICE = "/v1/services/G12/echo/v1"


@asynccontextmanager
async def full_path(say: Callable[[str], None]) -> AsyncIterator[tuple[FullTarget, dict[str, int]]]:
    """The path with servers of its own, all put away again; and the servers' process ids, by name."""
    folder = Path(tempfile.mkdtemp(prefix="ngsp-bench-"))
    postgres, kafka, target = LocalPostgres(folder, say), LocalKafka(folder, say), FullTarget()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, shutil.rmtree, folder, ignore_errors=True)
        for server in (postgres, kafka):
            await server.start()
            stack.push_async_callback(server.remove)
        stack.push_async_callback(target.stop)
        await target.start(postgres, kafka)
        yield target, {"postgres": postgres.pid or 0, "kafka": kafka.pid or 0}


class FullTarget:
    name = "full"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ngsp-bench-"))
        self._programs = Programs(self._folder / "logs")
        self._port = free_port()

    async def start(self, postgres: LocalPostgres, kafka: LocalKafka) -> None:
        await postgres.create_database(DATABASE)
        url = postgres.url(DATABASE)
        await migrate(url)
        await self._apply_registry(url)
        base_url = f"http://127.0.0.1:{self._port}"
        gateway = {
            "NGSP_DATABASE_URL": url,
            "NGSP_KEK_FILE": str(key_file(self._folder / "kek.key")),
            "NGSP_PORT": str(self._port),
            "NGSP_ISSUER": base_url,
            "NGSP_BUS": "kafka",
            "NGSP_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "NGSP_KAFKA_PARTITIONS": "1",
            "NGSP_LOG_LEVEL": "WARNING",
        }
        await self._programs.start("gateway", ["-m", "ngsp", "serve"], gateway)
        await self._programs.until("gateway", self._answers)
        adapter = {
            "NGSP_ADAPTER_KAFKA_BOOTSTRAP": kafka.bootstrap,
            "NGSP_ADAPTER_KEY_FILE": str(key_file(self._folder / "adapter.key")),
        }
        await self._programs.start("adapter", ["-m", "ngsp", "adapter", "run", "bench.full.adapter"], adapter)
        await self._programs.until("adapter", self._answers_calls)

    async def _apply_registry(self, url: str) -> None:
        for name in ("registry.yaml", "manifest.yaml"):
            shutil.copy(Path(__file__).with_name(name), self._folder / name)
        failed = await asyncio.to_thread(run_apply, self._folder / "registry.yaml", url, False, sys.stderr)
        if failed:
            raise RuntimeError("the bench's registry was not applied")

    async def _answers(self) -> bool:
        try:
            async with httpx.AsyncClient() as client:
                return (await client.get(f"http://127.0.0.1:{self._port}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _answers_calls(self) -> bool:
        port, plan = await self.request()
        async with httpx.AsyncClient(timeout=5) as client:
            headers = plan.headers | {"Prefer": "wait=1"}
            answer = await client.post(f"http://127.0.0.1:{port}{plan.path}", content=plan.bodies[0], headers=headers)
        return answer.status_code == 200

    async def request(self, who: str = "bench") -> tuple[int, RequestPlan]:
        secret = await asyncio.to_thread(partial((self._folder / f"{who}.secret").read_text, "ascii"))
        async with httpx.AsyncClient() as client:
            answer = await client.post(
                f"http://127.0.0.1:{self._port}/oauth2/token",
                data={"grant_type": "client_credentials"},
                auth=(who, secret.strip()),
            )
        answer.raise_for_status()
        headers = {
            "Authorization": f"Bearer {answer.json()['access_token']}",
            "Content-Type": "application/json",
            "Ngsp-Purpose": "measurement",
        }
        return self._port, RequestPlan("POST", SERVICE, headers, (BODY,))

    def processes(self) -> Mapping[str, int]:
        return {name: process.pid for name, process in self._programs.running.items()}

    async def stop(self) -> None:
        await self._programs.stop_all()
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)
