"""The composition root: everything a gateway is made of is opened and closed here, in one visible place."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial

import asyncpg
import structlog
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from ngsp import __version__
from ngsp.adapter import Adapter
from ngsp.api import problems, routes
from ngsp.api.compatible import CompatibleDoor, CompatibleParts
from ngsp.api.front import FrontDoor
from ngsp.api.parts import Parts
from ngsp.asking import Asker
from ngsp.bus import Bus, EmbeddedBus, Topic
from ngsp.bus.kafka import KafkaBus, KafkaConnection
from ngsp.config import Settings
from ngsp.database import check_durability, connect, engine, migrate, pool
from ngsp.delivery import Outcomes, Relay
from ngsp.errors import NgspError, RegistryStale
from ngsp.exchange import Exchange
from ngsp.gate import Gate
from ngsp.identity.partners import Partners
from ngsp.identity.secrets import hash_secret
from ngsp.identity.sharing import SHARE_EVERY_S, Sharing
from ngsp.identity.tokens import Tokens
from ngsp.inside import AdaptersInside
from ngsp.jobs import Jobs
from ngsp.messages import GATEWAYS_GROUP, OUTCOMES_TOPIC, REPLY_TOPIC_PREFIX, group_of
from ngsp.probing import Prober
from ngsp.quota import Quotas
from ngsp.refusals import Refusals
from ngsp.registry.model import Service, Snapshot
from ngsp.registry.store import Registry
from ngsp.repeats import Repeats
from ngsp.strays import Strays
from ngsp.sweep import Sweep
from ngsp.telemetry import Metrics, configure_logging
from ngsp.transactions import entry, partitions, statistics
from ngsp.transactions.find import Finder
from ngsp.transactions.gateways import Presence, Registration, register
from ngsp.transactions.log import TransactionLog
from ngsp.transactions.projection import Projector
from ngsp.transactions.writer import LogWriter
from ngsp.vault import Vault

MOST_BODY_BYTES_AT_ONCE = 64 << 20
MAINTENANCE_EVERY_S = 3600.0
TEND_EVERY_S = 5.0
TOPICS_EVERY_S = 15.0
REPLY_TOPIC_RETENTION_S = 3600.0

SLOW_GAUGES = {
    "ngsp_outbox_open": "SELECT count(*) FROM outbox WHERE state = 'open'",
    "ngsp_outbox_oldest_seconds": """SELECT extract(epoch FROM now() - min(accepted_at)) FROM outbox
        WHERE state = 'open'""",
    "ngsp_quarantine_held": "SELECT count(*) FROM quarantine WHERE state = 'held'",
    "ngsp_projection_lag_seconds": """SELECT extract(epoch FROM now() - min(at)) FROM (
        SELECT e.at FROM entries e, projection p WHERE (e.xid, e.seq) > (p.xid, p.seq)
        ORDER BY e.xid, e.seq LIMIT 1) behind""",
}

log = structlog.get_logger(__name__)


def create_app(settings: Settings | None = None, adapters: Sequence[Adapter] = ()) -> FrontDoor:
    """The gateway as an ASGI application; `settings` from the environment where none are given.

    `adapters` run inside the process: for the embedded bus, where there is no broker that others could reach.
    """

    @asynccontextmanager
    async def lifespan(inner: FastAPI) -> AsyncIterator[None]:
        chosen = settings or Settings()
        async with AsyncExitStack() as stack:
            gateway = Gateway(chosen, stack)
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


class Gateway:
    """One gateway: opened top to bottom, closed by `stack` in the reverse order."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings, self._stack = settings, stack
        self._url = settings.database_url.get_secret_value()
        self._door: FrontDoor | None = None
        self._is_fenced = False

    async def open(self, door: FrontDoor, adapters: Sequence[Adapter]) -> Parts:
        """Everything, in the order in which it depends on what is before it."""
        settings = self._settings
        configure_logging(settings.log_level)
        vault = Vault(settings.key_encryption_keys())
        database = await self._open_database()
        rows = await pool(self._url, size=settings.database_pool_size, name=f"ngsp:{settings.instance}")
        self._stack.push_async_callback(rows.close)
        registration = await self._register()
        presence = Presence(rows, registration, settings.lease_s, self._fenced)
        self._stack.push_async_callback(presence.stop)  # after the writer's end: signing off closes what is open
        registry = Registry(settings, database, hash_secret)
        await registry.start()
        self._stack.push_async_callback(registry.stop)
        tokens = await self._open_tokens(database, vault)
        writer = await self._open_writer(registration)
        metrics = Metrics(lambda path: path in registry.snapshot.services)
        transactions = self._transaction_log(writer, registration, vault, metrics)
        bus = await self._open_bus(registry, registration)
        strays = Strays(rows, registry, transactions, vault)
        asker = Asker(bus, f"{REPLY_TOPIC_PREFIX}{registration.slot}", strays.later)
        refusals = Refusals(rows, settings.instance)
        self._stack.push_async_callback(refusals.flush)
        quotas = Quotas(rows, lambda: presence.alive)
        self._stack.push_async_callback(quotas.stop)
        relay = Relay(rows, bus, registry, transactions, vault, settings)
        outcomes = Outcomes(rows, bus, registry, transactions, vault, strays, settings)
        self._gate = Gate(
            most=settings.max_in_flight,
            client_share=settings.max_client_share,
            most_log_wait_s=settings.max_log_wait_s,
            log_age_s=writer.oldest_age_s,
            log_trouble=writer.trouble,
            most_body_bytes=MOST_BODY_BYTES_AT_ONCE,
        )
        exchange = Exchange(
            registry=registry,
            tokens=tokens,
            quotas=quotas,
            log=transactions,
            asker=asker,
            repeats=Repeats(rows, vault),
            vault=vault,
            metrics=metrics,
            on_submission=relay.wake.set,
        )
        registry.on_change(relay.on_change)
        presence.start()
        inside = AdaptersInside(bus, vault, settings.adapter_folder, registry, settings.instance)
        self._stack.push_async_callback(inside.stop)
        await inside.start(adapters)
        strays.start()
        self._stack.push_async_callback(strays.stop)
        await asker.start()
        self._stack.push_async_callback(asker.stop)
        await outcomes.start()
        self._stack.push_async_callback(outcomes.stop, 5.0)
        self._watch(rows, metrics, writer, registry, bus)
        self._start_jobs(rows, presence, transactions, relay, bus, registry)
        self._jobs.start("attempts", Sharing(rows, tokens.clients.attempts).step, SHARE_EVERY_S)
        for name, step in (("refusals", refusals.flush), ("quotas", quotas.step), ("gauges", metrics.refresh)):
            self._jobs.start(name, step, TEND_EVERY_S)
        self._jobs.start("beats", inside.beat, TEND_EVERY_S)
        self._door = door
        compatible = CompatibleParts(
            exchange, self._gate, refusals, metrics, registry, tokens, Partners(tokens), settings.trusted_proxies
        )
        door.open(exchange, self._gate, refusals, metrics, self.drain, lambda inner: CompatibleDoor(inner, compatible))
        self._parts = Parts(
            settings=settings,
            registry=registry,
            tokens=tokens,
            finder=Finder(rows, vault),
            statistics=statistics.Statistics(rows),
            pool=rows,
            metrics=metrics,
            refusals=refusals,
            gate=self._gate,
            prober=Prober(registry, asker, transactions, settings.node),
            checks={
                "log": writer.trouble,
                "bus": bus.trouble,
                "registry": lambda: "stale" if registry.age_s > settings.registry_stale_s else "",
                "database": quotas.trouble,
                "draining": lambda: "draining" if self._gate.draining else "",
            },
        )
        log.info("gateway open", instance=settings.instance, epoch=registration.epoch, slot=registration.slot)
        return self._parts

    async def _open_database(self) -> AsyncEngine:
        if self._settings.migrate:
            await migrate(self._url)
        settings = self._settings
        database = engine(self._url, pool_size=settings.database_pool_size, name=f"ngsp:{settings.instance}")
        self._stack.push_async_callback(database.dispose)
        async with database.connect() as connection:
            await check_durability(connection)
        return database

    async def _register(self) -> Registration:
        connection = await connect(self._url, name="ngsp-register")
        try:
            await partitions.ensure(connection, entry.now())
            return await register(connection, self._settings.instance)
        finally:
            await connection.close()

    async def _open_tokens(self, database: AsyncEngine, vault: Vault) -> Tokens:
        tokens = Tokens(self._settings, database, vault)
        await tokens.start()
        self._stack.push_async_callback(tokens.stop)
        return tokens

    async def _open_writer(self, registration: Registration) -> LogWriter:
        writer = LogWriter(
            self._url,
            registration.instance,
            registration.epoch,
            timeout_s=self._settings.log_timeout_s,
            on_fenced=self._fenced,
        )
        await writer.start()
        self._stack.push_async_callback(writer.stop, self._settings.log_timeout_s)
        return writer

    def _transaction_log(
        self, writer: LogWriter, registration: Registration, vault: Vault, metrics: Metrics
    ) -> TransactionLog:
        settings = self._settings
        return TransactionLog(
            writer,
            entry.Scribe(settings.node, registration.instance, registration.epoch),
            vault,
            key_life=timedelta(days=settings.idempotency_days),
            reply_life=timedelta(days=settings.reply_retention_days),
            on_ended=metrics.ended,
        )

    async def _open_bus(self, registry: Registry, registration: Registration) -> Bus:
        bus = make_bus(self._settings)
        await bus.start()
        self._stack.push_async_callback(bus.stop)
        self._replies = Topic(f"{REPLY_TOPIC_PREFIX}{registration.slot}", 1, REPLY_TOPIC_RETENTION_S)
        await bus.ensure([self._replies, *all_topics(registry.snapshot, self._settings)])
        return bus

    def _reconcile_topics(self, bus: Bus, registry: Registry, presence: Presence, jobs: Jobs) -> None:
        """One gateway makes the topics of what is registered: at once, and again in case it was cut off."""

        async def ensure() -> int:
            await bus.ensure(all_topics(registry.snapshot, self._settings))
            return 0

        async def on_change(_: Snapshot) -> None:
            if await presence.lease("topics"):
                await ensure()

        async def ensure_replies() -> int:
            await bus.ensure([self._replies])
            return 0

        registry.on_change(on_change)
        jobs.start("topics", ensure, TOPICS_EVERY_S, leased=True)
        jobs.start("replies", ensure_replies, TOPICS_EVERY_S)

    def _start_jobs(
        self,
        rows: asyncpg.Pool,
        presence: Presence,
        transactions: TransactionLog,
        relay: Relay,
        bus: Bus,
        registry: Registry,
    ) -> None:
        settings = self._settings
        self._jobs = jobs = Jobs(presence.lease, settings.lease_s)
        projector, sweep = Projector(rows), Sweep(rows, transactions)
        jobs.start("relay", relay.step, settings.relay_poll_s, leased=True, wake=relay.wake)
        jobs.start("project", projector.run_once, settings.project_s, leased=True)
        jobs.start("sweep", sweep.step, settings.sweep_s, leased=True)
        jobs.start("maintain", lambda: self._maintain(rows), MAINTENANCE_EVERY_S, leased=True)
        self._reconcile_topics(bus, registry, presence, jobs)
        self._stack.push_async_callback(jobs.stop)

    async def _maintain(self, rows: asyncpg.Pool) -> int:
        async with rows.acquire() as connection:
            await partitions.ensure(connection, entry.now())
            await partitions.retire(connection, entry.now(), self._settings.log_retention_months)
            await statistics.retire(connection, entry.now())
        return 0

    def _watch(self, rows: asyncpg.Pool, metrics: Metrics, writer: LogWriter, registry: Registry, bus: Bus) -> None:
        gate = self._gate
        metrics.gauge("ngsp_in_flight", lambda: gate.in_flight)
        metrics.gauge("ngsp_log_queue", lambda: writer.queued)
        metrics.gauge("ngsp_log_batch_size", lambda: writer.last_batch)
        metrics.gauge("ngsp_log_oldest_seconds", writer.oldest_age_s)
        metrics.gauge("ngsp_log_broken", lambda: int(bool(writer.trouble())))
        metrics.gauge("ngsp_registry_age_seconds", lambda: registry.age_s)
        metrics.gauge("ngsp_bus_up", lambda: int(not bus.trouble()))
        metrics.slow_gauge("ngsp_consumer_lag", lambda: bus.lag(working_groups(registry.snapshot)))
        for name, statement in SLOW_GAUGES.items():
            metrics.slow_gauge(name, partial(_figure, rows, statement))

    def drain(self) -> None:
        """Refuse new work; what is in flight goes on."""
        self._gate.draining = True
        self._parts.closing.set()

    def _fenced(self) -> None:
        """Another took this gateway for dead and closed its work: it must go, and come back under a new epoch."""
        if self._is_fenced:
            return  # told by the writer and by each heartbeat, but a second signal would end the process at once
        self._is_fenced = True
        log.critical("fenced: this gateway ends itself")
        if self._door is not None:
            self._door.fenced = True
        os.kill(os.getpid(), signal.SIGTERM)


def _meaning(error: Exception) -> NgspError | None:
    """A database that is away is not a defect: the caller may come again."""
    away = (
        OSError,
        TimeoutError,
        SQLAlchemyTimeout,
        asyncpg.AdminShutdownError,
        asyncpg.CannotConnectNowError,
        asyncpg.CrashShutdownError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        asyncpg.PostgresConnectionError,
    )
    broken = isinstance(error, DBAPIError) and error.connection_invalidated
    if broken or isinstance(error, away):
        return RegistryStale(retry_after_s=2, reason=f"database away: {type(error).__name__}")
    return None


async def _figure(rows: asyncpg.Pool, statement: str) -> float:
    return float(await rows.fetchval(statement) or 0)


def make_bus(settings: Settings) -> Bus:
    if settings.bus == "embedded":
        return EmbeddedBus()
    password = settings.kafka_password.get_secret_value() if settings.kafka_password else ""
    connection = KafkaConnection(
        settings.kafka_bootstrap,
        settings.kafka_security_protocol,
        settings.kafka_ca_file,
        settings.kafka_cert_file,
        settings.kafka_key_file,
        settings.kafka_username,
        password,
    )
    return KafkaBus(connection, f"ngsp-{settings.instance}", settings.kafka_replication)


def working_groups(snapshot: Snapshot) -> dict[str, str]:
    """Topic → the consumer group that works on it: an adapter's, or the gateways' for outcomes."""
    adapters = {service.key.request_topic: group_of(service.adapter) for service in _called(snapshot)}
    return adapters | {OUTCOMES_TOPIC: GATEWAYS_GROUP}


def all_topics(snapshot: Snapshot, settings: Settings) -> list[Topic]:
    """What the registry asks for: one request topic for each service that is called, and the one for outcomes."""
    names = [OUTCOMES_TOPIC, *(service.key.request_topic for service in _called(snapshot))]
    return [Topic(name, settings.kafka_partitions, settings.kafka_retention_s) for name in names]


def _called(snapshot: Snapshot) -> Iterator[Service]:
    return (service for service in snapshot.services.values() if service.mode != "event")
