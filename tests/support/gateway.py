"""A whole gateway for tests: the real application on a real socket over its own database, with adapters inside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import httpx
import orjson
from fastapi import FastAPI

from ngsp.adapter import Adapter, Manifest, Request
from ngsp.api.edge import Limits
from ngsp.api.front import FrontDoor
from ngsp.api.server import running
from ngsp.app import create_app
from ngsp.config import Settings
from ngsp.local.postgres import LocalPostgres
from ngsp.registry.apply import run_apply
from ngsp.transactions import entry
from tests.support import described
from tests.support.registry import settings_for, temporary_database
from tests.support.waiting import until

if TYPE_CHECKING:
    from ngsp.api.parts import Parts

OPEN = ("accepted", "delivered")
"""Kinds of entries of a submission that has not ended."""
TEND_EVERY_S = 0.2
"""So that nobody waits for a flush or a heartbeat."""
TOKEN_SCOPE = {"grant_type": "client_credentials"}
OBJECT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "do": {"type": "string", "maxLength": 40},
        "id": {"type": "string", "pattern": "^[0-9]{12}$"},
        "n": {"type": "integer", "maximum": 9007199254740991},
        "list": {"type": "array"},
        "note": {"type": "string", "maxLength": 5000000},
    },
    "additionalProperties": False,
}
REPLY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "did": {"type": "string"},
        "id": {"type": "string"},
        "secret": {"type": "string"},
        "people": {
            "type": "array",
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "id": {"type": "string"}}},
        },
    },
    "required": ["did"],
    "additionalProperties": False,
}

Act = Callable[[Request], Awaitable[object]]


def service(name: str, **others: Any) -> dict[str, Any]:
    """A service as a manifest declares it: a query that takes OBJECT and answers REPLY."""
    text = {"vi": f"Dịch vụ {name}", "en": f"Service {name}"}
    return {
        "service": name,
        "version": "v1",
        "mode": "query",
        "effect": "idempotent",
        "deadline_s": 5,
        "max_body_bytes": 65_536,
        "title": text,
        "description": text,
        "request_schema": OBJECT,
        "reply_schema": REPLY,
        "subjects": ["/id"],
    } | others


def agreement(name: str, reference: str, **others: Any) -> dict[str, Any]:
    """An agreement between G22 and H41's service `name`, accepted and in force."""
    return {
        "kind": "agreement",
        "reference": reference,
        "consumer": "G22",
        "service": f"H41/{name}/v1",
        "purposes": ["testing", "more-testing"],
        "legal_basis": "Nghị định 194/2025/NĐ-CP",
        "fields": [""] if name in ("whole", "send") else ["/did", "/id", "/people/*/name"],
        "valid_from": "2020-01-01T00:00:00Z",
        "accepted": True,
    } | others


@dataclass
class Provider:
    """An adapter whose behaviour a test sets: `act` is called for each request; `seen` are the requests it got."""

    services: list[dict[str, Any]] = field(
        default_factory=lambda: [
            service("look-up"),
            service("whole"),
            service("slow", deadline_s=0.4),
            service("send", mode="submission", deadline_s=60),
            service("officer", officer_required=True),
        ]
    )
    terms: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Service → what its agreement says otherwise than the others do."""
    documents: list[dict[str, Any]] = field(default_factory=list)
    """Further documents of the registry."""
    seen: list[Request] = field(default_factory=list)

    async def act(self, request: Request) -> object:
        """Replaced by tests; answers everything it knows."""
        return {
            "did": "it",
            "id": request.payload.get("id", ""),
            "secret": "kept back",
            "people": [{"name": "An", "id": "900000000001"}],
        }

    def adapters(self) -> list[Adapter]:
        """What runs inside the gateway."""
        return [self.adapter()]

    def adapter(self) -> Adapter:
        manifest = Manifest.model_validate({"id": "h41-tests", "provider": "H41", "services": self.services})
        adapter = Adapter(manifest)

        async def serve(request: Request) -> object:
            self.seen.append(request)
            return await self.act(request)

        for declared in manifest.services:
            if declared.mode != "event":
                adapter.service(declared.service, declared.version)(serve)
        return adapter


def _documents(provider: Provider, folder: Path) -> str:
    """The registry of the tests: consumer G22, provider H41, stranger H14, and an agreement for each service."""
    documents: list[dict[str, Any]] = []
    for code in ("G22", "H41", "H14"):
        name = {"vi": f"Cơ quan {code}", "en": f"Member {code}"}
        organisation = {"kind": "member", "code": code, "old_code": f"000.00.00.{code}", "name": name}
        documents.append(organisation | {"valid_from": "2020-01-01", "zone": "national"})
    for id, member, scopes in (
        ("caller", "G22", ["exchange", "registry"]),
        ("other", "G22", ["exchange"]),
        ("stranger", "H14", ["exchange"]),
        ("provider", "H41", ["exchange", "registry", "adapter"]),
        ("operator", "G22", ["operator", "auditor", "registry"]),
    ):
        name = {"vi": id, "en": f"client {id}"}
        secret_file = str(folder / f"{id}.secret")
        documents.append(
            {"kind": "client", "id": id, "member": member, "name": name, "scopes": scopes, "secret_file": secret_file}
        )
    adapter = {"id": "h41-tests", "provider": "H41", "services": provider.services}
    documents.append({"kind": "adapter", **adapter})
    for declared in provider.services:
        name = declared["service"]
        documents.append(agreement(name, f"test-{name}", **provider.terms.get(name, {})))
    documents += provider.documents
    return "---\n".join(orjson.dumps(document).decode() + "\n" for document in documents)


@dataclass
class Rig:
    """The running gateway and hands to work with it."""

    base_url: str
    door: FrontDoor
    settings: Settings
    provider: Provider
    http: httpx.AsyncClient
    rows: asyncpg.Connection
    secrets: dict[str, str]
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> Parts:
        """What the routes of this gateway have."""
        app: Any = self.door
        while not isinstance(app, FastAPI):  # behind the doors before it
            app = app._inner
        return cast("Parts", app.state.parts)

    async def token(self, client: str) -> str:
        if client not in self.tokens:
            answer = await self.http.post("/oauth2/token", data=TOKEN_SCOPE, auth=(client, self.secrets[client]))
            assert answer.status_code == 200, answer.text
            self.tokens[client] = answer.json()["access_token"]
        return self.tokens[client]

    async def headers(self, client: str = "caller", **others: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {await self.token(client)}", "Ngsp-Purpose": "testing"} | {
            name.replace("_", "-"): value for name, value in others.items()
        }

    async def call(
        self,
        name: str = "look-up",
        body: Any = None,
        *,
        by: str = "caller",
        content: bytes | None = None,
        **headers: str,
    ) -> httpx.Response:
        """`POST /v1/services/H41/{name}/v1`; headers by their names with `_` for `-`; an empty one is left out."""
        sent = {"Content-Type": "application/json"} | await self.headers(by, **headers)
        return await self.http.post(
            f"/v1/services/H41/{name}/v1",
            content=orjson.dumps({"do": "it"} if body is None else body) if content is None else content,
            headers={key: value for key, value in sent.items() if value},
        )

    async def post(self, path: str, *, by: str, json: Any = None) -> httpx.Response:
        """`POST` to the interface of the registry."""
        return await self.http.post(path, headers=await self.headers(by), json=json)

    async def get(self, path: str, *, by: str = "caller", **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=await self.headers(by, **headers))

    async def entries(self, tx: str) -> list[dict[str, Any]]:
        """The log entries of a transaction, in order, as they stand in the database."""
        rows = await self.rows.fetch("SELECT body FROM entries WHERE tx = $1 ORDER BY xid, seq", tx)
        return [entry.read(row["body"]) for row in rows]

    async def agreement(self, service: str, consumer: str = "G22") -> str:
        """The id of the agreement of `service` that the registry has first."""
        found = await self.rows.fetchval(
            "SELECT id::text FROM agreements WHERE service = $1 AND consumer = $2 ORDER BY id LIMIT 1",
            f"H41/{service}/v1",
            consumer,
        )
        assert isinstance(found, str)
        return found

    async def counted(self, code: str) -> int:
        """How many refusals before authentication the database has under `code`."""
        found = await self.rows.fetchval("SELECT coalesce(sum(count), 0) FROM refusals WHERE code = $1", code)
        return int(found)

    async def kinds(self, tx: str) -> list[str]:
        return [found["kind"] for found in await self.entries(tx)]

    async def outcome(self, tx: str) -> list[str]:
        """The kinds of the entries of `tx` once it has ended."""

        async def ended() -> bool:
            return (await self.kinds(tx))[-1] not in OPEN

        await until(ended, "the outcome")
        return await self.kinds(tx)


@asynccontextmanager
async def running_gateway(
    server: LocalPostgres,
    folder: Path,
    provider: Provider | None = None,
    *,
    limits: Limits | None = None,
    **others: Any,
) -> AsyncIterator[Rig]:
    """A gateway over a new database. `others`: settings; on a busy machine it does not refuse for its log's queue."""
    others = {"max_log_wait_s": 5.0} | others
    provider = provider or Provider()
    declared = folder / "registry.yaml"
    declared.write_text(_documents(provider, folder), "utf-8")
    async with temporary_database(server) as url:
        with (folder / "registry.log").open("w") as out:
            code = await asyncio.to_thread(run_apply, declared, url, False, out)
        assert code == 0, (folder / "registry.log").read_text()
        secrets = {file.stem: file.read_text("ascii").strip() for file in folder.glob("*.secret")}
        settings = settings_for(url, adapter_folder=folder, log_level="INFO", **others)
        async with _running(settings, provider, secrets, limits) as rig:
            yield rig


@asynccontextmanager
async def further_gateway(rig: Rig, folder: Path, instance: str = "gateway-2", **others: Any) -> AsyncIterator[Rig]:
    """Another gateway on the database of `rig`, with a bus of its own and the same provider behind it.

    `others`: settings that it does not have in common with `rig`.
    """
    settings = rig.settings.model_copy(update={"instance": instance, "adapter_folder": folder, **others})
    async with _running(settings, rig.provider, rig.secrets, None) as found:
        yield found


@asynccontextmanager
async def _running(
    settings: Settings, provider: Provider, secrets: dict[str, str], limits: Limits | None
) -> AsyncIterator[Rig]:
    door = create_app(settings, provider.adapters(), tend_every_s=TEND_EVERY_S)
    rows = await asyncpg.connect(settings.database_url.get_secret_value())
    try:
        async with (
            running(
                door, limits=limits, on_refusal=door.refused_below, drain=door.drain, turn_away=door.turn_away
            ) as base_url,
            httpx.AsyncClient(
                base_url=base_url,
                timeout=30,
                limits=httpx.Limits(max_connections=None),
                event_hooks={"response": [described.hold]},
            ) as http,
        ):
            yield Rig(base_url, door, settings, provider, http, rows, secrets)
    finally:
        await rows.close()


@asynccontextmanager
async def relay_held(rig: Rig) -> AsyncIterator[None]:
    """Nothing is delivered meanwhile: the relay waits for its lease."""
    connection = await asyncpg.connect(rig.settings.database_url.get_secret_value())
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM leases WHERE name = 'relay' FOR UPDATE")

            async def waits() -> bool:
                return bool(
                    await rig.rows.fetchval(
                        """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                        AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO leases%'"""
                    )
                )

            await until(waits, "the relay to wait")
            yield
    finally:
        await connection.close()
