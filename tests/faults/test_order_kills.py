"""Submissions of one dossier are worked in the order of acceptance, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import random
import sys

import httpx
import pytest

from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from ngsp.transactions import entry
from tests.faults.kills import Killer, chosen_seed, fault_installation, until_settled
from tests.faults.load import CALL_TIMEOUT_S
from tests.faults.reconcile import open_work
from tests.support.installation import KAFKA, Installation

pytestmark = [pytest.mark.postgres, pytest.mark.long]

SERVICE = "H41/post-in-order/v1"
ADAPTERS = {"ledger-1": "tests.faults.provider.ledger", "ledger-2": "tests.faults.provider.ledger"}
DOSSIERS = [f"000.00.00.H41-261121-{number:04d}" for number in range(1, 9)]
LONGEST = 12
"""Submissions of a dossier."""
KILLED = ("ledger-1", "gateway-1", "ledger-2", KAFKA, "ledger-1", "gateway-2", "ledger-2")


class Desk:
    """Sends the submissions of one dossier, each when the one before is acknowledged, now by this gateway, now by that.

    `accepted`: their transactions, in that order.
    """

    def __init__(self, installation: Installation, dossier: str, chance: random.Random) -> None:
        self._installation, self._dossier, self._chance = installation, dossier, chance
        self.accepted: list[str] = []

    async def run(self) -> None:
        for number in range(LONGEST):
            delay_ms, rule = self._chance.choice((0, 20, 200, 500)), self._chance.choice(("take", "take", "retry"))
            body = {"item": str(number), "delay_ms": delay_ms, "rule": rule}
            self.accepted.append(await self._acknowledged(body))

    async def _acknowledged(self, body: dict[str, object]) -> str:
        while True:
            try:
                answer = await self._installation.call(
                    SERVICE,
                    body,
                    gateway=self._chance.choice(self._installation.gateways),
                    key=f"{self._dossier}-{body['item']}",
                    timeout_s=CALL_TIMEOUT_S,
                    Ngsp_Dossier=self._dossier,
                )
            except httpx.HTTPError:
                continue
            if answer.status_code in (200, 202):
                return str(answer.headers["Ngsp-Transaction"])
            assert answer.status_code in (429, 503), answer.text
            await asyncio.sleep(0.1)


async def test_a_dossier_is_worked_in_the_order_of_acceptance(
    own_postgres: LocalPostgres, own_kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two gateways, two processes of the adapter; each of them and the broker killed while there is work.

    The provider writes down with each entry how many of the dossier it had committed when it began with it: for the
    n-th that must be n, or it overtook one, or was begun while one was at work.
    """
    seed = chosen_seed()
    print(f"\norder, seed {seed}", file=sys.stderr, flush=True)
    chance = random.Random(f"{seed}/order")
    installation, ledger_url, _ = await fault_installation(
        tmp_path_factory.mktemp("order"), own_postgres, own_kafka, adapters=ADAPTERS
    )
    async with installation:
        desks = [Desk(installation, dossier, random.Random(f"{seed}/{dossier}")) for dossier in DOSSIERS]
        killer = Killer(installation, chance)
        sending = asyncio.gather(*(desk.run() for desk in desks))
        await killer.run(KILLED)
        await sending
        assert await until_settled(lambda: open_work(installation)) == 0
        assert killer.kills.total() == len(KILLED)
        for desk in desks:
            for tx in desk.accepted:
                assert (await installation.kinds(tx))[-1] in (entry.SUCCEEDED, entry.REPEATED), f"seed {seed}"
    for desk, dossier in zip(desks, DOSSIERS, strict=True):
        rows = await installation.rows(
            "SELECT tx, item, before FROM lines WHERE dossier = $1 ORDER BY before, item", dossier, url=ledger_url
        )
        found = [(row["tx"], row["item"], row["before"]) for row in rows]
        assert found == [(tx, str(n), n) for n, tx in enumerate(desk.accepted)], f"seed {seed}"
