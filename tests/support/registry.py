"""A registry for tests: a migrated database of its own, the REST interface in front of it, clients with real tokens."""

from __future__ import annotations

import asyncio
import base64
import copy
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from fastapi import FastAPI

from ngsp import database
from ngsp.api import adapters, agreements, clients, compatible_routes, members, problems, services, subscriptions
from ngsp.config import Settings
from ngsp.identity.credentials import credential_of_secret
from ngsp.identity.secrets import hash_secret
from ngsp.identity.tokens import Tokens
from ngsp.registry.change import Actor
from ngsp.registry.documents import ClientDocument, MemberDocument
from ngsp.registry.store import Registry
from ngsp.vault import Vault
from tests.support import described

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ngsp.local.postgres import LocalPostgres
    from ngsp.registry.model import Scope

TEMPLATE = "ngsp_template"

OPERATOR = Actor("operator-1", "G22", frozenset(("operator",)))
MEMBERS = {"G22": "Văn phòng Chính phủ", "G01.01": "Cục C06", "H41": "Nghệ An", "H14": "Cao Bằng"}

REQUEST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"id": {"type": "string", "pattern": "^[0-9]{12}$"}},
    "required": ["id"],
    "additionalProperties": False,
}
REPLY_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"$ref": "#/$defs/name"},
        "children": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "string"}}}},
    },
    "additionalProperties": False,
    "$defs": {"name": {"type": "object", "properties": {"first": {"type": "string"}, "last": {"type": "string"}}}},
}


def text(words: str) -> dict[str, str]:
    return {"vi": words, "en": words}


def member_document(**others: Any) -> dict[str, Any]:
    return {"name": text("Một cơ quan"), "valid_from": "2020-01-01", "zone": "national", **others}


def client_document(member: str, *scopes: str, **others: Any) -> dict[str, Any]:
    return {"member": member, "name": text("Một hệ thống"), "scopes": list(scopes), **others}


def service_document(**others: Any) -> dict[str, Any]:
    return {
        "service": "population-lookup",
        "version": "v1",
        "title": text("Tra cứu"),
        "description": text("Tra cứu một công dân"),
        "mode": "query",
        "effect": "idempotent",
        "deadline_s": 5,
        "max_body_bytes": 4096,
        "request_schema": copy.deepcopy(REQUEST_SCHEMA),
        "reply_schema": copy.deepcopy(REPLY_SCHEMA),
        "subjects": ["/id"],
        "examples": [{"request": {"id": "900123456789"}, "reply": {"id": "900123456789"}}],
        **others,
    }


CHANGED = "vn.gov.example.record.changed"
EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"id": {"type": "string", "pattern": "^[0-9]{12}$"}, "what": {"enum": ["name", "address"]}},
    "required": ["id", "what"],
    "additionalProperties": False,
}


def event(**others: Any) -> dict[str, Any]:
    """A CloudEvent of the service below."""
    data = {"id": "900123456789", "what": "name"}
    return {"specversion": "1.0", "id": "e-1", "source": "/g01/records", "type": CHANGED, "data": data, **others}


def event_service(**others: Any) -> dict[str, Any]:
    return {
        "service": "population-events",
        "version": "v1",
        "title": text("Thay đổi về công dân"),
        "description": text("Báo khi thông tin của một công dân thay đổi"),
        "mode": "event",
        "deadline_s": 86_400,
        "max_body_bytes": 4096,
        "events": {CHANGED: {"title": text("Đã thay đổi"), "schema": copy.deepcopy(EVENT_SCHEMA)}},
        "subjects": ["/id"],
        "examples": [{"request": event()}],
        **others,
    }


def manifest(*services: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"id": "g01-population", "provider": "G01.01", "services": list(services) or [service_document()], **others}


def proposal(**others: Any) -> dict[str, Any]:
    return {
        "consumer": "H41",
        "service": "G01.01/population-lookup/v1",
        "purposes": ["birth-registration"],
        "legal_basis": "Nghị định 63/2024/NĐ-CP",
        "fields": ["/id", "/name/last"],
        **others,
    }


def terms(**others: Any) -> dict[str, Any]:
    return {name: value for name, value in proposal(**others).items() if name not in ("consumer", "service")}


async def migrated_database(server: LocalPostgres) -> str:
    """The address of a new database at the newest schema, copied from a template that is migrated once a run."""
    await server.create_database(TEMPLATE)
    await database.migrate(server.url(TEMPLATE))
    name = f"test_{uuid.uuid4().hex}"
    await server.create_database(name, template=TEMPLATE)
    return server.url(name)


@asynccontextmanager
async def temporary_database(server: LocalPostgres) -> AsyncIterator[str]:
    """The same for a block. It is not dropped: a drop writes all that the server holds to the disk, of every database,
    and the server is thrown away whole."""
    yield await migrated_database(server)


def settings_for(url: str, **others: Any) -> Settings:
    """Settings on this database; whatever NGSP_ variables there are, the poll is the default one."""
    kek = base64.b64encode(os.urandom(32)).decode()
    given: dict[str, Any] = {"database_url": url, "kek": kek, "registry_poll_s": 0.5, **others}
    return Settings(**given)


@asynccontextmanager
async def running_registry(url: str, **others: Any) -> AsyncIterator[Registry]:
    """A started registry over `url`, as one gateway has it. `others`: settings."""
    engine = database.engine(url, pool_size=4)
    registry = Registry(settings_for(url, **others), engine, hash_secret)
    try:
        await registry.start()
        yield registry
    finally:
        await registry.stop()
        await engine.dispose()


async def eventually(holds: Callable[[], bool], timeout_s: float) -> float:
    """Waits until `holds()`; the seconds it took. AssertionError when `timeout_s` passed before."""
    began_s = time.monotonic()
    while not holds():
        assert time.monotonic() - began_s < timeout_s, f"not within {timeout_s} s"
        await asyncio.sleep(0.005)
    return time.monotonic() - began_s


async def put_members(registry: Registry) -> None:
    for code, name in MEMBERS.items():
        await registry.put_member(OPERATOR, code, MemberDocument.model_validate(member_document(name=text(name))))


@dataclass(slots=True)
class _Parts:
    """What the routes of the registry need of the gateway."""

    settings: Settings
    registry: Registry
    tokens: Tokens


@dataclass(slots=True)
class Rig:
    """The registry's REST interface over a database of its own, called with tokens that `Tokens` issued."""

    settings: Settings
    url: str
    engine: AsyncEngine
    registry: Registry
    tokens: Tokens
    http: httpx.AsyncClient
    bearers: dict[str, str] = field(default_factory=dict, repr=False)

    async def add_client(self, client_id: str, member: str, *scopes: Scope, sandbox: bool = False) -> None:
        document = ClientDocument.model_validate(client_document(member, *scopes, sandbox=sandbox))
        stored, secret = await self.registry.put_client(OPERATOR, client_id, document)
        assert secret is not None
        cred = credential_of_secret(stored.value.secret_hash)
        issued = self.tokens.issue(stored.value, stored.value.scopes, cred, time.time())
        self.bearers[client_id] = f"Bearer {issued.access_token}"

    async def call(self, method: str, path: str, *, by: str = "operator-1", **options: Any) -> httpx.Response:
        """One request by the client `by`; `options` as httpx has them, headers added to the token's."""
        headers = {"Authorization": self.bearers[by], **options.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **options)


@asynccontextmanager
async def running_rig(server: LocalPostgres, **others: Any) -> AsyncIterator[Rig]:
    """Members, an operator, an auditor, and for each member but the first a client with its own scopes. `others`:
    settings."""
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(temporary_database(server))
        settings = settings_for(url, **others)
        engine = database.engine(url, pool_size=4)
        stack.push_async_callback(engine.dispose)
        vault = Vault(settings.key_encryption_keys())
        registry = Registry(settings, engine, hash_secret, vault.seal_secret)
        await registry.start()
        stack.push_async_callback(registry.stop)
        tokens = Tokens(settings, engine, vault)
        await tokens.start()
        stack.push_async_callback(tokens.stop)
        app = FastAPI()
        problems.install(app)
        for module in (members, clients, adapters, agreements, services, compatible_routes, subscriptions):
            app.include_router(module.router)
        app.state.parts = _Parts(settings, registry, tokens)
        http = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://gateway",
                event_hooks={"response": [described.hold]},
            )
        )
        rig = Rig(settings, url, engine, registry, tokens, http)
        await put_members(registry)
        await rig.add_client("operator-1", "G22", "operator")
        await rig.add_client("auditor-1", "G22", "auditor")
        await rig.add_client("g01-registry", "G01.01", "registry", "adapter")
        await rig.add_client("h41-registry", "H41", "registry", "exchange")
        await rig.add_client("h14-registry", "H14", "registry", "adapter", "exchange")
        yield rig
