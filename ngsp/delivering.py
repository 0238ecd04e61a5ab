"""What becomes of what was accepted: asked for at once, carried on by the relay, made of events; and late replies."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

import asyncpg

from ngsp.addresses import Addresses
from ngsp.asking import Asker
from ngsp.config import Settings
from ngsp.delivery import Relay, standing_of
from ngsp.events.dispatch import Dispatcher
from ngsp.events.posting import Posting
from ngsp.events.progress import Progress
from ngsp.events.webhooks import Webhooks
from ngsp.ground import Ground
from ngsp.jobs import Jobs
from ngsp.outcomes import Outcomes
from ngsp.quota import Quotas
from ngsp.strays import Strays
from ngsp.transactions import entry

DISPATCH_EVERY_S = 0.25
PROGRESS_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Delivering:
    """All that delivers on one gateway."""

    strays: Strays
    asker: Asker
    relay: Relay
    outcomes: Outcomes
    dispatcher: Dispatcher
    progress: Progress
    posting: Posting
    webhooks: Webhooks

    @classmethod
    def make(cls, ground: Ground, settings: Settings, quotas: Quotas) -> Delivering:
        rows, bus, registry, log, vault = ground.rows, ground.bus, ground.registry, ground.log, ground.vault
        strays = Strays(rows, registry, log, vault)
        progress = Progress(rows)
        webhooks = Webhooks(vault, Addresses(settings.webhook_allowed_networks), ca_file=settings.webhook_ca_file)

        def on_room() -> None:
            relay.wake.set()

        def may_go(row: asyncpg.Record) -> bool:
            now = entry.now()
            return row["deadline"] > now and standing_of(row, registry.snapshot, now) == "granted"

        posting = Posting(rows, webhooks, log, vault, progress, settings, on_room=on_room, may_go=may_go)
        relay = Relay(rows, bus, registry, log, vault, settings, posting)
        registry.on_change(relay.on_change)
        return cls(
            strays,
            Asker(bus, ground.replies.name, strays.later),
            relay,
            Outcomes(rows, bus, registry, log, vault, strays, settings, progress),
            Dispatcher(rows, registry, log, quotas, vault, settings.event_window, on_made=relay.wake.set),
            progress,
            posting,
            webhooks,
        )

    async def open(self, stack: AsyncExitStack) -> None:
        """Everything but its loops; `stack` closes it."""
        self.strays.start()
        stack.push_async_callback(self.strays.stop)
        await self.asker.start()
        stack.push_async_callback(self.asker.stop)
        stack.push_async_callback(self.progress.flush)
        await self.outcomes.start()
        stack.push_async_callback(self.outcomes.stop, 5.0)
        await self.webhooks.start()
        stack.push_async_callback(self.webhooks.stop)
        stack.push_async_callback(self.posting.stop)

    def start_jobs(self, jobs: Jobs, settings: Settings) -> None:
        jobs.start("relay", self.relay.step, settings.relay_poll_s, leased=True, wake=self.relay.wake)
        jobs.start("dispatch", self.dispatcher.step, DISPATCH_EVERY_S, leased=True, wake=self.dispatcher.wake)
        jobs.start("progress", self.progress.flush, PROGRESS_EVERY_S)
