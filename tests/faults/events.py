"""Events under fire: published until they are acknowledged, and held against what two subscribers got of them.

One subscription ends in a table of the provider, by its adapter, the other at a webhook here. Of each acknowledged
event the table has one row and the webhook at least one request, both in the order of the event's subject.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import httpx

from ngsp.transactions import entry
from tests.backends.scripted import Asked, Scripted, raw
from tests.faults.reconcile import Account
from tests.support.installation import Installation

SERVICE, RECEIVER = "G22/entry-events/v1", "H41/take-event/v1"
SUBJECTS = 4
TIMEOUT_S = 12.0
RETRIED = frozenset(("overloaded", "log-unavailable", "registry-stale", "draining", "too-many-requests",
                     "key-in-flight"))  # fmt: skip

BEHIND = """
SELECT count(*) FROM subscription_progress p JOIN subscriptions s ON s.id = p.subscription AND s.active
WHERE EXISTS (SELECT 1 FROM events e WHERE e.service = s.service AND (e.xid, e.seq) > (p.xid, p.seq))"""
"""Subscriptions that were not given everything yet."""
_TAKEN = "SELECT tx, event, before FROM taken WHERE subject = $1 ORDER BY before, event"
_DELIVERIES = """
SELECT d.tx::text AS tx, d.publication::text AS publication, d.subscription,
    (SELECT array_agg(e.kind::int ORDER BY e.xid, e.seq) FROM entries e WHERE e.tx = d.tx) AS kinds
FROM deliveries d WHERE d.subscription = ANY($1::text[])"""


@dataclass
class Published:
    """What one publisher was told, in its order: event id → its transaction."""

    subject: str
    acknowledged: dict[str, str] = field(default_factory=dict)


class EventLoad:
    """Publishers at work until `stop` is set, one for each subject, each event after the one before."""

    def __init__(self, installation: Installation, seed: int, name: str) -> None:
        self._installation, self._name = installation, name
        self._random = [random.Random(f"{seed}/{name}/events/{number}") for number in range(SUBJECTS)]
        self._hook = Scripted(answer=self._answer)
        self._chance = random.Random(f"{seed}/{name}/hook")
        self._came: defaultdict[str, list[str]] = defaultdict(list)
        self.published = [Published(f"{name}-{number}") for number in range(SUBJECTS)]
        self.unplanned: list[str] = []
        self.stop = asyncio.Event()
        self._server: asyncio.Server | None = None

    @property
    def _subscriptions(self) -> dict[str, dict[str, str]]:
        return {f"ledger-{self._name}": {"receiver": RECEIVER}, f"hook-{self._name}": {"url": self._hook.url}}

    async def open(self) -> None:
        """The webhook listens and both subscriptions are made."""
        self._server = await asyncio.start_server(self._hook.serve, "127.0.0.1", 0)
        self._hook.port = self._server.sockets[0].getsockname()[1]
        for id, where in self._subscriptions.items():
            await self._put(id, where, active=True)

    async def close(self) -> None:
        for id, where in self._subscriptions.items():
            await self._put(id, where, active=False)
        if self._server is not None:
            self._server.close()

    async def _put(self, id: str, where: dict[str, str], *, active: bool) -> None:
        document = {"service": SERVICE, "purpose": "testing", "active": active} | where
        answer = await self._installation.request("PUT", f"/v1/subscriptions/{id}", client="provider", json=document)
        assert answer.status_code in (200, 201), answer.text

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        """Now and then the event is taken and the answer lost, or it is not taken."""
        fate = self._chance.random()
        if fate >= 0.1:
            self._came[asked.headers["webhook-id"]].append(asked.headers["ngsp-transaction"])
        if fate < 0.1:
            writer.write(raw("503 Service Unavailable"))
        elif fate < 0.2:
            writer.close()
        else:
            writer.write(raw("204 No Content"))

    async def run(self) -> None:
        await asyncio.gather(*map(self._publish, self.published, self._random))

    async def _publish(self, told: Published, chance: random.Random) -> None:
        number = 0
        while not self.stop.is_set():
            number += 1
            event: dict[str, object] = {
                "specversion": "1.0",
                "id": f"{told.subject}-{number}",
                "source": "/faults",
                "type": "vn.g22.entry",
                "subject": told.subject,
                "data": {"item": str(number), "delay_ms": chance.choice((0, 5, 50, 200))},
            }
            told.acknowledged[str(event["id"])] = await self._acknowledged(event, chance)
            await asyncio.sleep(chance.uniform(0.05, 0.5))

    async def _acknowledged(self, event: dict[str, object], chance: random.Random) -> str:
        while True:
            gateway = chance.choice(self._installation.gateways)
            try:
                answer = await self._installation.request(
                    "POST", f"/v1/events/{SERVICE}", gateway=gateway, client="portal", json=event, timeout=TIMEOUT_S,
                    headers={"Content-Type": "application/cloudevents+json"},
                )  # fmt: skip
            except httpx.HTTPError:
                answer = None
            if answer is not None and answer.status_code == 202:
                return str(answer.json()["items"][0]["transaction"])
            if answer is not None and answer.json().get("code") not in RETRIED:
                self.unplanned.append(f"{answer.status_code} {answer.text[:200]}")
            await asyncio.sleep(chance.uniform(0.05, 0.5))

    async def reconcile(self, account: Account, ledger_url: str) -> int:
        """Puts what is wrong into `account`; returns how many events were acknowledged. To be called when all rests."""
        for answer in self.unplanned:
            account.fault(f"an answer to a publisher that no fault explains: {answer}")
        found = await self._installation.rows(_DELIVERIES, list(self._subscriptions))
        made = Counter((row["subscription"], row["publication"]) for row in found)
        delivered = {row["tx"] for row in found}
        for row in found:
            if entry.SUCCEEDED not in row["kinds"] and entry.RESOLVED not in row["kinds"]:
                account.fault(f"{row['tx']}: a delivery that did not succeed: {row['kinds']}")
        for told in self.published:
            for id in self._subscriptions:
                for event, tx in told.acknowledged.items():
                    if made[(id, tx)] != 1:
                        account.fault(f"{event}: {made[(id, tx)]} deliveries to {id}")
            await self._check_table(account, told, delivered, ledger_url)
            self._check_hook(account, told)
        return sum(len(told.acknowledged) for told in self.published)

    async def _check_table(self, account: Account, told: Published, delivered: set[str], url: str) -> None:
        rows = await self._installation.rows(_TAKEN, told.subject, url=url)
        if [(row["event"], row["before"]) for row in rows] != [(id, n) for n, id in enumerate(told.acknowledged)]:
            account.fault(f"{told.subject}: {len(told.acknowledged)} acknowledged, taken as "
                          f"{[(row['event'], row['before']) for row in rows]}")  # fmt: skip
        for row in rows:
            if row["tx"] not in delivered:
                account.fault(f"{row['event']}: taken from {row['tx']}, which is no delivery")

    def _check_hook(self, account: Account, told: Published) -> None:
        expected = list(told.acknowledged.values())
        first = [id for id in self._came if id in set(expected)]
        if first != expected:
            account.fault(f"{told.subject}: {len(expected)} acknowledged, {len(first)} came to the webhook, or in "
                          "another order")  # fmt: skip
