"""All routes of the FastAPI application, in one list; the call itself is `front.py`."""

from __future__ import annotations

from fastapi import FastAPI

from ngsp.api import (
    adapters,
    agreements,
    clients,
    compatible_routes,
    documentation,
    errors_page,
    members,
    oauth,
    operations,
    quarantine,
    services,
    statistics,
    transactions,
)

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
    operations.router,
    errors_page.router,
    documentation.router,
)


def include(app: FastAPI) -> None:
    for router in ROUTERS:
        app.include_router(router)
