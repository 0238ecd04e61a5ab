"""What everything in a gateway stands on, opened first and closed last: the stores, the registry, the log, the bus."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from ngsp.bus import Bus, Topic
from ngsp.config import Settings
from ngsp.database import check_durability, connect, engine, migrate, pool
from ngsp.identity.secrets import hash_secret
from ngsp.identity.tokens import Tokens
from ngsp.metrics import Metrics
from ngsp.registry.store import Registry
from ngsp.topics import all_topics, make_bus, reply_topic
from ngsp.transactions import entry, partitions
from ngsp.transactions.gateways import Presence, Registration, register
from ngsp.transactions.log import TransactionLog
from ngsp.transactions.writer import LogWriter
from ngsp.vault import Vault

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True, slots=True)
class Ground:
    """`registration`: under which instance, epoch and slot this gateway runs. `replies`: the topic of its replies.

    `presence` is not started yet: what is not ready for work is not to be taken for alive.
    """

    vault: Vault
    rows: asyncpg.Pool
    registration: Registration
    presence: Presence
    registry: Registry
    tokens: Tokens
    writer: LogWriter
    metrics: Metrics
    log: TransactionLog
    bus: Bus
    replies: Topic


async def open_ground(settings: Settings, stack: AsyncExitStack, on_fenced: Callable[[], None]) -> Ground:
    """All of it; `stack` closes it. Raises what is wrong with the surroundings."""
    url = settings.database_url.get_secret_value()
    vault = Vault(settings.key_encryption_keys())
    await _prepare_database(url, settings)
    registration = await _register(url, settings)
    database = engine(url, pool_size=settings.database_pool_size, name=registration.session())
    stack.push_async_callback(database.dispose)
    rows = await pool(url, size=settings.database_pool_size, name=registration.session())
    stack.push_async_callback(rows.close)
    presence = Presence(rows, registration, settings.lease_s, on_fenced)
    stack.push_async_callback(presence.stop)  # after the writer's end: signing off closes what is open
    registry = Registry(settings, database, hash_secret, vault.seal_secret)
    await registry.start()
    stack.push_async_callback(registry.stop)
    tokens = Tokens(settings, database, vault)
    await tokens.start()
    stack.push_async_callback(tokens.stop)
    writer = LogWriter(url, registration, timeout_s=settings.log_timeout_s, on_fenced=on_fenced)
    await writer.start()
    stack.push_async_callback(writer.stop, settings.log_timeout_s)
    metrics = Metrics(lambda path: path in registry.snapshot.services)
    log = TransactionLog(
        writer,
        entry.Scribe(settings.node, registration.instance, registration.epoch),
        vault,
        key_life=timedelta(days=settings.idempotency_days),
        reply_life=timedelta(days=settings.reply_retention_days),
        on_ended=metrics.ended,
    )
    bus = make_bus(settings)
    await bus.start()
    stack.push_async_callback(bus.stop)
    replies = reply_topic(registration.slot)
    await bus.ensure([replies, *all_topics(registry.snapshot, settings)])
    return Ground(vault, rows, registration, presence, registry, tokens, writer, metrics, log, bus, replies)


async def _prepare_database(url: str, settings: Settings) -> None:
    if settings.migrate:
        await migrate(url)
    database = engine(url, pool_size=1, name="ngsp-register")
    try:
        async with database.connect() as connection:
            await check_durability(connection)
    finally:
        await database.dispose()


async def _register(url: str, settings: Settings) -> Registration:
    connection = await connect(url, name="ngsp-register")
    try:
        await partitions.ensure(connection, entry.now())
        return await register(connection, settings.instance)
    finally:
        await connection.close()
