"""Adapter of the registry of enterprises: look-up by enterprise code over HTTP."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from adapters.g12_enterprise.registry import EnterpriseRegistry
from ngsp.adapter import Adapter, ManifestError, Request
from ngsp.adapter.breaker import Breaker, BreakerState

URL_VARIABLE = "NGSP_G12_REGISTRY_URL"

log = structlog.get_logger(__name__)
adapter = Adapter.load(Path(__file__).with_name("manifest.yaml"))


def registry_url(value: str | None) -> str:
    """The base URL in `value`; ManifestError where it is none: set by the operator, never by a request."""
    parts = urlsplit(value or "")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path.strip("/"):
        raise ManifestError(f"{adapter.id}: {URL_VARIABLE} must be http(s)://host[:port] of the registry")
    return f"{parts.scheme}://{parts.netloc}"


def _say(state: BreakerState) -> None:
    log.warning("breaker of the registry of enterprises", adapter=adapter.id, state=state)


@adapter.resources
async def resources() -> AsyncIterator[EnterpriseRegistry]:
    registry = EnterpriseRegistry(registry_url(os.environ.get(URL_VARIABLE)), Breaker(changed=_say))
    try:
        yield registry
    finally:
        await registry.close()


@adapter.service("enterprise-lookup", "v1")
async def enterprise_lookup(request: Request) -> object:
    """See `schemas/enterprise-lookup/v1` and `EnterpriseRegistry.find`."""
    registry: EnterpriseRegistry = request.resources
    return await registry.find(request.payload["maSoDoanhNghiep"], request.remaining_s())
