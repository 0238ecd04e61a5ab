"""`/asyncapi.json`: the topics of the node for its operators, as an AsyncAPI 3.0 document."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from ngsp import __version__
from ngsp.api.caller import Caller, requires
from ngsp.api.parts import parts
from ngsp.api.strict import StrictRoute
from ngsp.registry.asyncapi import node_asyncapi

router = APIRouter(route_class=StrictRoute, tags=["operating"])


@router.get("/asyncapi.json")
async def read_topics(request: Request, caller: Annotated[Caller, Depends(requires("operator"))]) -> dict[str, Any]:
    """Tài liệu AsyncAPI 3.0 của các topic trên nền tảng. / The AsyncAPI 3.0 document of the node's topics."""
    held = parts(request)
    return node_asyncapi(held.registry.snapshot.services.values(), held.settings, __version__)
