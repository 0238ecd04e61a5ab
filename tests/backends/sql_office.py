"""An office whose register is an SQL database, and one service of an adapter that reads or writes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import yaml

from tests.adapters.door import Door
from tests.backends.declaring import manifest, served
from tests.support.providers import Provider

VARIABLE = "OFFICE_URL"
TABLES = {
    "postgresql": (
        "people (id char(12) PRIMARY KEY, name text NOT NULL, born date, seen timestamptz, opens time,"
        " fee numeric(18,2), photo bytea, file jsonb, active boolean, note text,"
        " CONSTRAINT fee_is_paid CHECK (fee >= 0))",
        "cases (id varchar(36) PRIMARY KEY, person char(12) NOT NULL CONSTRAINT cases_person REFERENCES"
        " people (id), slot varchar(100) CONSTRAINT cases_slot UNIQUE, note text)",
    ),
    "mariadb": (
        "people (id char(12) PRIMARY KEY, name varchar(200) NOT NULL, born date, seen timestamp NULL,"
        " opens time, fee decimal(18,2), photo longblob, file json, active boolean, note text,"
        " CONSTRAINT fee_is_paid CHECK (fee >= 0))",
        "cases (id varchar(36) PRIMARY KEY, person char(12) NOT NULL, slot varchar(100), note text,"
        " CONSTRAINT cases_slot UNIQUE (slot), CONSTRAINT cases_person FOREIGN KEY (person) REFERENCES people (id))",
    ),
    "sqlite": (
        "people (id text PRIMARY KEY, name text NOT NULL, born text, seen text, opens text,"
        " fee numeric, photo blob, file text, active boolean, note text, CONSTRAINT fee_is_paid CHECK (fee >= 0))",
        "cases (id text PRIMARY KEY, person text NOT NULL REFERENCES people (id), slot text UNIQUE, note text)",
    ),
}
SEEN = {"postgresql": "2025-06-30 17:00:00+00", "mariadb": "2025-07-01 00:00:00", "sqlite": "2025-07-01T00:00:00+07:00"}
ROW = {
    "id": "900099000001",
    "name": "Nguyễn Thị Dấu",
    "born": "1999-12-31",
    "seen": "2025-07-01T00:00:00+07:00",
    "opens": "07:30:00",
    "fee": 1250000.5,
    "photo": "AP8n",
    "file": {"type": "Point", "coordinates": [105.6925, 18.6734]},
    "active": True,
    "note": None,
}


async def furnish(provider: Provider) -> None:
    """Makes the tables where they are missing, with one person and no case."""
    await provider.run(*(f"CREATE TABLE IF NOT EXISTS {table}" for table in TABLES[provider.kind]))
    if await provider.value("SELECT count(*) FROM people") == 0:
        file = "CAST(:file AS jsonb)" if provider.kind == "postgresql" else ":file"
        values = ROW | {"fee": "1250000.50", "photo": b"\x00\xff'", "file": orjson.dumps(ROW["file"]).decode()}
        await provider.execute(
            f"INSERT INTO people VALUES (:id, :name, :born, :seen, :opens, CAST(:fee AS decimal(18,2)), :photo, {file},"
            " :active, :note)",
            **values | {"seen": SEEN[provider.kind]},
        )
    await provider.run("DELETE FROM cases")


PATIENT = {"connect_timeout_s": 10, "timeout_s": 20}
"""For a machine that has much else to do; tests of slowness say what they want."""
Serve = Callable[..., AbstractAsyncContextManager[Door]]


def written(call: dict[str, Any], backend: dict[str, Any] | None = None, **service: Any) -> str:
    """A manifest with one service."""
    mode, effect = service.pop("mode", "query"), service.pop("effect", "idempotent")
    declared = {"kind": "sql", "url": {"env": VARIABLE}} | PATIENT | (backend or {})
    return manifest(_yaml(declared), _yaml({"call": call} | service), mode, effect)


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False, width=1000)


def serve_from(folder: Path) -> Serve:
    """What serves the one service of a manifest. `allowed`: the node's networks."""

    @asynccontextmanager
    async def serving(
        url: str, call: dict[str, Any], backend: dict[str, Any] | None = None, allowed: str = "", **service: Any
    ) -> AsyncIterator[Door]:
        environment = {VARIABLE: url, "NGSP_ADAPTER_ALLOWED_NETWORKS": allowed}
        async with served(folder, written(call, backend, **service), **environment) as door:
            yield door

    return serving


BY_ID: dict[str, Any] = {
    "sql": "SELECT * FROM people WHERE id = :id",
    "parameters": {"id": "payload.id"},
    "json": ["file"],
}
SUBMISSION: dict[str, Any] = {"mode": "submission", "effect": "transactional"}
INSERT: dict[str, Any] = {
    "sql": "INSERT INTO cases (id, person, slot, note) VALUES (:id, :person, :slot, :note)",
    "parameters": {"id": "id", "person": "payload.person", "slot": "payload.slot", "note": "payload.note"},
}


def case(**changes: Any) -> dict[str, Any]:
    return {"person": ROW["id"], "slot": None, "note": None} | changes
