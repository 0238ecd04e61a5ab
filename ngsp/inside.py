"""Adapters inside a gateway's process: for the embedded bus, where there is no broker that others could reach."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from ngsp.adapter import Adapter
from ngsp.adapter.runner import AdapterRunner
from ngsp.adapter.sources import EventRefused, NotPublished, Publish
from ngsp.bus import Bus
from ngsp.client.publishing import NewEvent
from ngsp.errors import (
    Forbidden,
    MalformedRequest,
    Missing,
    NgspError,
    NotFound,
    StateConflict,
    TooLarge,
    Unprocessable,
)
from ngsp.events.publishing import Publisher
from ngsp.registry.change import Actor
from ngsp.registry.documents import HeartbeatDocument
from ngsp.registry.model import Client
from ngsp.registry.store import Registry
from ngsp.text import Text
from ngsp.vault import Vault

_REFUSALS = (Forbidden, MalformedRequest, Missing, TooLarge, Unprocessable)
"""What the same events would be answered again."""


class AdaptersInside:
    """The runners of one gateway. `folder`: for their inboxes. `gateway`: its name, by which they beat and publish."""

    def __init__(
        self, bus: Bus, vault: Vault, folder: Path, registry: Registry, gateway: str, publisher: Publisher
    ) -> None:
        self._bus, self._vault, self._folder, self._registry = bus, vault, folder, registry
        self._gateway, self._publisher = gateway, publisher
        self._actor = Actor(gateway, "", frozenset(("operator",)))
        self._runners: list[AdapterRunner] = []

    async def start(self, adapters: Iterable[Adapter]) -> None:
        for adapter in adapters:
            publish = self._publish_of(adapter.manifest.provider)
            runner = AdapterRunner(adapter, self._bus, self._vault, self._folder, publish=publish)
            await runner.start()
            self._runners.append(runner)

    def _publish_of(self, provider: str) -> Publish:
        """Publishes as a client of `provider` that has the gateway's name."""
        client = Client(self._gateway, provider, Text(self._gateway, self._gateway), frozenset(("adapter",)), True)

        async def publish(service: str, events: Sequence[NewEvent]) -> object:
            sent = [(event.document(), None) for event in events]
            try:
                return await self._publisher.publish(client, service, sent, alone=False)
            except _REFUSALS as refused:
                raise EventRefused(refused.code, (fault.pointer for fault in refused.faults)) from None
            except NgspError as error:
                raise NotPublished(error.code) from error

        return publish

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
