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

from ngsp.client.wire import trusted
from ngsp.database import migrate
from ngsp.demo.systems import ADAPTERS, DATABASES, PROGRAMS, PROVIDER_DATABASE
from ngsp.local.kafka import LocalKafka
from ngsp.local.ports import free_port
from ngsp.local.postgres import SUPERUSER, LocalPostgres
from ngsp.local.process import LocalServerError
from ngsp.local.programs import Programs, key_file
from ngsp.registry.apply import run_apply
from ngsp.text import Text, tr

ROOT = Path(__file__).parents[2]
REGISTRY = Path(__file__).parent / "registry"
SYSTEMS, FILLING = "systems", "databases"
"""Programs of the demo, by their logs."""
ALL = "systems.json"
"""Written when all systems have their records."""
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
        self._databases: dict[str, str] = {}
        """What the adapters are told of the providers' databases."""
        self._owners: dict[str, str] = {}
        self._servers = AsyncExitStack()

    async def open(self) -> None:
        """What takes long by itself is begun early and waited for late."""
        for folder in ("secrets", "logs", "registry", "systems"):
            (self.data / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        await self._begin_systems()
        await self._open_databases()
        self.bootstrap = bootstrap = await self._open_broker() if self._kafka else ""
        await self._begin_filling()
        await self._apply_registry()
        systems = await self._systems_told()
        await self._filled()
        await self._open_gateway(bootstrap, systems)
        if bootstrap:
            await self._open_adapters(bootstrap, systems)
        await self.programs.until(SYSTEMS, partial(asyncio.to_thread, (self._told / ALL).exists))

    async def close(self) -> None:
        await self.programs.stop_all()
        await self._servers.aclose()

    async def _open_databases(self) -> None:
        if self._database:
            self.database_url = self.provider_url = self._database
            self._databases = {database.variable: self._database for database in DATABASES}
            self._owners = {database.name: self._database for database in DATABASES}
        else:
            self._say(tr("Khởi động PostgreSQL nhúng …", "Starting the embedded PostgreSQL …"))
            server = LocalPostgres(self.data / "postgres", say=self._say)
            await server.start()
            self._servers.push_async_callback(server.stop)
            names = ("ngsp", *(database.name for database in DATABASES))
            await asyncio.gather(*(server.create_database(name) for name in names))
            self.database_url, self.provider_url = server.url("ngsp"), server.url(PROVIDER_DATABASE)
            self._owners = {database.name: server.url(database.name) for database in DATABASES}
            self._databases = {
                database.variable: server.url(database.name, database.user or SUPERUSER) for database in DATABASES
            }
        await migrate(self.database_url)

    async def _open_broker(self) -> str:
        if self._kafka and self._kafka != "local":
            return self._kafka
        self._say(tr("Khởi động Apache Kafka …", "Starting Apache Kafka …"))
        broker = LocalKafka(self.data / "kafka", say=self._say)
        await broker.start()
        self._servers.push_async_callback(broker.stop)
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

    @property
    def _told(self) -> Path:
        """Where the stand-ins tell how they are reached."""
        return self.data / "systems"

    def told(self, program: str) -> dict[str, Any]:
        """What a stand-in that listens has told: its address, its client and the file of the client's secret."""
        found: dict[str, Any] = orjson.loads((self._told / f"{program}.json").read_bytes())
        return found

    async def _begin_systems(self) -> None:
        """The providers' systems, in one process; it goes on making their records while all else is started."""
        self._say(tr("Khởi động các hệ thống của nơi cung cấp …", "Starting the providers' systems …"))
        for name in (ALL, *(f"{program.name}.json" for program in PROGRAMS)):
            (self._told / name).unlink(missing_ok=True)
        which = [f"{program.name}={program.module}" for program in PROGRAMS]
        await self.programs.start(SYSTEMS, ["-m", "adapters.stand_in", "--folder", str(self._told), *which], {})

    async def _systems_told(self) -> dict[str, str]:
        """What the adapters are told of the systems, which listen by then."""
        found = {"NGSP_ADAPTER_ALLOWED_NETWORKS": "127.0.0.1/32"}
        found["NGSP_G22_MEMBERS_FILE"] = str(REGISTRY / "members.yaml")
        for program in PROGRAMS:
            ready = self._told / f"{program.name}.json"
            await self.programs.until(SYSTEMS, partial(asyncio.to_thread, ready.exists))
            told = await asyncio.to_thread(self.told, program.name)
            found |= {variable: str(told[member]) for variable, member in program.variables.items()}
        return self._databases | found

    async def _begin_filling(self) -> None:
        filled = [database for database in DATABASES if database.filled_by]
        which = [f"{database.filled_by}={database.variable}" for database in filled]
        urls = {database.variable: self._owners[database.name] for database in filled}
        await self.programs.start(FILLING, ["-m", "adapters.stand_in.databases", *which], urls)

    async def _filled(self) -> None:
        if await self.programs.running.pop(FILLING).wait():
            raise LocalServerError(
                Text(
                    "Dữ liệu của nơi cung cấp không nạp được, xem {log}",
                    "The providers' data were not filled in, see {log}",
                ).format(log=self.programs.log(FILLING))
            )

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
            "NGSP_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
        }
        if not bootstrap:
            inside = {"NGSP_ADAPTERS": ",".join(ADAPTERS.values()), "NGSP_ADAPTER_FOLDER": str(self.data / "adapters")}
            environment |= inside | systems
        await self.programs.start("gateway", ["-m", "ngsp", "serve"], environment)
        async with httpx.AsyncClient(timeout=2.0, verify=trusted(self.base_url)) as client:
            await self.programs.until("gateway", partial(self._gateway_is_ready, client))

    async def _gateway_is_ready(self, client: httpx.AsyncClient) -> bool:
        try:
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
