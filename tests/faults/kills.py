"""Kills parts of a loaded installation at random moments and brings them back; a kill counts if work was in flight."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from tests.faults.events import BEHIND, EventLoad
from tests.faults.load import Load, Told
from tests.faults.reconcile import Account, open_work, reconcile
from tests.support.installation import KAFKA, POSTGRES, ROOT, Installation, own_database

REGISTRY = ROOT / "tests" / "faults" / "registry.yaml"
ADAPTERS: Mapping[str, str] = {
    "ledger-1": "tests.faults.provider.ledger",
    "ledger-2": "tests.faults.provider.ledger",
    "notice": "tests.faults.provider.notice",
    "reading": "tests.faults.provider.reading",
}
SETTLE_TIMEOUT_S = 120.0
WORK_TIMEOUT_S = 60.0
LONGEST_PAUSE_S = 2.5
_DATABASE_AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


@dataclass(slots=True)
class Result:
    """`in_flight`: open transactions at each kill. `account`: the reconciliation of everything so far. `events`: how
    many were acknowledged."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    in_flight: list[int] = field(default_factory=list)
    told: Told = field(default_factory=Told)
    account: Account = field(default_factory=Account)
    events: int = 0
    seconds: float = 0.0
    settled_s: float = 0.0

    def __str__(self) -> str:
        account = self.account
        ends = " ".join(f"{name}={number}" for name, number in sorted(account.outcomes.items()))
        answers = " ".join(f"{name}={number}" for name, number in self.told.answers.most_common())
        return (
            f"seed {self.seed} (NGSP_SEED={self.seed} repeats it)\n"
            f"kills {self.kills.total()}: " + ", ".join(f"{kind} {n}" for kind, n in sorted(self.kills.items())) + "; "
            f"in flight at a kill {min(self.in_flight, default=0)} to {max(self.in_flight, default=0)}\n"
            f"acknowledged {account.acknowledged} of {len(self.told.submissions)} submissions; {self.events} events; "
            f"{account.transactions} transactions: {ends}; resolved {account.resolved}, repeated {account.repeated}\n"
            f"effects {account.effects}; answers: {answers}\n"
            f"{self.seconds:.0f} s, settled {self.settled_s:.1f} s after the last kill; faults {len(account.faults)}"
        )


def chosen_seed() -> int:
    """NGSP_SEED, or a new one."""
    return int(os.environ.get("NGSP_SEED") or random.SystemRandom().randrange(1_000_000))


async def fault_installation(
    folder: Path,
    postgres: LocalPostgres,
    kafka: LocalKafka,
    *,
    adapters: Mapping[str, str] = ADAPTERS,
    gateways: int = 2,
    settings: Mapping[str, str] | None = None,
) -> tuple[Installation, str, Path]:
    """An installation with the provider of the fault tests, not yet open; its ledger's address, its file of notices."""
    ledger_url, notices = await own_database(postgres, "ledger"), folder / "notices"
    installation = Installation(
        folder,
        postgres,
        kafka,
        registry=REGISTRY,
        adapters=adapters,
        gateways=gateways,
        settings=settings,
        adapter_settings={"NGSP_TEST_LEDGER_URL": ledger_url, "NGSP_TEST_NOTICE_FILE": str(notices)},
    )
    return installation, ledger_url, notices


def victims(installation: Installation, kills: int, chance: random.Random) -> list[str]:
    """In random order; of twenty, seven are gateways, seven adapters, three the broker, three the database."""
    adapters = list(installation.adapters)
    found: list[str] = []
    for share in _shares(kills, (7, 7, 3, 3), (installation.gateways, adapters, [KAFKA], [POSTGRES])):
        found += [share[1][number % len(share[1])] for number in range(share[0])]
    chance.shuffle(found)
    return found


def _shares(kills: int, weights: Sequence[int], groups: Sequence[list[str]]) -> list[tuple[int, list[str]]]:
    numbers = [kills * weight // sum(weights) for weight in weights]
    numbers[0] += kills - sum(numbers)
    return list(zip(numbers, groups, strict=True))


def kind_of(installation: Installation, name: str) -> str:
    if name in installation.ports:
        return "gateway"
    return "adapter" if name in installation.adapters else name


class Killer:
    """Each victim is killed, left dead for a moment and started again; every other time the next one is killed before
    that has come back."""

    def __init__(
        self, installation: Installation, chance: random.Random, longest_pause_s: float = LONGEST_PAUSE_S
    ) -> None:
        self._installation, self._chance, self._longest_pause_s = installation, chance, longest_pause_s
        self._returning: dict[str, asyncio.Task[None]] = {}
        self.kills: Counter[str] = Counter()
        self.in_flight: list[int] = []

    async def run(self, names: Sequence[str], say: Callable[[str], None] = lambda _line: None) -> None:
        """Kill each of `names` in turn and wait until all are back."""
        for name in names:
            await asyncio.sleep(self._chance.uniform(0.1, self._longest_pause_s))
            for other in list(self._returning) if self._chance.random() < 0.5 else [name]:
                await self._settled(other)
            found = await self._work_in_flight()
            await self._installation.kill(name)
            self.kills[kind_of(self._installation, name)] += 1
            self.in_flight.append(found)
            say(f"killed {name} with {found} in flight")
            self._returning[name] = asyncio.create_task(self._bring_back(name))
        for name in list(self._returning):
            await self._settled(name)

    async def _bring_back(self, name: str) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, 1.0))
        await self._installation.start(name)

    async def _settled(self, name: str) -> None:
        """`name` runs, or why it could not be brought back."""
        task = self._returning.pop(name, None)
        if task is not None:
            await task

    async def _work_in_flight(self) -> int:
        """Waits until something is in flight; how much that is. TimeoutError where nothing comes to be."""
        async with asyncio.timeout(WORK_TIMEOUT_S):
            while True:
                try:
                    found = await open_work(self._installation)
                except _DATABASE_AWAY:
                    found = 0
                if found:
                    return found
                await asyncio.sleep(0.02)


async def until_settled(nothing_open: Callable[[], Awaitable[int]], timeout_s: float = SETTLE_TIMEOUT_S) -> int:
    """Waits until nothing is in flight; what still is after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while (left := await nothing_open()) and time.monotonic() < end:
        await asyncio.sleep(0.1)
    return left


async def rampage(
    installation: Installation,
    ledger_url: str,
    notices: Path,
    *,
    seed: int,
    kills: int,
    name: str = "load",
    say: Callable[[str], None] = lambda _line: None,
    longest_pause_s: float = LONGEST_PAUSE_S,
    clients: int = 10,
) -> Result:
    """Load, `kills` kills with up to `longest_pause_s` between, quiet, reconciliation. `installation` is open and stays
    so; `clients` call it."""
    began = time.monotonic()
    chance = random.Random(f"{seed}/{name}")
    load, killer = Load(installation, seed, clients, name), Killer(installation, chance, longest_pause_s)
    events = EventLoad(installation, seed, name)
    await events.open()
    running = asyncio.gather(load.run(), events.run())
    try:
        await killer.run(victims(installation, kills, chance), say)
    finally:
        load.stop.set()
        events.stop.set()
        await running
    quiet = time.monotonic()
    left = await until_settled(lambda: open_or_projecting(installation))
    result = Result(seed, killer.kills, killer.in_flight, load.told)
    result.account = await reconcile(installation, load.told, ledger_url, notices)
    result.events = await events.reconcile(result.account, ledger_url)
    await events.close()
    if left:
        result.account.faults.insert(0, f"{left} transactions are still open after {SETTLE_TIMEOUT_S:.0f} s")
    result.seconds, result.settled_s = time.monotonic() - began, time.monotonic() - quiet
    return result


async def open_or_projecting(installation: Installation) -> int:
    """What `reconcile` must not find: work in flight, and what lists and subscriptions have not come to."""
    projecting = "SELECT count(*) FROM transactions WHERE state IN ('accepted', 'delivered')"
    behind = await installation.value(BEHIND)
    return await open_work(installation) + int(await installation.value(projecting)) + int(behind)
