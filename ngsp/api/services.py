"""`/v1/services`: the catalogue. Calling a service is the front door's (`ngsp/api/front.py`)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from ngsp.api.caller import Caller, requires
from ngsp.api.members import TextView
from ngsp.api.names import member_code
from ngsp.api.paging import Page, Paging
from ngsp.api.parts import parts
from ngsp.api.problems import language_from
from ngsp.api.strict import StrictRoute
from ngsp.errors import NotFound
from ngsp.messages import Effect, Mode, ServiceKey
from ngsp.registry.model import Service
from ngsp.registry.openapi import service_openapi

router = APIRouter(prefix="/v1/services", route_class=StrictRoute, tags=["catalogue"])

AnyCaller = Annotated[Caller, Depends(requires())]


class ServiceView(BaseModel):
    """An active service. `schema_version` names both schemas; it travels with every message."""

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
    subjects: list[str]
    adapter: str
    schema_version: str
    request_schema: dict[str, Any]
    reply_schema: dict[str, Any]
    examples: list[dict[str, Any]]


def _view(service: Service) -> ServiceView:
    return ServiceView(
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
        subjects=list(service.subjects),
        adapter=service.adapter,
        schema_version=service.schema_version,
        request_schema=service.request_schema.document,
        reply_schema=service.reply_schema.document,
        examples=list(service.examples),
    )


def _find(request: Request, provider: str, service: str, version: str) -> Service:
    """The active service. `InvalidIdentifier` (422) for odd names, `NotFound` (404) where there is none."""
    key = ServiceKey.parse(f"{member_code(provider)}/{service}/{version}")
    found = parts(request).registry.snapshot.services.get(key.path)
    if found is None or found.state != "active":
        raise NotFound(reason="no such active service")
    return found


@router.get("")
async def read_services(request: Request, paging: Paging, caller: AnyCaller) -> Page[ServiceView]:
    """Các dịch vụ đang hoạt động, xếp theo đường dẫn. / The active services, by path."""
    after = paging.after("services") or ""
    services = parts(request).registry.snapshot.services
    paths = sorted(path for path, service in services.items() if path > after and service.state == "active")
    found = [services[path] for path in paths[: paging.limit + 1]]
    return paging.page("services", found, lambda service: service.path, _view)


@router.get("/{provider}/{service}/{version}")
async def read_service(request: Request, provider: str, service: str, version: str, caller: AnyCaller) -> ServiceView:
    """Một dịch vụ với các lược đồ của nó. / One service with its schemas."""
    return _view(_find(request, provider, service, version))


@router.get("/{provider}/{service}/{version}/openapi.json")
async def read_service_openapi(
    request: Request, provider: str, service: str, version: str, caller: AnyCaller
) -> dict[str, Any]:
    """Tài liệu OpenAPI 3.1 của một dịch vụ. / The OpenAPI 3.1 document of one service."""
    found = _find(request, provider, service, version)
    return service_openapi(found, parts(request).settings.issuer, language_from(request.headers))
