"""`/v1/adapters`: registration by manifest, heartbeats, what is online."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from ngsp.api.caller import Caller, requires
from ngsp.api.conditions import Expected, etag
from ngsp.api.names import AdapterPath, actor, adapter_id, only_member
from ngsp.api.paging import Page, Paging
from ngsp.api.parts import parts
from ngsp.api.strict import StrictRoute
from ngsp.errors import NotFound
from ngsp.registry.adapters import AdapterRecord, get_adapter, list_adapters
from ngsp.registry.change import Stored
from ngsp.registry.documents import HeartbeatDocument, ManifestDocument, ReasonDocument


class ManifestRoute(StrictRoute):
    """A manifest carries the schemas of all its services, up to 256 KiB each."""

    max_body_bytes: ClassVar[int] = 4 << 20


router = APIRouter(prefix="/v1/adapters", route_class=ManifestRoute, tags=["registry"])

Adapting = Annotated[Caller, Depends(requires("adapter", "operator"))]


class ServedView(BaseModel):
    """A service of an adapter and its state."""

    path: str
    state: str


class AdapterView(BaseModel):
    """An adapter. `state` follows from `seen_at`, the last heartbeat; `build` is what that heartbeat said.

    `retired_reason`: why it is retired since `retired_at`; null where it is not.
    """

    id: str
    provider: str
    state: Literal["online", "silent", "retired"]
    seen_at: datetime | None
    build: str
    registered_by: str
    registered_at: datetime
    services: list[ServedView]
    retired_at: datetime | None
    retired_reason: str | None


class HeartbeatView(BaseModel):
    """`differing`: services whose schemas at the adapter are not the registered ones."""

    state: Literal["online"]
    differing: list[str]


def _view(stored: Stored[AdapterRecord]) -> AdapterView:
    adapter = stored.value
    return AdapterView(
        id=adapter.id,
        provider=adapter.provider,
        state=adapter.state(datetime.now(UTC)),
        seen_at=adapter.seen_at,
        build=adapter.build,
        registered_by=adapter.registered_by,
        registered_at=adapter.registered_at,
        services=[ServedView(path=path, state=state) for path, state in adapter.services.items()],
        retired_at=adapter.retired_at,
        retired_reason=adapter.retired_reason or None,
    )


@router.post("/{id:path}/heartbeat")
async def post_heartbeat(
    request: Request, id: AdapterPath, document: HeartbeatDocument, caller: Adapting
) -> HeartbeatView:
    """Báo còn hoạt động, mười giây một lần. / A sign of life, every ten seconds."""
    differing = await parts(request).registry.beat(actor(caller), adapter_id(id), document)
    return HeartbeatView(state="online", differing=list(differing))


@router.post("/{id:path}/retire")
async def post_retire(
    request: Request,
    response: Response,
    id: AdapterPath,
    document: ReasonDocument,
    expected: Expected,
    caller: Annotated[Caller, Depends(requires("operator", "registry", "adapter"))],
) -> AdapterView:
    """Ngừng bộ kết nối và mọi dịch vụ của nó; sau đó chỉ đơn vị vận hành đăng ký lại được.

    Ends an adapter and all its services; from then on only the node's operators can register it again.
    """
    stored = await parts(request).registry.retire_adapter(actor(caller), adapter_id(id), document, expected)
    response.headers["ETag"] = etag(stored.row_version)
    return _view(stored)


@router.put("/{id:path}", responses={201: {"model": AdapterView}})
async def put_adapter(
    request: Request,
    response: Response,
    id: AdapterPath,
    document: ManifestDocument,
    expected: Expected,
    caller: Adapting,
) -> AdapterView:
    """Đăng ký hoặc nâng cấp bộ kết nối và các dịch vụ của nó. / Registers or upgrades an adapter and its services."""
    stored = await parts(request).registry.put_adapter(actor(caller), adapter_id(id), document, expected)
    response.status_code = 201 if stored.created else 200
    response.headers["ETag"] = etag(stored.row_version)
    return _view(stored)


@router.get("/{id:path}")
async def read_adapter(
    request: Request, response: Response, id: AdapterPath, caller: Annotated[Caller, Depends(requires())]
) -> AdapterView:
    """Một bộ kết nối của cơ quan mình. / One adapter of the caller's own member."""
    async with parts(request).registry.reading() as connection:
        stored = await get_adapter(connection, adapter_id(id))
    if only_member(caller, "auditor") not in (None, stored.value.provider):
        raise NotFound(reason="adapter of another member")
    response.headers["ETag"] = etag(stored.row_version)
    return _view(stored)


@router.get("")
async def read_adapters(
    request: Request, paging: Paging, caller: Annotated[Caller, Depends(requires())]
) -> Page[AdapterView]:
    """Các bộ kết nối, xếp theo định danh. / The adapters, by id."""
    async with parts(request).registry.reading() as connection:
        found = await list_adapters(
            connection, paging.after("adapters") or "", paging.limit + 1, only_member(caller, "auditor")
        )
    return paging.page("adapters", found, lambda stored: stored.value.id, _view)
