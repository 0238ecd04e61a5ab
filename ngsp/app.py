"""The composition root: everything a gateway is made of is opened and closed here, in one visible place."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from fastapi import FastAPI

from ngsp import __version__
from ngsp.adapter import Adapter
from ngsp.api import problems, routes
from ngsp.api.compatible import CompatibleDoor, CompatibleParts
from ngsp.api.front import FrontDoor
from ngsp.api.parts import Parts
from ngsp.asking import Asker
from ngsp.config import Settings
from ngsp.database import is_away
from ngsp.delivering import Delivering
from ngsp.errors import NgspError, RegistryStale
from ngsp.events import keeping
from ngsp.events.publishing import Publisher
from ngsp.exchange import Exchange
from ngsp.gate import Gate
from ngsp.gauges import watch
from ngsp.ground import Ground, open_ground
from ngsp.identity.partners import Partners
from ngsp.identity.sharing import SHARE_EVERY_S, Sharing
from ngsp.inside import AdaptersInside
from ngsp.jobs import Jobs
from ngsp.probing import Prober
from ngsp.quota import Quotas
from ngsp.refusals import Refusals
from ngsp.registry.change import Actor
from ngsp.repeats import Repeats
from ngsp.sweep import Sweep
from ngsp.telemetry import configure_logging
from ngsp.topics import reconcile, working_groups
from ngsp.transactions import entry, partitions, statistics
from ngsp.transactions.find import Finder
from ngsp.transactions.projection import Projector

MOST_BODY_BYTES_AT_ONCE = 64 << 20
MAINTENANCE_EVERY_S = 3600.0
TEND_EVERY_S = 5.0
"""Between two flushes of what each gateway counts, and between two heartbeats of the adapters inside it."""

log = structlog.get_logger(__name__)


def create_app(
    settings: Settings | None = None, adapters: Sequence[Adapter] = (), *, tend_every_s: float = TEND_EVERY_S
) -> FrontDoor:
    """The gateway as an ASGI application; `settings` from the environment where none are given.

    `adapters` run inside the process: for the embedded bus, where there is no broker that others could reach.
    """

    @asynccontextmanager
    async def lifespan(inner: FastAPI) -> AsyncIterator[None]:
        chosen = settings or Settings()
        async with AsyncExitStack() as stack:
            gateway = Gateway(chosen, stack, tend_every_s)
            try:
                inner.state.parts = await gateway.open(door, adapters)
            except Exception as error:
                log.critical("the gateway cannot open", error=type(error).__name__, exc_info=True)
                raise
            yield
            gateway.drain()

    inner = FastAPI(
        title="NGSP",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    problems.install(inner, translate=_meaning)
    routes.include(inner)
    door = FrontDoor(inner)
    return door


@dataclass(frozen=True, slots=True)
class _Calls:
    """How calls and events get in: the request path, publishing, and what holds them to their limits."""

    refusals: Refusals
    quotas: Quotas
    gate: Gate
    exchange: Exchange
    publisher: Publisher


class Gateway:
    """One gateway: opened top to bottom, closed by `stack` in the reverse order."""

    def __init__(self, settings: Settings, stack: AsyncExitStack, tend_every_s: float) -> None:
        self._settings, self._stack, self._tend_every_s = settings, stack, tend_every_s
        self._door: FrontDoor | None = None
        self._asker: Asker | None = None
        self._is_fenced = False

    async def open(self, door: FrontDoor, adapters: Sequence[Adapter]) -> Parts:
        """Everything, in the order in which it depends on what is before it."""
        configure_logging(self._settings.log_level)
        ground = await open_ground(self._settings, self._stack, self._fenced)
        quotas = Quotas(ground.rows, lambda: ground.presence.alive)
        self._stack.push_async_callback(quotas.stop)
        delivering = Delivering.make(ground, self._settings, quotas)
        self._asker = delivering.asker
        calls = self._make_calls(ground, delivering, quotas)
        ground.presence.start()
        inside = await self._open_inside(ground, adapters, calls.publisher)
        await delivering.open(self._stack)
        self._start_jobs(ground, delivering)
        self._start_tending(ground, calls, inside)
        self._parts = self._make_parts(ground, delivering, calls)
        self._open_door(door, ground, calls)
        log.info(
            "gateway open",
            instance=self._settings.instance,
            epoch=ground.registration.epoch,
            slot=ground.registration.slot,
        )
        return self._parts

    def _make_calls(self, ground: Ground, delivering: Delivering, quotas: Quotas) -> _Calls:
        settings, repeats = self._settings, Repeats(ground.rows, ground.vault)
        refusals = Refusals(ground.rows, settings.instance)
        self._stack.push_async_callback(refusals.flush)
        gate = Gate(
            most=settings.max_in_flight,
            client_share=settings.max_client_share,
            most_log_wait_s=settings.max_log_wait_s,
            log_age_s=ground.writer.oldest_age_s,
            log_trouble=ground.writer.trouble,
            most_body_bytes=MOST_BODY_BYTES_AT_ONCE,
        )
        exchange = Exchange(
            registry=ground.registry,
            tokens=ground.tokens,
            quotas=quotas,
            log=ground.log,
            asker=delivering.asker,
            repeats=repeats,
            vault=ground.vault,
            metrics=ground.metrics,
            on_submission=delivering.relay.wake.set,
        )
        publisher = Publisher(
            ground.registry, ground.log, repeats, ground.vault, ground.metrics, delivering.dispatcher.wake.set
        )
        return _Calls(refusals, quotas, gate, exchange, publisher)

    async def _open_inside(self, ground: Ground, adapters: Sequence[Adapter], publisher: Publisher) -> AdaptersInside:
        settings = self._settings
        inside = AdaptersInside(
            ground.bus, ground.vault, settings.adapter_folder, ground.registry, settings.instance, publisher
        )
        self._stack.push_async_callback(inside.stop)
        await inside.start(adapters)
        return inside

    def _open_door(self, door: FrontDoor, ground: Ground, calls: _Calls) -> None:
        self._door = door
        registry, tokens, metrics = ground.registry, ground.tokens, ground.metrics
        compatible = CompatibleParts(
            calls.exchange,
            calls.gate,
            calls.refusals,
            metrics,
            registry,
            tokens,
            Partners(tokens),
            self._settings.trusted_proxies,
        )
        door.open(
            calls.exchange,
            calls.gate,
            calls.refusals,
            metrics,
            self.drain,
            lambda inner: CompatibleDoor(inner, compatible),
        )

    def _make_parts(self, ground: Ground, delivering: Delivering, calls: _Calls) -> Parts:
        settings, registry, gate = self._settings, ground.registry, calls.gate
        return Parts(
            settings=settings,
            registry=registry,
            tokens=ground.tokens,
            finder=Finder(ground.rows, ground.vault),
            statistics=statistics.Statistics(ground.rows),
            pool=ground.rows,
            metrics=ground.metrics,
            refusals=calls.refusals,
            gate=gate,
            prober=Prober(registry, delivering.asker, ground.log, settings.node),
            publisher=calls.publisher,
            dispatcher=delivering.dispatcher,
            checks={
                "log": ground.writer.trouble,
                "bus": ground.bus.trouble,
                "registry": lambda: "stale" if registry.age_s > settings.registry_stale_s else "",
                "database": calls.quotas.trouble,
                "draining": lambda: "draining" if gate.draining else "",
            },
        )

    def _start_jobs(self, ground: Ground, delivering: Delivering) -> None:
        """What all gateways share, done by the one that holds its lease."""
        settings, rows = self._settings, ground.rows
        self._jobs = jobs = Jobs(ground.presence.lease, settings.lease_s)
        self._stack.push_async_callback(jobs.stop)
        projector, sweep = Projector(rows), Sweep(rows, ground.log)
        delivering.start_jobs(jobs, settings)
        jobs.start("project", projector.run_once, settings.project_s, leased=True)
        jobs.start("sweep", sweep.step, settings.sweep_s, leased=True)
        jobs.start("maintain", lambda: self._maintain(ground), MAINTENANCE_EVERY_S, leased=True)
        reconcile(ground.bus, ground.registry, ground.presence, jobs, settings, ground.replies)

    def _start_tending(self, ground: Ground, calls: _Calls, inside: AdaptersInside) -> None:
        """What each gateway does for itself."""
        registry, metrics = ground.registry, ground.metrics
        watch(
            metrics,
            gate=calls.gate,
            writer=ground.writer,
            registry=registry,
            bus=ground.bus,
            groups=lambda: working_groups(registry.snapshot),
            rows=ground.rows,
        )
        self._jobs.start("attempts", Sharing(ground.rows, ground.tokens.clients.attempts).step, SHARE_EVERY_S)
        for name, step in (
            ("refusals", calls.refusals.flush),
            ("quotas", calls.quotas.step),
            ("gauges", metrics.refresh),
            ("beats", inside.beat),
        ):
            self._jobs.start(name, step, self._tend_every_s)

    async def _maintain(self, ground: Ground) -> int:
        keeper = Actor(self._settings.instance, "", frozenset(("operator",)))
        await ground.registry.reseal_secrets(keeper, ground.vault)
        async with ground.rows.acquire() as connection:
            await partitions.ensure(connection, entry.now())
            await partitions.retire(connection, entry.now(), self._settings.log_retention_months)
            await statistics.retire(connection, entry.now())
            await keeping.retire(connection, entry.now(), self._settings.event_retention_days)
        return 0

    def drain(self) -> None:
        """Refuse new work; what is in flight goes on."""
        self._parts.gate.draining = True
        self._parts.closing.set()

    def _fenced(self) -> None:
        """Another took this gateway for dead and closed its work: it must go, and come back under a new epoch."""
        if self._is_fenced:
            return  # told by the writer and by each heartbeat, but a second signal would end the process at once
        self._is_fenced = True
        log.critical("fenced: this gateway ends itself")
        if self._door is not None:
            self._door.fenced = True
        if self._asker is not None:
            self._asker.give_up()  # no answer could be recorded any more
        os.kill(os.getpid(), signal.SIGTERM)


def _meaning(error: Exception) -> NgspError | None:
    """A database that is away is not a defect: the caller may come again."""
    if is_away(error):
        return RegistryStale(retry_after_s=2, reason=f"database away: {type(error).__name__}")
    return None
