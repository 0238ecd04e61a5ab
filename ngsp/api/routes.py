"""All routes of the FastAPI application, in one list; the call itself is `front.py`."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from ngsp import __version__
from ngsp.api import (
    adapters,
    agreements,
    clients,
    compatible_routes,
    documentation,
    errors_page,
    events,
    members,
    oauth,
    operations,
    quarantine,
    services,
    statistics,
    subscriptions,
    topics,
    transactions,
)
from ngsp.api.interface import interface

ROUTERS = (
    oauth.router,
    services.router,
    transactions.router,
    statistics.router,
    quarantine.router,
    members.router,
    clients.router,
    adapters.router,
    agreements.router,
    compatible_routes.router,
    events.router,
    subscriptions.router,
    topics.router,
    operations.router,
    errors_page.router,
    documentation.router,
)


def include(app: FastAPI) -> None:
    for router in ROUTERS:
        app.include_router(router)


def described() -> dict[str, Any]:
    """The OpenAPI document that every gateway serves, without a gateway."""
    app = FastAPI(title="NGSP", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    include(app)
    return interface(app)
