"""What the tests of this folder work with: the routes of the identity side over a database of their own."""

from __future__ import annotations

import base64
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import httpx
from fastapi import APIRouter, Depends, FastAPI
from joserfc.jwk import ECKey, OKPKey
from joserfc.jws import JWSRegistry
from pydantic import BaseModel, ConfigDict

from ngsp import database
from ngsp.api import clients, errors_page, oauth, problems
from ngsp.api.caller import Caller, requires
from ngsp.api.strict import StrictRoute
from ngsp.config import Settings
from ngsp.identity.secrets import hash_secret
from ngsp.identity.sharing import Sharing
from ngsp.identity.tokens import Tokens
from ngsp.refusals import Refusals
from ngsp.registry.change import Actor
from ngsp.registry.documents import ClientDocument, KeyDocument
from ngsp.registry.store import Registry
from ngsp.vault import Vault
from tests.support.registry import client_document, migrated_database, put_members, settings_for

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from ngsp.local.postgres import LocalPostgres

OPERATOR = Actor("operator-1", "G22", frozenset(("operator",)))
PrivateKey = ECKey | OKPKey
EVIL = ECKey.generate_key("P-256")
"""A key that no gateway and no client has."""
GRANT = {"grant_type": "client_credentials"}

_addresses = (f"10.{number >> 8 & 255}.{number & 255}.1" for number in itertools.count())


def fresh_address() -> str:
    """One that no test has used: attempts are counted by address."""
    return next(_addresses)


def b64(data: bytes | str | Any) -> str:
    """base64url without padding, of bytes, or of a value as JSON."""
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(header: Any, claims: Any, key: PrivateKey | None, model: str = "ES256") -> str:
    """A compact JWS of exactly this header and payload, whatever they are; without a key the signature is empty."""
    signing_input = f"{b64(header)}.{b64(claims)}"
    signature = JWSRegistry.algorithms[model].sign(signing_input.encode(), key) if key is not None else b""
    return f"{signing_input}.{b64(signature)}"


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


def refused(answer: httpx.Response, status: int, error: str) -> None:
    """Asserts that the token endpoint refused with this error of RFC 6749 §5.2."""
    assert (answer.status_code, answer.json().get("error")) == (status, error), answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error_description"].isascii()
    assert ("www-authenticate" in answer.headers) == (status == 401)
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Basic ")


class Note(BaseModel):
    model_config = ConfigDict(extra="forbid")
    words: str
    count: int = 1
    labels: dict[str, int] = {}


_probe = APIRouter(prefix="/probe", route_class=StrictRoute)


@_probe.get("/any")
async def read_any(caller: Annotated[Caller, Depends(requires())]) -> dict[str, Any]:
    return {"client": caller.client.id, "member": caller.client.member, "scopes": sorted(caller.scopes)}


@_probe.post("/registry")
async def post_registry(note: Note, caller: Annotated[Caller, Depends(requires("registry", "operator"))]) -> Note:
    return note


@dataclass(slots=True)
class _Parts:
    settings: Settings
    registry: Registry
    tokens: Tokens
    refusals: Refusals


@dataclass(slots=True)
class Side:
    """One gateway's identity side; `http` calls it from 127.0.0.1."""

    url: str
    settings: Settings
    engine: AsyncEngine
    registry: Registry
    tokens: Tokens
    vault: Vault
    refusals: Refusals
    sharing: Sharing
    app: FastAPI
    http: httpx.AsyncClient

    def from_address(self, address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, client=(address, 40_000))
        return httpx.AsyncClient(transport=transport, base_url="http://gateway")

    async def client(self, *scopes: str, member: str = "H41", id: str | None = None, **others: Any) -> tuple[str, str]:
        """Registers a client; its id and its secret, empty where it has none."""
        client_id = id or f"client-{uuid.uuid4().hex[:12]}"
        document = ClientDocument.model_validate(client_document(member, *(scopes or ("exchange",)), **others))
        _, secret = await self.registry.put_client(OPERATOR, client_id, document)
        return client_id, secret or ""

    async def key(self, client_id: str, alg: str = "ES256", **others: Any) -> tuple[str, PrivateKey]:
        """Registers a new public key; its kid and the private key."""
        key: PrivateKey = ECKey.generate_key("P-256") if alg == "ES256" else OKPKey.generate_key("Ed25519")
        document = KeyDocument.model_validate({"alg": alg, "jwk": dict(key.as_dict(private=False)), **others})
        stored, _ = await self.registry.add_key(OPERATOR, client_id, document)
        return stored.kid, key

    async def ask(
        self,
        form: dict[str, str] | bytes,
        headers: dict[str, str] | None = None,
        address: str | None = None,
        path: str = "/oauth2/token",
    ) -> httpx.Response:
        """One request to the token endpoint, from an address of its own unless one is given."""
        async with self.from_address(address or fresh_address()) as http:
            if isinstance(form, bytes):
                return await http.post(path, content=form, headers=headers)
            return await http.post(path, data=form, headers=headers)

    async def token(self, client_id: str, secret: str, **form: str) -> str:
        answer = await self.ask({"grant_type": "client_credentials", **form}, basic(client_id, secret))
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    async def probe(self, token: str) -> httpx.Response:
        return await self.http.get("/probe/any", headers={"Authorization": f"Bearer {token}"})

    def assertion(
        self, client_id: str, kid: str, key: PrivateKey, alg: str = "ES256", model: str = "", **changes: Any
    ) -> str:
        """A good client assertion; `changes` replaces claims, None removes one. `model`: how it is really signed."""
        now_s = int(time.time())
        claims: dict[str, Any] = {
            "iss": client_id,
            "sub": client_id,
            "aud": self.settings.issuer,
            "iat": now_s,
            "exp": now_s + 60,
            "jti": uuid.uuid4().hex,
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return signed({"alg": alg, "kid": kid}, claims, key, model or ("ES256" if alg == "ES256" else "EdDSA"))

    async def ask_with(self, assertion: str, **form: str) -> httpx.Response:
        return await self.ask(assertion_form(assertion, **form))


def assertion_form(assertion: str, **form: str) -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
        **form,
    }


async def good(side: Side, *scopes: str) -> tuple[str, str]:
    """A client and its good token."""
    client_id, secret = await side.client(*scopes)
    return client_id, await side.token(client_id, secret)


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token."""
    header, claims, _ = token.split(".")
    return tuple(json.loads(base64.urlsafe_b64decode(part + "===")) for part in (header, claims))


def check(side: Side, token: str | bytes, now_s: float | None = None) -> Caller:
    authorization = b"Bearer " + (token if isinstance(token, bytes) else token.encode())
    return side.tokens.authenticate(authorization, side.registry.snapshot, now_s or time.time())


@asynccontextmanager
async def running_side(server: LocalPostgres, url: str | None = None, **others: Any) -> AsyncIterator[Side]:
    """A started identity side; `url`: an existing database, as a second gateway has it; `others`: settings."""
    fresh = url is None
    url = url or await migrated_database(server)
    async with AsyncExitStack() as stack:
        settings = settings_for(url, registry_poll_s=0.1, **others)
        engine = database.engine(url, pool_size=4)
        stack.push_async_callback(engine.dispose)
        registry = Registry(settings, engine, hash_secret)
        await registry.start()
        stack.push_async_callback(registry.stop)
        vault = Vault(settings.key_encryption_keys())
        tokens = Tokens(settings, engine, vault)
        await tokens.start()
        stack.push_async_callback(tokens.stop)
        app = FastAPI()
        problems.install(app)
        for router in (oauth.router, errors_page.router, clients.router, _probe):
            app.include_router(router)
        rows = await database.pool(url, size=2, name="test")
        stack.push_async_callback(rows.close)
        refusals = Refusals(rows, settings.instance)
        sharing = Sharing(rows, tokens.clients.attempts)
        app.state.parts = _Parts(settings, registry, tokens, refusals)
        http = await stack.enter_async_context(
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")
        )
        if fresh:
            await put_members(registry)
        yield Side(url, settings, engine, registry, tokens, vault, refusals, sharing, app, http)
