"""`/v1/compatible-routes`: which old address is which service. Calling one is `compatible.py`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from ngsp.api.caller import Caller, requires
from ngsp.api.conditions import Expected, etag
from ngsp.api.members import TextView
from ngsp.api.names import RoutePath, actor, only_member, route_id
from ngsp.api.paging import Page, Paging
from ngsp.api.parts import parts
from ngsp.api.strict import StrictRoute
from ngsp.registry.change import Stored
from ngsp.registry.compatible_routes import get_route, list_routes
from ngsp.registry.documents import RouteDocument
from ngsp.registry.routes import CompatibleRoute

router = APIRouter(prefix="/v1/compatible-routes", route_class=StrictRoute, tags=["compatible"])

Operating = Annotated[Caller, Depends(requires("operator"))]


class RouteView(BaseModel):
    """A compatible route. `agreements`: ids; to a member, of its own only. Expressions that were not given are null."""

    id: str
    title: TextView
    methods: list[str]
    path: str
    service: str
    agreements: list[str]
    active: bool
    query: list[str]
    headers: list[str]
    purpose: str | None
    purpose_from: str | None
    officer: str | None
    dossier: str | None
    procedure: str | None
    consent: str | None
    key: str | None
    request: Any
    reply: Any
    accepted: Any
    error: Any
    tables: dict[str, dict[str, Any]]


_ABSENT: dict[str, Any] = dict.fromkeys(RouteView.model_fields) | {"query": [], "headers": [], "tables": {}}


def _view(request: Request, caller: Caller, stored: Stored[CompatibleRoute]) -> RouteView:
    route, known = stored.value, parts(request).registry.snapshot.agreements
    member = only_member(caller, "auditor")
    own_agreements = [id for id in route.agreements if id in known and known[id].consumer == member]
    own = {
        "id": route.id,
        "title": TextView.of(route.title),
        "methods": list(route.methods),
        "path": route.path,
        "service": route.service,
        "agreements": own_agreements if member is not None else list(route.agreements),
        "active": route.active,
    }
    return RouteView(**(_ABSENT | dict(route.terms) | own))


@router.put("/{id:path}", responses={201: {"model": RouteView}})
async def put_route(
    request: Request, response: Response, id: RoutePath, document: RouteDocument, expected: Expected, caller: Operating
) -> RouteView:
    """Tạo hoặc thay thế một tuyến tương thích. / Creates or replaces a compatible route."""
    stored = await parts(request).registry.put_route(actor(caller), route_id(id), document, expected)
    response.status_code = 201 if stored.created else 200
    response.headers["ETag"] = etag(stored.row_version)
    return _view(request, caller, stored)


@router.get("/{id:path}")
async def read_route(
    request: Request, response: Response, id: RoutePath, caller: Annotated[Caller, Depends(requires())]
) -> RouteView:
    """Một tuyến tương thích. / One compatible route."""
    async with parts(request).registry.reading() as connection:
        stored = await get_route(connection, route_id(id))
    response.headers["ETag"] = etag(stored.row_version)
    return _view(request, caller, stored)


@router.get("")
async def read_routes(
    request: Request, paging: Paging, caller: Annotated[Caller, Depends(requires())]
) -> Page[RouteView]:
    """Các tuyến tương thích, xếp theo định danh. / The compatible routes, by id."""
    async with parts(request).registry.reading() as connection:
        found = await list_routes(connection, paging.after("compatible-routes") or "", paging.limit + 1)
    return paging.page("compatible-routes", found, lambda stored: stored.value.id, partial(_view, request, caller))
