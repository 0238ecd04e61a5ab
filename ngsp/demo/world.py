"""The demo's world: database, broker, stand-in systems, gateway and adapters as processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import orjson

from ngsp.database import migrate
from ngsp.demo.systems import ADAPTERS, DATABASES, PROGRAMS, PROVIDER_DATABASE, Database, Program
from ngsp.local.kafka import LocalKafka
from ngsp.local.ports import free_port
from ngsp.local.postgres import SUPERUSER, LocalPostgres
from ngsp.local.process import LocalServerError
from ngsp.local.programs import Programs, key_file
from ngsp.registry.apply import run_apply
from ngsp.text import Text, tr

ROOT = Path(__file__).parents[2]
REGISTRY = Path(__file__).parent / "registry"
Say = Callable[[str], None]


class World:
    """Owns every process of the demo. `open` to start, `close` to end them all, in the reverse order."""

    def __init__(self, data: Path, port: int, kafka: str | None, database: str | None, say: Say) -> None:
        self.data, self._kafka, self._database, self._say = data.absolute(), kafka, database, say
        self.programs = Programs(self.data / "logs")
        self.base_url = f"http://127.0.0.1:{port or free_port()}"
        self.database_url = ""
        self.provider_url = ""
        self.bootstrap = ""
        self._systems: dict[str, str] = {}
        self._owners: dict[str, str] = {}
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        for folder in ("secrets", "logs", "registry"):
            (self.data / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._open_databases()
        self.bootstrap = bootstrap = await self._open_broker() if self._kafka else ""
        await self._apply_registry()
        self._stack.push_async_callback(self.programs.stop_all)
        systems = await self._open_systems()
        await self._open_gateway(bootstrap, systems)
        if bootstrap:
            await self._open_adapters(bootstrap, systems)

    async def close(self) -> None:
        await self._stack.aclose()

    async def _open_databases(self) -> None:
        if self._database:
            self.database_url = self.provider_url = self._database
            self._systems = {database.variable: self._database for database in DATABASES}
            self._owners = {database.name: self._database for database in DATABASES}
        else:
            self._say(tr("Khởi động PostgreSQL nhúng …", "Starting the embedded PostgreSQL …"))
            server = LocalPostgres(self.data / "postgres", say=self._say)
            await server.start()
            self._stack.push_async_callback(server.stop)
            for name in ("ngsp", *(database.name for database in DATABASES)):
                await server.create_database(name)
            self.database_url, self.provider_url = server.url("ngsp"), server.url(PROVIDER_DATABASE)
            self._owners = {database.name: server.url(database.name) for database in DATABASES}
            self._systems = {
                database.variable: server.url(database.name, database.user or SUPERUSER) for database in DATABASES
            }
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
        """Members, clients, adapters with their services, and agreements, from YAML that anyone may read."""
        self._say(tr("Nạp danh bạ (cơ quan, hệ thống, thỏa thuận) …", "Applying the registry …"))
        target = self.data / "registry"
        for document in sorted(REGISTRY.glob("*.yaml")):
            text = document.read_text("utf-8").replace("manifest: ../../../", f"manifest: {ROOT}/")
            (target / document.name).write_text(text, "utf-8")
        log = self.data / "logs" / "registry.log"
        with log.open("w", encoding="utf-8") as out:
            failed = await asyncio.to_thread(run_apply, target, self.database_url, False, out)
        if failed:
            raise LocalServerError(
                Text("Danh bạ không nạp được, xem {log}", "The registry was not applied, see {log}").format(log=log)
            )

    def secret_file(self, client: str) -> Path:
        return self.data / "secrets" / f"{client}.secret"

    def secret_of(self, client: str) -> str:
        return self.secret_file(client).read_text("ascii").strip()

    async def _open_systems(self) -> dict[str, str]:
        """The providers' systems, all at once; what the adapters are told of them."""
        self._say(tr("Khởi động các hệ thống của nơi cung cấp …", "Starting the providers' systems …"))
        told = await asyncio.gather(
            *(self._open_program(program) for program in PROGRAMS),
            *(self._fill(database) for database in DATABASES if database.filled_by),
        )
        common = {
            "NGSP_ADAPTER_ALLOWED_NETWORKS": "127.0.0.1/32",
            "NGSP_G22_MEMBERS_FILE": str(REGISTRY / "members.yaml"),
        }
        return self._systems | common | {name: value for found in told for name, value in found.items()}

    async def _open_program(self, program: Program) -> dict[str, str]:
        ready = self.data / f"{program.name}.json"
        ready.unlink(missing_ok=True)
        await self.programs.start(program.name, ["-m", program.module, "--ready-file", str(ready)], program.environment)
        await self.programs.until(program.name, partial(asyncio.to_thread, ready.exists))
        found: dict[str, Any] = orjson.loads(ready.read_bytes())
        return {variable: str(found[member]) for variable, member in program.variables.items()}

    async def _fill(self, database: Database) -> dict[str, str]:
        """Runs what fills the database to its end."""
        arguments = ["-m", database.filled_by, "--database-url-env", "DATABASE_URL"]
        await self.programs.start(database.name, arguments, {"DATABASE_URL": self._owners[database.name]})
        if await self.programs.running.pop(database.name).wait():
            log = self.programs.log(database.name)
            raise LocalServerError(
                Text("«{name}» không nạp được, xem {log}", "'{name}' was not filled, see {log}").format(
                    name=database.name, log=log
                )
            )
        return {}

    async def _open_gateway(self, bootstrap: str, systems: dict[str, str]) -> None:
        self._say(tr("Khởi động cổng …", "Starting the gateway …"))
        environment = {
            "NGSP_DATABASE_URL": self.database_url,
            "NGSP_KEK_FILE": str(key_file(self.data / "secrets" / "kek.key")),
            "NGSP_PORT": self.base_url.rpartition(":")[2],
            "NGSP_ISSUER": self.base_url,
            "NGSP_INSTANCE": "demo-1",
            "NGSP_BUS": "kafka" if bootstrap else "embedded",
            "NGSP_KAFKA_BOOTSTRAP": bootstrap,
        }
        if not bootstrap:
            inside = {"NGSP_ADAPTERS": ",".join(ADAPTERS.values()), "NGSP_ADAPTER_FOLDER": str(self.data / "adapters")}
            environment |= inside | systems
        await self.programs.start("gateway", ["-m", "ngsp", "serve"], environment)
        await self.programs.until("gateway", self._gateway_is_ready)

    async def _gateway_is_ready(self) -> bool:
        try:
            async with httpx.AsyncClient(timeout=2.0) as client:
                return (await client.get(f"{self.base_url}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def _open_adapters(self, bootstrap: str, systems: dict[str, str]) -> None:
        self._say(tr("Khởi động các bộ kết nối …", "Starting the adapters …"))
        for name, module in ADAPTERS.items():
            environment = {
                "NGSP_ADAPTER_KAFKA_BOOTSTRAP": bootstrap,
                "NGSP_ADAPTER_KEY_FILE": str(key_file(self.data / "secrets" / f"{name}.key")),
                "NGSP_ADAPTER_FOLDER": str(self.data / "adapters"),
                "NGSP_ADAPTER_GATEWAY_URL": self.base_url,
                "NGSP_ADAPTER_CLIENT_ID": name,
                "NGSP_ADAPTER_CLIENT_SECRET_FILE": str(self.secret_file(name)),
            }
            self.programs.log(name).unlink(missing_ok=True)
            await self.programs.start(name, ["-m", "ngsp", "adapter", "run", module], environment | systems)
        for name in ADAPTERS:
            serving = partial(_contains, self.programs.log(name), b"adapter serves")
            await self.programs.until(name, partial(asyncio.to_thread, serving))


def _contains(path: Path, marker: bytes) -> bool:
    return marker in path.read_bytes()
