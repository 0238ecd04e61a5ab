"""The demo's world: database, broker, stand-in systems, gateway and adapters as processes."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson

from ngsp.database import migrate
from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from ngsp.registry.apply import run_apply
from ngsp.text import tr

REGISTRY = Path(__file__).parent / "registry"
ADAPTERS = (
    "adapters.g22_catalogue.adapter",
    "adapters.g12_enterprise.adapter",
    "adapters.g01_population.adapter",
    "adapters.h41_civil_registry.adapter",
)
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0

Say = Callable[[str], None]


class WorldError(Exception):
    """Something of the demo's world did not come up; the message says what and where its log is."""


class World:
    """Owns every process of the demo. `open` to start, `close` to end them all, in the reverse order."""

    def __init__(self, data: Path, port: int, kafka: str | None, database: str | None, say: Say) -> None:
        self.data, self._kafka, self._database, self._say = data.absolute(), kafka, database, say
        self.port = port
        self.base_url = ""
        self.database_url = ""
        self.provider_url = ""
        self._stack = AsyncExitStack()
        self.processes: dict[str, asyncio.subprocess.Process] = {}

    async def open(self) -> None:
        for folder in ("secrets", "logs", "registry"):
            (self.data / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._open_databases()
        bootstrap = await self._open_broker() if self._kafka else ""
        self.port = self.port or free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        await self._apply_registry()
        enterprise_url = await self._open_enterprise_registry()
        await self._open_gateway(bootstrap, enterprise_url)
        if bootstrap:
            await self._open_adapters(bootstrap, enterprise_url)

    async def close(self) -> None:
        await self._stack.aclose()

    async def _open_databases(self) -> None:
        if self._database:
            self.database_url = self.provider_url = self._database
        else:
            self._say(tr("Khởi động PostgreSQL nhúng …", "Starting the embedded PostgreSQL …"))
            server = LocalPostgres(self.data / "postgres", say=self._say)
            await server.start()
            self._stack.push_async_callback(server.stop)
            for name in ("ngsp", "h41_registry"):
                await server.create_database(name)
            self.database_url, self.provider_url = server.url("ngsp"), server.url("h41_registry")
        await migrate(self.database_url)

    async def _open_broker(self) -> str:
        if self._kafka and self._kafka != "local":
            return self._kafka
        self._say(tr("Khởi động Apache Kafka …", "Starting Apache Kafka …"))
        broker = LocalKafka(self.data / "kafka", say=self._say)
        await broker.start()
        self._stack.push_async_callback(broker.stop)
        return broker.bootstrap

    async def _apply_registry(self) -> None:
        """Members, clients, adapters with their services, and agreements, from the same YAML that anyone may read."""
        self._say(tr("Nạp danh bạ (cơ quan, hệ thống, thỏa thuận) …", "Applying the registry …"))
        target = self.data / "registry"
        for document in sorted(REGISTRY.glob("*.yaml")):
            shutil.copy(document, target / document.name)
        log = self.data / "logs" / "registry.log"
        with log.open("w", encoding="utf-8") as out:
            failed = await asyncio.to_thread(run_apply, target, self.database_url, False, out)
        if failed:
            raise WorldError(tr(f"Danh bạ không nạp được, xem {log}", f"The registry was not applied, see {log}"))

    def secret_of(self, client: str) -> str:
        return (self.data / "secrets" / f"{client}.secret").read_text("ascii").strip()

    def key_file(self, name: str) -> Path:
        """A file with 32 random bytes in base64, made at the first start, readable by its owner only."""
        path = self.data / "secrets" / f"{name}.key"
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(base64.b64encode(secrets.token_bytes(32)))
        return path

    async def _open_enterprise_registry(self) -> str:
        ready = self.data / "enterprise-registry.json"
        ready.unlink(missing_ok=True)
        await self._start(
            "enterprise-registry",
            ["-m", "adapters.g12_enterprise.registry_server", "--ready-file", str(ready)],
            {},
        )
        await self._until("enterprise-registry", lambda: asyncio.to_thread(ready.exists))
        found: dict[str, Any] = orjson.loads(ready.read_bytes())
        return str(found["url"])

    async def _open_gateway(self, bootstrap: str, enterprise_url: str) -> None:
        self._say(tr("Khởi động cổng …", "Starting the gateway …"))
        environment = {
            "NGSP_DATABASE_URL": self.database_url,
            "NGSP_KEK_FILE": str(self.key_file("kek")),
            "NGSP_PORT": str(self.port),
            "NGSP_ISSUER": self.base_url,
            "NGSP_INSTANCE": "demo-1",
            "NGSP_BUS": "kafka" if bootstrap else "embedded",
            "NGSP_KAFKA_BOOTSTRAP": bootstrap,
        }
        if not bootstrap:
            environment |= {
                "NGSP_ADAPTERS": ",".join(ADAPTERS),
                "NGSP_ADAPTER_FOLDER": str(self.data / "adapters"),
                "NGSP_G12_REGISTRY_URL": enterprise_url,
                "NGSP_H41_DATABASE_URL": self.provider_url,
            }
        await self._start("gateway", ["-m", "ngsp", "serve"], environment)
        await self._until("gateway", self._gateway_is_ready)

    async def _gateway_is_ready(self) -> bool:
        try:
            async with httpx.AsyncClient(timeout=2.0) as client:
                return (await client.get(f"{self.base_url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _open_adapters(self, bootstrap: str, enterprise_url: str) -> None:
        self._say(tr("Khởi động các bộ kết nối …", "Starting the adapters …"))
        for module in ADAPTERS:
            name = module.split(".")[1].replace("_", "-")
            environment = {
                "NGSP_ADAPTER_KAFKA_BOOTSTRAP": bootstrap,
                "NGSP_ADAPTER_KEY_FILE": str(self.key_file(f"adapter-{name}")),
                "NGSP_ADAPTER_FOLDER": str(self.data / "adapters"),
                "NGSP_ADAPTER_GATEWAY_URL": self.base_url,
                "NGSP_ADAPTER_CLIENT_ID": name,
                "NGSP_ADAPTER_CLIENT_SECRET_FILE": str(self.data / "secrets" / f"{name}.secret"),
                "NGSP_G12_REGISTRY_URL": enterprise_url,
                "NGSP_H41_DATABASE_URL": self.provider_url,
            }
            await self._start(name, ["-m", "ngsp", "adapter", "run", module], environment)
        for module in ADAPTERS:
            name = module.split(".")[1].replace("_", "-")
            serving = partial(_contains, self.data / "logs" / f"{name}.log", b"adapter serves")
            await self._until(name, partial(asyncio.to_thread, serving))

    async def _start(self, name: str, arguments: list[str], environment: dict[str, str]) -> None:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("NGSP_")}
        with (self.data / "logs" / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                env=inherited | {"PYTHONUNBUFFERED": "1"} | environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[name] = process
        self._stack.push_async_callback(self._end, process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()

    async def _until(self, name: str, ready: Callable[[], Awaitable[bool]]) -> None:
        """Wait until `ready`; WorldError where the process ended or took too long."""
        log = self.data / "logs" / f"{name}.log"
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await ready():
                    if self.processes[name].returncode is not None:
                        raise WorldError(tr(f"«{name}» đã dừng, xem {log}", f"'{name}' has ended, see {log}"))
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise WorldError(tr(f"«{name}» không sẵn sàng, xem {log}", f"'{name}' is not ready, see {log}")) from None


def _contains(path: Path, marker: bytes) -> bool:
    return marker in path.read_bytes()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
