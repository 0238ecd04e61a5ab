"""A gateway as a process: the application on the HTTP server with the limits of the settings; and its small helpers."""

from __future__ import annotations

import gc
from typing import Any

import structlog

from ngsp import __version__
from ngsp.adapter.process import find_adapter
from ngsp.api.edge import Limits
from ngsp.api.server import serve
from ngsp.app import create_app
from ngsp.config import Settings
from ngsp.database import engine
from ngsp.identity.keys import Keyring
from ngsp.identity.secrets import hash_secret
from ngsp.registry.asyncapi import node_asyncapi, service_asyncapi
from ngsp.registry.model import Snapshot
from ngsp.registry.store import Registry
from ngsp.text import language_of_terminal
from ngsp.topics import all_topics, make_bus
from ngsp.vault import Vault

log = structlog.get_logger(__name__)


async def serve_gateway(settings: Settings) -> bool:
    """Serve until SIGTERM or SIGINT; True where the gateway ended itself because it was fenced."""
    modules = [name for name in settings.adapters.split(",") if name]
    door = create_app(settings, [find_adapter(name) for name in modules])
    limits = Limits(
        max_connections=settings.max_connections,
        max_header_bytes=settings.max_header_bytes,
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        keep_alive_s=settings.keep_alive_s,
    )

    def ready(port: int) -> None:
        gc.freeze()  # what is there now stays: the collector need not look at it again
        log.info("gateway listens", port=port, instance=settings.instance)

    await serve(
        door,
        host=settings.host,
        port=settings.port,
        limits=limits,
        on_refusal=door.refused_below,
        drain=door.drain,
        ready=ready,
        graceful_timeout_s=settings.drain_timeout_s,
        trusted_proxies=settings.trusted_proxies,
        turn_away=door.turn_away,
    )
    return door.fenced


async def init_bus(settings: Settings) -> int:
    """Make every topic the registry asks for; returns how many there are."""
    topics = all_topics(await _registry_now(settings), settings)
    bus = make_bus(settings)
    try:
        await bus.start()
        await bus.ensure(topics)
        return len(topics)
    finally:
        await bus.stop()


async def describe_bus(settings: Settings, service: str = "") -> dict[str, Any] | None:
    """The AsyncAPI document of the node's topics, or of the service `service`; None where there is no such service."""
    snapshot = await _registry_now(settings)
    if not service:
        return node_asyncapi(snapshot.services.values(), settings, __version__)
    found = snapshot.services.get(service)
    return service_asyncapi(found, language_of_terminal()) if found else None


async def _registry_now(settings: Settings) -> Snapshot:
    database = engine(settings.database_url.get_secret_value(), pool_size=2)
    registry = Registry(settings, database, hash_secret)
    try:
        await registry.start()
        return registry.snapshot
    finally:
        await registry.stop()
        await database.dispose()


async def rotate_keys(settings: Settings) -> str:
    """Make a new signing key; it is published at once and signs after the overlap. Returns its id."""
    database = engine(settings.database_url.get_secret_value(), pool_size=2)
    keys = Keyring(database, Vault(settings.key_encryption_keys()), key_days=settings.signing_key_days)
    try:
        await keys.open()
        return str(await keys.rotate("planned"))
    finally:
        await database.dispose()
