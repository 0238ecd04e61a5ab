"""`/v1/services`: the catalogue, and what is decided of a service. Calling one is the front door's (`front.py`)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ngsp.api.caller import Caller, requires
from ngsp.api.conditions import Expected, etag
from ngsp.api.members import TextView
from ngsp.api.names import actor, member_code
from ngsp.api.paging import Page, Paging
from ngsp.api.parts import parts
from ngsp.api.problems import language_from
from ngsp.api.strict import StrictRoute
from ngsp.errors import NotFound
from ngsp.messages import Effect, Mode, ServiceKey
from ngsp.registry.asyncapi import service_asyncapi
from ngsp.registry.documents import StateDocument
from ngsp.registry.model import Service
from ngsp.registry.openapi import service_openapi
from ngsp.registry.states import Decision
from ngsp.transactions.entry import now

router = APIRouter(prefix="/v1/services", route_class=StrictRoute, tags=["catalogue"])

AnyCaller = Annotated[Caller, Depends(requires())]


class MaintenanceView(BaseModel):
    """A time in which the service's system is away, or will be."""

    since: datetime = Field(serialization_alias="from")
    until: datetime


class StateView(BaseModel):
    """The state of a service. `maintenance`: the one that holds or comes. `reason`, `legal_basis`: of what is said of
    its state, null where nothing is."""

    state: Literal["active", "disabled", "maintenance", "retired"]
    maintenance: MaintenanceView | None
    reason: str | None
    legal_basis: str | None


class EventTypeView(BaseModel):
    """A type of event. `schema`: of its `data`."""

    model_config = ConfigDict(serialize_by_alias=True)

    title: TextView
    schema_: Annotated[dict[str, Any], Field(serialization_alias="schema")]


class ServiceView(StateView):
    """A service that is not retired. `schema_version` names both schemas; it travels with every message.

    `events`: of mode `event`, type → what it is; `request_schema` is then that of the CloudEvent around its `data`.
    """

    path: str
    provider: str
    service: str
    version: str
    title: TextView
    description: TextView
    mode: Mode
    effect: Effect
    deadline_s: float
    max_body_bytes: int
    officer_required: bool
    order: str
    subjects: list[str]
    adapter: str
    schema_version: str
    request_schema: dict[str, Any]
    reply_schema: dict[str, Any]
    events: dict[str, EventTypeView]
    examples: list[dict[str, Any]]


def _state(of: Service | Decision) -> StateView:
    """As things stand now: what is over is not told any more."""
    at = now()
    coming = of.maintenance if of.maintenance is not None and at < of.maintenance.until else None
    told = coming is not None or of.state != "active"
    return StateView(
        state="maintenance" if of.state == "active" and coming is not None and coming.holds(at) else of.state,
        maintenance=MaintenanceView(since=coming.since, until=coming.until) if coming is not None else None,
        reason=of.reason or None if told else None,
        legal_basis=of.legal_basis or None if told else None,
    )


def _view(service: Service) -> ServiceView:
    return ServiceView(
        **dict(_state(service)),
        path=service.path,
        provider=service.key.provider,
        service=service.key.name,
        version=service.key.version,
        title=TextView.of(service.title),
        description=TextView.of(service.description),
        mode=service.mode,
        effect=service.effect,
        deadline_s=service.deadline_s,
        max_body_bytes=service.max_body_bytes,
        officer_required=service.officer_required,
        order=service.order,
        subjects=list(service.subjects),
        adapter=service.adapter,
        schema_version=service.schema_version,
        request_schema=service.request_schema.document,
        reply_schema=service.reply_schema.document,
        events={
            type: EventTypeView(title=TextView.of(event.title), schema_=event.schema.document)
            for type, event in service.events.items()
        },
        examples=list(service.examples),
    )


def _find(request: Request, provider: str, service: str, version: str) -> Service:
    """A service that is not retired. `InvalidIdentifier` (422) for odd names, `NotFound` (404) where there is none."""
    found = parts(request).registry.snapshot.services.get(_path(provider, service, version))
    if found is None or found.state == "retired":
        raise NotFound(reason="no such service")
    return found


def _path(provider: str, service: str, version: str) -> str:
    return ServiceKey.parse(f"{member_code(provider)}/{service}/{version}").path


@router.get("")
async def read_services(request: Request, paging: Paging, caller: AnyCaller) -> Page[ServiceView]:
    """Các dịch vụ, cả đang bảo trì hay chưa mở, xếp theo đường dẫn. / The services, those in maintenance and those not
    opened yet too, by path."""
    after = paging.after("services") or ""
    services = parts(request).registry.snapshot.services
    paths = sorted(path for path, service in services.items() if path > after and service.state != "retired")
    found = [services[path] for path in paths[: paging.limit + 1]]
    return paging.page("services", found, lambda service: service.path, _view)


@router.get("/{provider}/{service}/{version}")
async def read_service(
    request: Request, response: Response, provider: str, service: str, version: str, caller: AnyCaller
) -> ServiceView:
    """Một dịch vụ với trạng thái và các lược đồ của nó. / One service with its state and its schemas."""
    found = _find(request, provider, service, version)
    response.headers["ETag"] = etag(found.row_version)
    return _view(found)


@router.put("/{provider}/{service}/{version}/state")
async def put_state(
    request: Request,
    response: Response,
    provider: str,
    service: str,
    version: str,
    document: StateDocument,
    expected: Expected,
    caller: Annotated[Caller, Depends(requires("operator", "registry", "adapter"))],
) -> StateView:
    """Quyết định trạng thái của dịch vụ: hoạt động, chưa mở (chỉ đơn vị vận hành), bảo trì đến khi nào, ngừng hẳn. Có
    hiệu lực trên mọi cổng trong một giây.

    Decides the service's state: active, disabled (operators only), in maintenance until when, retired. Holds on every
    gateway within a second.
    """
    path = _path(provider, service, version)
    stored = await parts(request).registry.put_state(actor(caller), path, document, expected)
    response.headers["ETag"] = etag(stored.row_version)
    return _state(stored.value)


@router.get("/{provider}/{service}/{version}/asyncapi.json")
async def read_service_asyncapi(
    request: Request, provider: str, service: str, version: str, caller: AnyCaller
) -> dict[str, Any]:
    """Tài liệu AsyncAPI 3.0 của một dịch vụ, cho người viết bộ kết nối. / The AsyncAPI 3.0 document of one service, for
    who writes its adapter."""
    return service_asyncapi(_find(request, provider, service, version), language_from(request.headers))


@router.get("/{provider}/{service}/{version}/openapi.json")
async def read_service_openapi(
    request: Request, provider: str, service: str, version: str, caller: AnyCaller
) -> dict[str, Any]:
    """Tài liệu OpenAPI 3.1 của một dịch vụ. / The OpenAPI 3.1 document of one service."""
    found = _find(request, provider, service, version)
    return service_openapi(found, parts(request).settings.issuer, language_from(request.headers))
