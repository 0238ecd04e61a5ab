"""`/v1/adapters`: registration by manifest, heartbeats, what is online."""

from __future__ import annotations

from collections.abc import Iterable
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
from ngsp.registry.adapters import AdapterRecord, AdapterState, get_adapter, list_adapters
from ngsp.registry.change import Stored
from ngsp.registry.documents import HeartbeatDocument, ProbeDocument, ReasonDocument
from ngsp.registry.heartbeats import Complaint
from ngsp.registry.manifest_documents import ManifestDocument


class ManifestRoute(StrictRoute):
    """A manifest carries the schemas of all its services, up to 256 KiB each."""

    max_body_bytes: ClassVar[int] = 4 << 20


router = APIRouter(prefix="/v1/adapters", route_class=ManifestRoute, tags=["registry"])

Adapting = Annotated[Caller, Depends(requires("adapter", "operator"))]


class ServedView(BaseModel):
    """A service of an adapter and its state. `paused`: some process takes no more of it for now."""

    path: str
    state: str
    paused: bool


class ComplaintView(BaseModel):
    """Why an adapter is degraded. `name`: of the breaker that is not closed, of the service whose schemas differ from
    the registered ones, or the code of a trouble that the adapter told of."""

    what: Literal["breaker", "schemas", "trouble"]
    name: str


class ProcessView(BaseModel):
    """One process of an adapter, as its last heartbeat had it. `in_work`: requests taken and not answered."""

    process: str
    seen_at: datetime
    build: str
    breakers: dict[str, str]
    in_work: int
    paused: list[str]
    degraded: list[ComplaintView]


class AdapterView(BaseModel):
    """An adapter. `state`: `retired`; `silent`, where no process was heard of for 30 seconds; `degraded`, where
    something is wrong with one that was; else `online`. `seen_at`, `build`: of the last heartbeat of all.

    `retired_reason`: why it is retired since `retired_at`; null where it is not.
    """

    id: str
    provider: str
    state: AdapterState
    degraded: list[ComplaintView]
    seen_at: datetime | None
    build: str
    processes: list[ProcessView]
    registered_by: str
    registered_at: datetime
    services: list[ServedView]
    retired_at: datetime | None
    retired_reason: str | None


class HeartbeatView(BaseModel):
    """`differing`: services whose schemas at this process are not the registered ones."""

    state: Literal["online", "degraded"]
    differing: list[str]


def _view(stored: Stored[AdapterRecord]) -> AdapterView:
    adapter, now = stored.value, datetime.now(UTC)
    alive = adapter.alive(now)
    paused = {path for process in alive for path in process.paused}
    complaints = dict.fromkeys(complaint for process in alive for complaint in process.complaints)
    return AdapterView(
        id=adapter.id,
        provider=adapter.provider,
        state=adapter.state(now),
        degraded=_complaints(complaints),
        seen_at=adapter.seen_at,
        build=adapter.build,
        processes=[
            ProcessView(
                process=process.name,
                seen_at=process.seen_at,
                build=process.build,
                breakers=process.breakers,
                in_work=process.in_work,
                paused=list(process.paused),
                degraded=_complaints(process.complaints),
            )
            for process in alive
        ],
        registered_by=adapter.registered_by,
        registered_at=adapter.registered_at,
        services=[
            ServedView(path=path, state=state, paused=path in paused) for path, state in adapter.services.items()
        ],
        retired_at=adapter.retired_at,
        retired_reason=adapter.retired_reason or None,
    )


def _complaints(found: Iterable[Complaint]) -> list[ComplaintView]:
    return [ComplaintView(what=complaint.what, name=complaint.name) for complaint in found]


@router.post("/{id:path}/heartbeat")
async def post_heartbeat(
    request: Request, id: AdapterPath, document: HeartbeatDocument, caller: Adapting
) -> HeartbeatView:
    """Báo còn hoạt động, mười giây một lần. / A sign of life, every ten seconds."""
    process = await parts(request).registry.beat(actor(caller), adapter_id(id), document)
    return HeartbeatView(state="degraded" if process.complaints else "online", differing=list(process.differing))


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


class BackendProbeView(BaseModel):
    """The system behind an adapter. `code`: why it failed, null where it did not."""

    state: str
    code: str | None


class ProbeView(BaseModel):
    """How a probe went. `id`: of its entry in the log. `code`: why the outcome is not `ok`. `timings_ms`: `sent`, until
    the bus had the message; `adapter`, within the adapter, of which `backend` its system; `bus`, there and back;
    `total`."""

    id: str
    adapter: str
    service: str
    outcome: Literal["ok", "no-answer", "failed"]
    code: str | None
    build: str | None
    backend: BackendProbeView | None
    timings_ms: dict[str, float]


@router.post("/{id:path}/probe")
async def post_probe(
    request: Request,
    id: AdapterPath,
    caller: Annotated[Caller, Depends(requires("operator"))],
    document: ProbeDocument | None = None,
) -> ProbeView:
    """Thử đường đi đến bộ kết nối và về, không đụng tới dữ liệu; `backend`: thử cả hệ thống phía sau. Được ghi nhật ký
    đúng là phép thử.

    Tries the way to an adapter and back, touching no data; `backend`: and the system behind it. Logged as what it is.
    """
    asked = document or ProbeDocument()
    async with parts(request).registry.reading() as connection:
        stored = await get_adapter(connection, adapter_id(id))
    found = await parts(request).prober.probe(
        actor(caller), stored.value, asked.service, "backend" if asked.backend else "adapter", asked.timeout_s
    )
    backend = found.backend
    return ProbeView(
        id=found.id,
        adapter=stored.value.id,
        service=found.service,
        outcome=found.outcome,
        code=found.code or None,
        build=found.build or None,
        backend=None if backend is None else BackendProbeView(state=backend["state"], code=backend["code"] or None),
        timings_ms={name: took_us / 1000 for name, took_us in found.timings_us.items()},
    )


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
