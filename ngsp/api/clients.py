"""`/v1/clients`: members' systems, their secrets (shown once) and public keys."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from ngsp.api.caller import Caller, requires
from ngsp.api.conditions import Expected, etag
from ngsp.api.members import TextView
from ngsp.api.names import ClientPath, actor, client_id, key_id, only_member
from ngsp.api.paging import Page, Paging
from ngsp.api.parts import parts
from ngsp.api.strict import StrictRoute
from ngsp.errors import NotFound
from ngsp.registry.change import Stored
from ngsp.registry.clients import get_client, list_clients
from ngsp.registry.documents import ClientDocument, KeyDocument
from ngsp.registry.model import SCOPES, Client, ClientKey, Scope

router = APIRouter(prefix="/v1/clients", route_class=StrictRoute, tags=["registry"])

Registrar = Annotated[Caller, Depends(requires("registry", "operator"))]


class KeyView(BaseModel):
    """A public key that is not revoked."""

    kid: str
    alg: str
    jwk: dict[str, str]
    valid_from: datetime
    valid_to: datetime | None

    @classmethod
    def of(cls, key: ClientKey) -> KeyView:
        return cls(kid=key.kid, alg=key.alg, jwk=key.jwk, valid_from=key.valid_from, valid_to=key.valid_to)


class ClientView(BaseModel):
    """A client. Of its secret only whether there is one; tokens issued before `tokens_valid_from` are refused."""

    id: str
    member: str
    name: TextView
    scopes: list[Scope]
    active: bool
    has_secret: bool
    tokens_valid_from: datetime | None
    sandbox: bool
    keys: list[KeyView]


class ClientPutView(ClientView):
    """The same, and the new secret where one was made: it is never shown again."""

    secret: str | None


def _view(stored: Stored[Client]) -> ClientView:
    client = stored.value
    return ClientView(
        id=client.id,
        member=client.member,
        name=TextView.of(client.name),
        scopes=[scope for scope in SCOPES if scope in client.scopes],
        active=client.active,
        has_secret=bool(client.secret_hash),
        tokens_valid_from=client.tokens_valid_from,
        sandbox=client.sandbox,
        keys=[KeyView.of(key) for key in client.keys],
    )


@router.post("/{id:path}/keys", status_code=201)
async def post_key(
    request: Request, response: Response, id: ClientPath, document: KeyDocument, expected: Expected, caller: Registrar
) -> KeyView:
    """Thêm một khóa công khai. / Adds a public key."""
    key, stored = await parts(request).registry.add_key(actor(caller), client_id(id), document, expected)
    response.headers["ETag"] = etag(stored.row_version)
    return KeyView.of(key)


@router.delete("/{id:path}/keys/{kid}", status_code=204)
async def delete_key(
    request: Request, response: Response, id: ClientPath, kid: str, expected: Expected, caller: Registrar
) -> None:
    """Thu hồi một khóa; các mã truy cập đã cấp hết hiệu lực. / Revokes a key; tokens issued so far are refused."""
    stored = await parts(request).registry.revoke_key(actor(caller), client_id(id), key_id(kid), expected)
    response.headers["ETag"] = etag(stored.row_version)


@router.put("/{id:path}", responses={201: {"model": ClientPutView}})
async def put_client(
    request: Request,
    response: Response,
    id: ClientPath,
    document: ClientDocument,
    expected: Expected,
    caller: Registrar,
) -> ClientPutView:
    """Tạo hoặc thay thế một hệ thống; mật khẩu chỉ hiện một lần. / Puts a client; a secret is shown once."""
    stored, secret = await parts(request).registry.put_client(actor(caller), client_id(id), document, expected)
    response.status_code = 201 if stored.created else 200
    response.headers["ETag"] = etag(stored.row_version)
    response.headers["Cache-Control"] = "no-store"
    return ClientPutView(**_view(stored).model_dump(), secret=secret)


@router.get("/{id:path}")
async def read_client(
    request: Request, response: Response, id: ClientPath, caller: Annotated[Caller, Depends(requires())]
) -> ClientView:
    """Một hệ thống của cơ quan mình. / One client of the caller's own member."""
    async with parts(request).registry.reading() as connection:
        stored = await get_client(connection, client_id(id))
    if only_member(caller, "auditor") not in (None, stored.value.member):
        raise NotFound(reason="client of another member")
    response.headers["ETag"] = etag(stored.row_version)
    return _view(stored)


@router.get("")
async def read_clients(
    request: Request, paging: Paging, caller: Annotated[Caller, Depends(requires("registry", "operator", "auditor"))]
) -> Page[ClientView]:
    """Các hệ thống, xếp theo định danh. / The clients, by id."""
    async with parts(request).registry.reading() as connection:
        found = await list_clients(
            connection, paging.after("clients") or "", paging.limit + 1, only_member(caller, "auditor")
        )
    return paging.page("clients", found, lambda stored: stored.value.id, _view)
