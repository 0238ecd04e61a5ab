"""One gateway with the ledger and the reading adapter, and what a test asks of them and of the broker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from ngsp.messages import REPLY_TOPIC_PREFIX, Envelope, ServiceKey
from ngsp.transactions import entry
from tests.faults.kills import fault_installation
from tests.support.installation import KAFKA, POSTGRES, Installation
from tests.support.waiting import until

POST, BRIEFLY, READ = "H41/post-entry/v1", "H41/post-briefly/v1", "H41/read-entry/v1"
ADAPTERS = {"ledger": "tests.faults.provider.ledger", "reading": "tests.faults.provider.reading"}
ENDED_TIMEOUT_S = 60.0


class World:
    """`installation` is open. Every item is another one, so that nothing is a repeat."""

    def __init__(self, installation: Installation, ledger_url: str) -> None:
        self.installation, self.ledger_url = installation, ledger_url
        self._number = 0

    @classmethod
    async def make(
        cls, folder: Path, postgres: LocalPostgres, kafka: LocalKafka, gateways: int = 1, **settings: str
    ) -> World:
        """Not yet open. `settings`: of the gateways, by the names of their variables."""
        installation, ledger_url, _ = await fault_installation(
            folder, postgres, kafka, adapters=ADAPTERS, gateways=gateways, settings=settings
        )
        return cls(installation, ledger_url)

    async def all_up(self) -> None:
        """Starts whatever a test left dead."""
        for name in (POSTGRES, KAFKA, *self.installation.gateways, *self.installation.adapters):
            if not self.installation.running(name):
                await self.installation.start(name)

    async def without_broker(self) -> None:
        """Kills the broker and waits until the gateways know: from then on nothing is published."""
        await self.installation.kill(KAFKA)
        for gateway in self.installation.gateways:

            async def knows(gateway: str = gateway) -> bool:
                answer = await self.installation.request("GET", "/readyz", gateway=gateway)
                return bool(answer.json()["parts"]["bus"] == "bus-unavailable")

            await until(knows, f"{gateway} to know that the broker is away")

    def body(self, *, rule: str = "take", delay_ms: int = 0) -> dict[str, object]:
        self._number += 1
        return {"item": f"item-{self._number}", "delay_ms": delay_ms, "rule": rule}

    async def submit(self, service: str = POST, *, rule: str = "take", delay_ms: int = 0) -> str:
        """A submission, or a query to be answered later; its transaction."""
        body = self.body(rule=rule, delay_ms=delay_ms)
        answer = await self.installation.call(service, body, key=f"key-{body['item']}", Prefer="respond-async")
        assert answer.status_code == 202, answer.text
        return str(answer.headers["Ngsp-Transaction"])

    async def endings(self, tx: str) -> list[int]:
        """Kinds of the entries of `tx` after its acceptance; not that it was delivered, nor that a reply came twice."""
        kinds = await self.installation.kinds(tx)
        assert kinds[:1] == [entry.ACCEPTED], kinds
        return [kind for kind in kinds[1:] if kind not in (entry.DELIVERED, entry.REPEATED)]

    async def ended(self, tx: str, *kinds: int) -> None:
        """Waits until `endings` are these."""

        async def found() -> bool:
            return await self.endings(tx) == list(kinds)

        await until(found, f"{tx} to end as {[entry.KINDS[kind] for kind in kinds]}", ENDED_TIMEOUT_S)

    async def repeated(self, tx: str) -> int:
        """How often it was recorded that a reply came when there was one."""
        return (await self.installation.kinds(tx)).count(entry.REPEATED)

    async def published(self, tx: str) -> None:
        async def found() -> bool:
            return entry.DELIVERED in await self.installation.kinds(tx)

        await until(found, f"{tx} to be published", ENDED_TIMEOUT_S)

    async def code(self, tx: str) -> str:
        """The code in the terminal entry of `tx`."""
        bodies = await self.installation.rows("SELECT body FROM entries WHERE tx = $1 AND kind BETWEEN 3 AND 7", tx)
        return str(entry.read(bodies[0]["body"])["outcome"].get("code", ""))

    async def execute(self, statement: str, *arguments: object) -> None:
        """In the gateway's database, behind its back."""
        connection = await asyncpg.connect(self.installation.database_url)
        try:
            await connection.execute(statement, *arguments)
        finally:
            await connection.close()

    async def in_ledger(self, tx: str) -> int:
        found = await self.installation.value("SELECT count(*) FROM ledger WHERE tx = $1", tx, url=self.ledger_url)
        return int(found)

    async def ledger_size(self) -> int:
        return int(await self.installation.value("SELECT count(*) FROM ledger", url=self.ledger_url))

    async def send(self, topic: str, headers: Sequence[tuple[str, bytes | None]], value: bytes) -> None:
        """Any message, as whoever has rights on the broker could send it."""
        producer = AIOKafkaProducer(bootstrap_servers=self.installation.kafka.bootstrap)
        await producer.start()
        try:
            await producer.send_and_wait(topic, value, headers=list(headers))
        finally:
            await producer.stop()

    async def reply_topic(self, gateway: str = "gateway-1") -> str:
        """Where `gateway` reads replies: there may be topics of slots that it had before."""
        slot = await self.installation.value("SELECT slot FROM gateways WHERE instance = $1", gateway)
        return f"{REPLY_TOPIC_PREFIX}{slot}"

    async def deliveries(self, service: str, tx: str) -> list[Envelope]:
        """Every message about `tx` that lies in the request topic of `service`."""
        topic = ServiceKey.parse(service).request_topic
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.installation.kafka.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(topic, number) for number in range(2)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[Envelope] = []
            while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += [Envelope.read(record.headers, record.value) for record in records]
            return [envelope for envelope in found if envelope.id == tx]
        finally:
            await consumer.stop()

    def logged(self, event: str, part: str = "gateway-1") -> int:
        """How often `event` stands in the log of a part."""
        return self.installation.programs.log(part).read_text("utf-8").count(event)
