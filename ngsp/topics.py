"""The bus of the settings, and which topics and groups it has by what is registered."""

from __future__ import annotations

from collections.abc import Iterator

from ngsp.bus import Bus, EmbeddedBus, Topic
from ngsp.bus.kafka import KafkaBus, KafkaConnection
from ngsp.config import Settings
from ngsp.jobs import Jobs
from ngsp.messages import GATEWAYS_GROUP, OUTCOMES_TOPIC, REPLY_TOPIC_PREFIX, group_of
from ngsp.registry.model import Service, Snapshot
from ngsp.registry.store import Registry
from ngsp.transactions.gateways import Presence

RECONCILE_EVERY_S = 15.0
REPLY_TOPIC_RETENTION_S = 3600.0


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


def reply_topic(slot: int) -> Topic:
    """Where the replies of the gateway with this slot come."""
    return Topic(f"{REPLY_TOPIC_PREFIX}{slot}", 1, REPLY_TOPIC_RETENTION_S)


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


def reconcile(bus: Bus, registry: Registry, presence: Presence, jobs: Jobs, settings: Settings, replies: Topic) -> None:
    """One gateway makes the topics of what is registered: at once, and again in case it was cut off."""

    async def ensure() -> int:
        await bus.ensure(all_topics(registry.snapshot, settings))
        return 0

    async def on_change(_: Snapshot) -> None:
        if await presence.lease("topics"):
            await ensure()

    async def ensure_replies() -> int:
        await bus.ensure([replies])
        return 0

    registry.on_change(on_change)
    jobs.start("topics", ensure, RECONCILE_EVERY_S, leased=True)
    jobs.start("replies", ensure_replies, RECONCILE_EVERY_S)
