"""An office whose adapter serves one service of a chosen effect; each effect leaves a mark that tests can count."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from ngsp.adapter import Adapter, Manifest, Request
from ngsp.adapter.definition import Serve
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus import Bus
from ngsp.messages import Effect, uuid7
from ngsp.vault import Vault
from tests.support.waiting import until

DATABASE_VARIABLE = "OFFICE_DATABASE_URL"
GUARDED: tuple[Effect, ...] = ("transactional", "uncertain")
EFFECTS: tuple[Effect, ...] = (*GUARDED, "idempotent")
KEY = bytes(range(32))
LEDGER = """CREATE TABLE IF NOT EXISTS ledger (
    message varchar(36) NOT NULL, note varchar(1000) NOT NULL, once varchar(100) UNIQUE"""
"""The provider's own table. Nothing in it hinders a second row of the same message."""


def manifest(effect: Effect, adapter_id: str, *services: str) -> Manifest:
    """An adapter of H41 whose services all have `effect`."""

    def service(name: str) -> dict[str, Any]:
        return {
            "service": name,
            "version": "v1",
            "mode": "submission",
            "effect": effect,
            "deadline_s": 60,
            "max_body_bytes": 65_536,
            "title": {"vi": "Ghi sổ", "en": "Entry"},
            "description": {"vi": "Ghi một dòng vào sổ", "en": "Enters a line into the ledger"},
            "request_schema": {"type": "object"},
            "reply_schema": {"type": "object"},
        }

    return Manifest.model_validate(
        {
            "id": adapter_id,
            "provider": "H41",
            "database_url_env": DATABASE_VARIABLE if effect == "transactional" else None,
            "services": [service(name) for name in services or ("entry",)],
        }
    )


class Office:
    """`work` is what the service function does; by default it enters a line and answers with a new number.

    A transactional office enters into the table `ledger`, the others into a file. Two offices of one `name` are the
    same to the bus.
    """

    def __init__(
        self,
        effect: Effect,
        folder: Path,
        database: AsyncEngine | None = None,
        database_url: str = "",
        name: str = "",
    ) -> None:
        self.effect, self.folder = effect, folder
        self._database, self._database_url = database, database_url
        self._file = folder / "ledger.txt"
        self.calls: list[str] = []
        """Ids of the messages for which the service function was called."""
        self.work: Serve = self.enter
        self.name = name or uuid.uuid4().hex[:12]
        self.adapter = Adapter(manifest(effect, f"office-{self.name}", f"entry-{self.name}"))
        (self.path,) = self.adapter.declared()
        self.topic = self.adapter.key(self.adapter.manifest.services[0]).request_topic
        self.adapter.service(self.path.split("/")[1], "v1")(self._serve)

    async def _serve(self, request: Request) -> object:
        self.calls.append(request.id)
        return await self.work(request)

    async def enter(self, request: Request) -> object:
        """The effect. Its answer is another at each execution, so that a reply that was kept can be told from one."""
        note = str(request.payload.get("note", ""))
        if self.effect == "transactional":
            await request.transaction().execute(
                text("INSERT INTO ledger VALUES (:message, :note, :once)"),
                {"message": request.id, "note": note, "once": request.payload.get("once")},
            )
        else:
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(f"{request.id} {note}\n")
        return {"number": uuid7()}

    async def entered(self, message: str) -> int:
        """How many times the effect of `message` is there."""
        if self._database is not None:
            async with self._database.connect() as connection:
                statement = text("SELECT count(*) FROM ledger WHERE message = :message")
                return int((await connection.execute(statement, {"message": message})).scalar_one())
        lines = self._file.read_text("utf-8").splitlines() if self._file.exists() else []
        return sum(line.startswith(message) for line in lines)

    def runner(self, bus: Bus, **options: Any) -> AdapterRunner:
        """A process of the adapter, so to speak: another runner has the same key, folder and database."""
        variables = {DATABASE_VARIABLE: self._database_url}
        return AdapterRunner(self.adapter, bus, Vault(KEY), self.folder, environment=variables.get, **options)

    @asynccontextmanager
    async def serving(self, bus: Bus, **options: Any) -> AsyncIterator[AdapterRunner]:
        runner = self.runner(bus, **options)
        await runner.start()
        try:
            yield runner
        finally:
            await runner.stop(5)


async def in_work(runner: AdapterRunner, count: int) -> None:
    """Returns when exactly `count` messages are in work."""
    subscription = runner.subscription
    assert subscription
    await until(lambda: subscription.in_work == count, f"{count} in work")


async def make_ledger(engine: AsyncEngine) -> None:
    """The provider's database holds its table."""
    late = " DEFERRABLE INITIALLY DEFERRED" if engine.dialect.name == "postgresql" else ""
    async with engine.begin() as connection:
        await connection.execute(text(f"{LEDGER}{late})"))
