"""An installation as it is deployed: gateways and adapters as processes over a real PostgreSQL and a real Kafka.

Every part has a name, under which it is started, stopped (SIGTERM) and killed (SIGKILL): `postgres`, `kafka`,
`gateway-1` … and the adapters by the names they are given. A part that ends before it is ready is started anew, as a
service manager would, because what it needs may be down itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import asyncpg
import httpx
import orjson
from aiokafka.admin import AIOKafkaAdminClient

from ngsp.local.kafka import LocalKafka
from ngsp.local.ports import free_port
from ngsp.local.postgres import LocalPostgres
from ngsp.local.process import LocalServerError
from ngsp.local.programs import Programs, key_file
from ngsp.registry.apply import run_apply
from tests.support.registry import migrated_database

ROOT = Path(__file__).parents[2]
POSTGRES, KAFKA = "postgres", "kafka"
READY_TIMEOUT_S = 90.0
RESTART_PAUSE_S = 0.2
TOKEN_AGE_S = 300.0
LOST = (OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError,
        asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError)  # fmt: skip

QUICK: Mapping[str, str] = {
    "NGSP_LEASE_S": "3",
    "NGSP_SWEEP_S": "0.3",
    "NGSP_PROJECT_S": "0.2",
    "NGSP_REDELIVER_S": "2",
    "NGSP_RETRY_MIN_S": "0.2",
    "NGSP_RETRY_MAX_S": "4",
    "NGSP_DATABASE_POOL_SIZE": "4",
    "NGSP_KAFKA_PARTITIONS": "2",
    "NGSP_DRAIN_TIMEOUT_S": "15",
    "NGSP_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
}
"""Settings of the gateways that make what is waited for come soon; `settings` adds to them."""


class Installation:
    """`open` to start it all, `close` to end the programs; PostgreSQL and Kafka stay, they are the caller's.

    `registry`: a YAML file, its paths relative to it; secrets are written below `folder`. `adapters`: name → module.
    `adapter_settings`: environment of the adapters. The broker is one installation's at a time: the topics that an
    earlier one left are deleted. The databases are its own.
    """

    def __init__(
        self,
        folder: Path,
        postgres: LocalPostgres,
        kafka: LocalKafka,
        *,
        registry: Path,
        adapters: Mapping[str, str],
        gateways: int = 2,
        settings: Mapping[str, str] | None = None,
        adapter_settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.postgres, self.kafka = folder, postgres, kafka
        self.programs = Programs(folder / "logs")
        self.ports = {f"gateway-{number}": free_port() for number in range(1, gateways + 1)}
        self.adapters = dict(adapters)
        self.database_url = ""
        self.environment: dict[str, str] = {}
        """Further environment of the adapters; set before they start."""
        self._registry, self._settings = registry, dict(settings or {})
        self.environment.update(adapter_settings or {})
        self._tokens: dict[str, tuple[str, float]] = {}
        self._connections: dict[str, asyncpg.Connection] = {}
        self._asking = asyncio.Lock()
        self._closed = False
        self._http = httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=30.0)

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def gateways(self) -> list[str]:
        return list(self.ports)

    async def open(self) -> None:
        self.database_url = self.database_url or await migrated_database(self.postgres)
        await self._delete_topics()
        await asyncio.to_thread(self._apply_registry)
        first, *others = self.ports
        await self.start(first)  # makes the topics
        await asyncio.gather(*(self.start(name) for name in (*others, *self.adapters)))

    async def close(self) -> None:
        await asyncio.gather(*map(self.stop, list(self.programs.running)))
        await self._http.aclose()
        self._closed = True
        for connection in self._connections.values():
            connection.terminate()

    # Parts

    async def start(self, name: str) -> None:
        """Returns once `name` is ready. LocalServerError where it is not within 90 s, however often it was started."""
        if name == POSTGRES:
            await self.postgres.start()
        elif name == KAFKA:
            await self.kafka.start()
        else:
            await self._start_program(name)

    async def stop(self, name: str) -> int:
        """SIGTERM to a gateway or an adapter; its exit code."""
        return await self.programs.stop(name)

    async def kill(self, name: str) -> None:
        """SIGKILL, to every process of it."""
        if name == POSTGRES:
            self.postgres.kill()
        elif name == KAFKA:
            self.kafka.kill()
        else:
            await self.programs.kill(name)

    def running(self, name: str) -> bool:
        if name in (POSTGRES, KAFKA):
            return (self.postgres if name == POSTGRES else self.kafka).pid is not None
        process = self.programs.running.get(name)
        return process is not None and process.returncode is None

    async def _start_program(self, name: str) -> None:
        end = time.monotonic() + READY_TIMEOUT_S
        while True:
            ready: Callable[[], Awaitable[bool]]
            if name in self.ports:
                arguments, environment = ["-m", "ngsp", "serve"], self.gateway_environment(name)
                ready = partial(self.ready, name)
            else:
                arguments = ["-m", "ngsp", "adapter", "run", self.adapters[name]]
                environment, ready = self._adapter_environment(name), self._serves(name)
            await self.programs.start(name, arguments, {"PYTHONPATH": str(ROOT)} | environment)
            try:
                await self.programs.until(name, ready, max(1.0, end - time.monotonic()))
            except LocalServerError:
                if self.running(name) or time.monotonic() > end:
                    raise
                await asyncio.sleep(RESTART_PAUSE_S)
            else:
                return

    def gateway_environment(self, name: str) -> dict[str, str]:
        """Environment of the gateway `name`; all share an issuer, so that a token of one is good at each."""
        return {
            **QUICK,
            "NGSP_INSTANCE": name,
            "NGSP_PORT": str(self.ports[name]),
            "NGSP_ISSUER": self.url("gateway-1"),
            "NGSP_DATABASE_URL": self.database_url,
            "NGSP_KEK_FILE": str(key_file(self.folder / "kek.key")),
            "NGSP_BUS": "kafka",
            "NGSP_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            **self._settings,
        }

    def _adapter_environment(self, name: str) -> dict[str, str]:
        return {
            "NGSP_ADAPTER_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "NGSP_ADAPTER_KEY_FILE": str(key_file(self.folder / "adapter.key")),
            "NGSP_ADAPTER_FOLDER": str(self.folder / "adapters"),
            "NGSP_ADAPTER_DRAIN_TIMEOUT_S": "15",
            **self.environment,
        }

    def url(self, gateway: str) -> str:
        return f"http://127.0.0.1:{self.ports[gateway]}"

    async def ready(self, gateway: str) -> bool:
        """What `/readyz` says; False where nobody answers."""
        try:
            return (await self._http.get(f"{self.url(gateway)}/readyz", timeout=2.0)).status_code == 200
        except httpx.HTTPError:
            return False

    def _serves(self, name: str) -> Callable[[], Awaitable[bool]]:
        log = self.programs.log(name)
        before = log.stat().st_size if log.exists() else 0

        def found() -> bool:
            with log.open("rb") as lines:
                lines.seek(before)
                return b"adapter serves" in lines.read()

        return partial(asyncio.to_thread, found)

    # Registry and broker

    def _apply_registry(self) -> None:
        target = self.folder / "registry"
        target.mkdir(parents=True, exist_ok=True)
        here = self._registry.parent
        text = self._registry.read_text("utf-8").replace("manifest: ", f"manifest: {here}{os.sep}")
        (target / self._registry.name).write_text(text, "utf-8")
        with (self.folder / "registry.log").open("w", encoding="utf-8") as out:
            failed = run_apply(target / self._registry.name, self.database_url, False, out)
        if failed:
            raise RuntimeError((self.folder / "registry.log").read_text("utf-8"))

    async def delete_topics(self, topics: Sequence[str]) -> None:
        """Whole topics, with every message in them and every group's place in them."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        await admin.start()
        try:
            await admin.delete_topics(list(topics))
        finally:
            await admin.close()

    async def topics(self) -> list[str]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka.bootstrap)
        await admin.start()
        try:
            return sorted(name for name in await admin.list_topics() if name.startswith("ngsp."))
        finally:
            await admin.close()

    async def _delete_topics(self) -> None:
        left = await self.topics()
        if left:
            await self.delete_topics(left)

    # Calls

    async def token(self, client: str = "portal") -> str:
        """A token that is good for some minutes yet, from whichever gateway gives one. httpx.HTTPError where none."""
        known = self._tokens.get(client)
        if known and time.monotonic() - known[1] < TOKEN_AGE_S:
            return known[0]
        secret = (self.folder / "registry" / f"{client}.secret").read_text("ascii").strip()
        form = {"grant_type": "client_credentials"}
        error: httpx.HTTPError | None = None
        for gateway in self.ports:
            try:
                answer = await self._http.post(f"{self.url(gateway)}/oauth2/token", data=form, auth=(client, secret))
                answer.raise_for_status()
            except httpx.HTTPError as failure:
                error = failure
                continue
            self._tokens[client] = (answer.json()["access_token"], time.monotonic())
            return self._tokens[client][0]
        raise error or httpx.ConnectError("no gateway")

    async def call(
        self,
        service: str,
        body: object,
        *,
        gateway: str = "gateway-1",
        client: str = "portal",
        key: str = "",
        timeout_s: float = 30.0,
        **headers: str,
    ) -> httpx.Response:
        """`POST /v1/services/{service}`; `key` is the Idempotency-Key, further headers have `_` for `-`."""
        sent = {
            "Authorization": f"Bearer {await self.token(client)}",
            "Content-Type": "application/json",
            "Ngsp-Purpose": "testing",
        }
        if key:
            sent["Idempotency-Key"] = key
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"{self.url(gateway)}/v1/services/{service}"
        return await self._http.post(url, content=orjson.dumps(body), headers=sent, timeout=timeout_s)

    async def request(
        self, method: str, path: str, *, gateway: str = "gateway-1", client: str = "operator", **options: Any
    ) -> httpx.Response:
        """Any other request, with the token of `client`; `options` as httpx has them."""
        headers = {"Authorization": f"Bearer {await self.token(client)}"} | options.pop("headers", {})
        return await self._http.request(method, f"{self.url(gateway)}{path}", headers=headers, **options)

    # Database

    async def rows(self, statement: str, *arguments: object, url: str = "") -> list[asyncpg.Record]:
        """Rows of the installation's database (or of that at `url`), one query after the other.

        The connection is kept until `close`: tests ask fifty times a second, and a new one costs more than what is
        asked. Afterwards each has one of its own.
        """
        url = url or self.database_url
        async with self._asking:
            kept = self._connections.pop(url, None)
            if kept is not None and not kept.is_closed():
                with contextlib.suppress(*LOST):  # its server was killed meanwhile
                    return await self._fetch(kept, url, statement, arguments)
            return await self._fetch(await asyncpg.connect(url, timeout=5.0), url, statement, arguments)

    async def _fetch(
        self, connection: asyncpg.Connection, url: str, statement: str, arguments: Sequence[object]
    ) -> list[asyncpg.Record]:
        try:
            found: list[asyncpg.Record] = await connection.fetch(statement, *arguments, timeout=60.0)
        except BaseException:
            connection.terminate()
            raise
        if self._closed:
            await connection.close()
        else:
            self._connections[url] = connection
        return found

    async def value(self, statement: str, *arguments: object, url: str = "") -> Any:
        found = await self.rows(statement, *arguments, url=url)
        return found[0][0] if found else None

    async def kinds(self, transaction: str) -> list[int]:
        """Kinds of the entries of a transaction, in the order of the log."""
        found = await self.rows("SELECT kind FROM entries WHERE tx = $1 ORDER BY xid, seq", transaction)
        return [row["kind"] for row in found]


async def own_database(postgres: LocalPostgres, name: str) -> str:
    """The address of a new, empty database, for a provider."""
    database = f"{name}_{uuid.uuid4().hex[:12]}"
    await postgres.create_database(database)
    return postgres.url(database)
