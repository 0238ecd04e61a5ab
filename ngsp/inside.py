"""Adapters inside a gateway's process: for the embedded bus, where there is no broker that others could reach."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ngsp.adapter import Adapter
from ngsp.adapter.runner import AdapterRunner
from ngsp.bus import Bus
from ngsp.errors import NotFound, StateConflict
from ngsp.registry.change import Actor
from ngsp.registry.documents import HeartbeatDocument
from ngsp.registry.store import Registry
from ngsp.vault import Vault


class AdaptersInside:
    """The runners of one gateway. `folder`: for their inboxes. `gateway`: its name, under which they beat."""

    def __init__(self, bus: Bus, vault: Vault, folder: Path, registry: Registry, gateway: str) -> None:
        self._bus, self._vault, self._folder, self._registry = bus, vault, folder, registry
        self._actor = Actor(gateway, "", frozenset(("operator",)))
        self._runners: list[AdapterRunner] = []

    async def start(self, adapters: Iterable[Adapter]) -> None:
        for adapter in adapters:
            runner = AdapterRunner(adapter, self._bus, self._vault, self._folder)
            await runner.start()
            self._runners.append(runner)

    async def stop(self) -> None:
        """In the reverse order; what is in work is finished."""
        while self._runners:
            await self._runners.pop().stop()

    async def beat(self) -> int:
        """The heartbeats of all. An adapter that nobody has registered, or that is retired, has none."""
        for runner in self._runners:
            with suppress(NotFound, StateConflict):
                sign = HeartbeatDocument.model_validate(runner.sign_of_life())
                await self._registry.beat(self._actor, runner.id, sign)
        return 0
