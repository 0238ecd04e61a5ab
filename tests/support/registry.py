"""A migrated database for a test module, and documents to fill a registry with."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from ngsp import database
from ngsp.config import Settings
from ngsp.registry.change import Actor

if TYPE_CHECKING:
    from ngsp.local.postgres import LocalPostgres

TEMPLATE = "ngsp_template"

OPERATOR = Actor("operator-1", "G22", frozenset(("operator", "registry")))


async def migrated_database(server: LocalPostgres) -> str:
    """The address of a new database at the newest schema, copied from a template that is migrated once a run."""
    await server.create_database(TEMPLATE)
    await database.migrate(server.url(TEMPLATE))
    name = f"test_{uuid.uuid4().hex}"
    await server.create_database(name, template=TEMPLATE)
    return server.url(name)


def settings_for(url: str, **others: Any) -> Settings:
    return Settings(**{"database_url": url, "registry_poll_s": 0.2, **others})
