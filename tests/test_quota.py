"""Quotas over a real PostgreSQL: never above the limit, and no more than 5 % or one call below it when refused."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ngsp.database import migrate
from ngsp.errors import LogUnavailable, NgspError, QuotaExhausted
from ngsp.local.postgres import LocalPostgres
from ngsp.quota import FULL_FOR_S, KEEP_S, LENGTH_S, MOST_UNSPENT, Quotas
from tests.support.quotas import MIDNIGHT_S, CountingPool, Gateways, admitted, agreement, gateways_on, least, passes
from tests.support.registry import temporary_database
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
async def url(postgres: LocalPostgres) -> AsyncIterator[str]:
    async with temporary_database(postgres) as found:
        yield found


@pytest.fixture
async def three(url: str) -> AsyncIterator[Gateways]:
    async with gateways_on(url, 3) as gateways:
        yield gateways


@pytest.fixture
async def one(url: str) -> AsyncIterator[Gateways]:
    async with gateways_on(url, 1) as gateways:
        yield gateways


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 100, 1000, 3000])
async def test_thousands_of_calls_at_once_on_three_gateways(three: Gateways, limit: int) -> None:
    found = agreement(per_minute=limit)
    passed = await admitted(three, found, calls_each=1500)
    assert least(limit) <= passed <= limit
    assert await three.leased(found, "minute") <= limit
    if limit <= 10:
        assert passed == limit


@pytest.mark.parametrize("limit", [1, 2, 3, 10, 59, 400, 2000])
async def test_calls_one_after_another_on_gateways_in_turn(three: Gateways, limit: int) -> None:
    found = agreement(per_day=limit)
    passed = sum([await passes(three[call % 3], found) for call in range(limit + 60)])
    assert least(limit) <= passed <= limit


@pytest.mark.parametrize("seed", range(4))
async def test_refused_only_when_no_more_than_the_tolerance_is_left(three: Gateways, seed: int) -> None:
    chance = random.Random(seed)
    limit = chance.choice([7, 60, 500, 3000])
    found = agreement(per_day=limit)
    spent, now_s, refusals = 0, MIDNIGHT_S, 0
    while refusals < 20:
        now_s += FULL_FOR_S  # what one gateway knows of an empty window is old by the next call
        quotas = chance.choices(three.quotas, weights=(10, 3, 1))[0]
        burst = chance.choice([1, 1, 1, 2, 20, 150])
        results = await asyncio.gather(*(passes(quotas, found, now_s) for _ in range(burst)))
        spent += sum(results)
        assert spent <= limit
        if not all(results):
            refusals += 1
            assert spent >= least(limit)
        if chance.random() < 0.1:
            await quotas.tend(now_s)


async def test_a_block_is_spent_without_the_database_and_lasts_longer_the_faster_it_is_spent(one: Gateways) -> None:
    found = agreement(per_minute=6000)
    for call in range(3000):
        assert await passes(one[0], found, MIDNIGHT_S + call / 1000)
    assert one.asked < 25  # blocks grow to 5 %, 300 calls
    before = one.asked
    assert one[0].try_charge(found, MIDNIGHT_S + 3)
    assert one.asked == before


async def test_blocks_are_bounded_and_shrink_as_the_window_empties(three: Gateways) -> None:
    limit = 1200
    found = agreement(per_minute=limit)
    for spent in range(1, limit + 1):
        assert await passes(three[0], found, MIDNIGHT_S + spent / 1000)
        if spent % 50 == 0 or limit - spent < 100:
            leased = await three.leased(found, "minute")
            assert leased - spent <= limit / MOST_UNSPENT / 3
            assert leased - spent <= max(1, (limit - leased) / 5)


async def test_of_the_day_no_more_is_leased_than_the_minute_lets_pass(one: Gateways) -> None:
    found = agreement(per_minute=3, per_day=1000)
    assert await admitted(one, found, calls_each=200) == 3
    assert await one.leased(found, "day") == 3


async def test_an_agreement_called_rarely_holds_nothing(one: Gateways) -> None:
    found = agreement(per_minute=6000)
    for call in range(10):
        assert await passes(one[0], found, MIDNIGHT_S + 3 * call)
    assert await one.leased(found, "minute") == 10


async def test_callers_at_an_empty_block_share_one_lease(one: Gateways) -> None:
    found = agreement(per_minute=1000)
    assert await admitted(one, found, calls_each=200) == 200
    assert one.asked == 1
    assert await one.leased(found, "minute") == 200


async def test_a_caller_that_goes_away_while_it_waits_takes_nothing(one: Gateways) -> None:
    found = agreement(per_minute=3)
    waiting = [asyncio.create_task(passes(one[0], found)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    assert await asyncio.gather(*waiting[1:]) == [True, True]
    await until(waiting[0].done, "the caller to be gone")
    assert waiting[0].cancelled()
    assert await passes(one[0], found)
    assert not await passes(one[0], found)


async def test_no_quota_costs_nothing(one: Gateways) -> None:
    found = agreement()
    assert one[0].try_charge(found, MIDNIGHT_S)
    await one[0].charge(found, MIDNIGHT_S)
    one[0].refund(found, MIDNIGHT_S)
    assert one.asked == 0


async def test_refusals_are_told_when_to_come_again_and_do_not_ask_the_database(one: Gateways) -> None:
    found = agreement(per_minute=1, per_day=100)
    now_s = MIDNIGHT_S + 12.5
    await one[0].charge(found, now_s)
    for _ in range(50):
        with pytest.raises(QuotaExhausted) as refused:
            await one[0].charge(found, now_s)
        assert refused.value.retry_after_s == 47.5
        assert refused.value.status == 429
    assert one.asked == 3  # a lease for each window, and one that found the minute empty


async def test_the_day_refuses_to_its_end_and_charges_no_minute(one: Gateways) -> None:
    found = agreement(per_minute=10, per_day=2)
    assert await passes(one[0], found)
    assert await passes(one[0], found)
    with pytest.raises(QuotaExhausted) as refused:
        await one[0].charge(found, MIDNIGHT_S + 61)
    assert refused.value.retry_after_s == 86_400 - 61
    assert "ngày" in refused.value.problem("vi")["detail"]
    amended = replace(found, version=2, quota_per_day=None)
    second_minute = [await passes(one[0], amended, MIDNIGHT_S + 62) for _ in range(12)]
    assert sum(second_minute) == 10


@pytest.mark.parametrize("limits", [(40, 25), (25, 40), (30, 30), (1, 500), (500, 1)])
async def test_both_windows_hold(three: Gateways, limits: tuple[int, int]) -> None:
    found = agreement(*limits)
    passed = await admitted(three, found, calls_each=100)
    assert least(min(limits)) <= passed <= min(limits)
    later = await admitted(three, found, calls_each=100, now_s=MIDNIGHT_S + 60)
    assert passed + later <= limits[1]
    if limits[1] <= limits[0]:
        assert later <= 1
    assert await three.leased(found, "day") <= limits[1]


async def test_windows_begin_with_the_minute_of_utc_and_the_day_of_viet_nam(one: Gateways) -> None:
    by_minute, by_day = agreement(per_minute=1), agreement(per_day=1)
    moments_s = [MIDNIGHT_S - 60, MIDNIGHT_S - 0.001, MIDNIGHT_S, MIDNIGHT_S + 59.999, MIDNIGHT_S + 60]
    assert [await passes(one[0], by_minute, at_s) for at_s in moments_s] == [True, False, True, False, True]
    assert [await passes(one[0], by_day, at_s) for at_s in moments_s] == [True, False, True, False, False]
    assert await passes(one[0], by_day, MIDNIGHT_S + 86_400)


async def test_a_clock_set_back_never_admits_more(one: Gateways) -> None:
    found = agreement(per_minute=5)
    moments_s = [MIDNIGHT_S + offset for offset in (61, 59, 61, 1, 61, 0, 119, 58)]
    passed: Counter[float] = Counter()
    for _ in range(4):
        for at_s in moments_s:
            if await passes(one[0], found, at_s):
                passed[at_s // 60] += 1
    assert sum(passed.values()) <= 10


async def test_a_refund_lets_another_call_pass(one: Gateways) -> None:
    found = agreement(per_minute=100)
    assert await admitted(one, found, calls_each=120) == 100
    one[0].refund(found, MIDNIGHT_S + 1)
    assert await passes(one[0], found, MIDNIGHT_S + 1)
    assert not await passes(one[0], found, MIDNIGHT_S + 1)


async def test_what_is_refunded_beyond_a_block_serves_other_gateways(three: Gateways) -> None:
    found = agreement(per_minute=2)
    assert await passes(three[0], found)
    assert await passes(three[0], found)
    assert not await passes(three[1], found)
    three[0].refund(found, MIDNIGHT_S)

    async def given_back() -> bool:
        return await three.leased(found, "minute") == 1

    await until(given_back, "the surplus to be given back")
    assert await passes(three[2], found)
    assert not await passes(three[2], found)


async def test_a_refund_of_a_window_that_is_over_adds_nothing_to_the_next(one: Gateways) -> None:
    found = agreement(per_minute=40)
    assert await passes(one[0], found, MIDNIGHT_S + 59.9)
    assert await passes(one[0], found, MIDNIGHT_S + 60.1)
    one[0].refund(found, MIDNIGHT_S + 59.9)
    assert await admitted(one, found, calls_each=100, now_s=MIDNIGHT_S + 60.2) == 39


async def test_refunds_and_charges_at_once_stay_within_the_limit_and_lose_nothing(three: Gateways) -> None:
    found = agreement(per_day=30)
    held, most, now_s = 0, 0, MIDNIGHT_S

    async def call(quotas: Quotas, repeated: bool) -> None:
        nonlocal held, most
        charged_s = now_s
        if await passes(quotas, found, charged_s):
            held += 1
            most = max(most, held)
            await asyncio.sleep(0)
            if repeated:
                held -= 1
                quotas.refund(found, charged_s)

    for _ in range(20):
        now_s += FULL_FOR_S
        await asyncio.gather(*(call(quotas, n % 2 == 0) for quotas in three.quotas for n in range(10)))

    async def all_spent() -> bool:
        nonlocal now_s
        now_s += FULL_FOR_S
        await call(three[0], False)
        return held == 30

    await until(all_spent, "everything to be spent")  # once every refund has come back to the table
    now_s += FULL_FOR_S
    assert not await passes(three[1], found, now_s)
    assert most == 30


async def test_an_amended_limit_holds_at_once(one: Gateways) -> None:
    found = agreement(per_minute=1000)
    for _ in range(50):
        assert await passes(one[0], found)
    lowered = replace(found, version=2, quota_per_minute=60)
    assert sum([await passes(one[0], lowered) for _ in range(80)]) <= 10
    unlimited = replace(found, version=3, quota_per_minute=None)
    assert all([await passes(one[0], unlimited) for _ in range(100)])


async def test_stopping_gives_back_what_is_unspent(three: Gateways) -> None:
    found = agreement(per_minute=6000, per_day=60_000)
    for call in range(300):
        assert await passes(three[0], found, MIDNIGHT_S + call / 1000)
    assert await three.leased(found, "minute") > 300
    await three[0].stop()
    assert await three.leased(found, "minute") == 300
    assert await three.leased(found, "day") == 300


async def test_an_idle_block_is_given_back(three: Gateways) -> None:
    found = agreement(per_minute=6000)
    for call in range(300):
        assert await passes(three[0], found, MIDNIGHT_S + call / 1000)
    await three[0].tend(MIDNIGHT_S + 5)
    assert await three.leased(found, "minute") > 300
    await three[0].tend(MIDNIGHT_S + 10)
    assert await three.leased(found, "minute") == 300
    assert await passes(three[0], found, MIDNIGHT_S + 11)


async def test_old_windows_are_deleted(one: Gateways) -> None:
    found = agreement(per_minute=5, per_day=5)
    old_s = MIDNIGHT_S - KEEP_S["day"] - 2 * LENGTH_S["day"]
    for at_s in (old_s, MIDNIGHT_S):
        assert await passes(one[0], found, at_s)
    await one[0].purge(MIDNIGHT_S + 1)
    rows = await one.pools[0].fetchval("SELECT count(*) FROM quotas WHERE agreement = $1", found.id)
    assert rows == 2
    assert await one.leased(found, "day") == 1


async def test_its_step_deletes_old_windows_now_and_then(one: Gateways) -> None:
    found = agreement(per_minute=5)
    long_ago = datetime.now(UTC) - timedelta(days=1)
    for rows_left in (0, 1):  # the second time it is too early
        assert await passes(one[0], found, long_ago.timestamp())
        assert await one[0].step() == 0
        rows = await one.pools[0].fetchval("SELECT count(*) FROM quotas WHERE agreement = $1", found.id)
        assert rows == rows_left


class PoolWithoutQuotasOf:
    """A real pool that cannot be asked for the agreements named."""

    def __init__(self, pool: CountingPool, *agreements: str) -> None:
        self._pool, self._agreements = pool, agreements

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        if arguments and arguments[0] in self._agreements:
            raise OSError("no route")
        return await self._pool.fetchval(statement, *arguments)

    async def execute(self, *arguments: Any) -> Any:
        return await self._pool.execute(*arguments)


async def test_trouble_of_one_lease_ends_with_the_success_of_another(one: Gateways) -> None:
    lost, found = agreement(per_minute=5), agreement(per_minute=5)
    quotas = Quotas(PoolWithoutQuotasOf(one.pools[0], lost.id), lambda: 1)
    failing = asyncio.create_task(quotas.charge(lost, MIDNIGHT_S))
    await asyncio.gather(quotas.charge(found, MIDNIGHT_S), asyncio.wait([failing]))
    assert isinstance(failing.exception(), LogUnavailable)
    assert quotas.trouble() == ""
    for _ in range(3):
        with pytest.raises(LogUnavailable):
            await quotas.charge(lost, MIDNIGHT_S)
    assert quotas.trouble() == "OSError"
    await quotas.step()
    assert quotas.trouble() == ""


async def test_without_the_database_nothing_passes_uncounted(tmp_path: Path) -> None:
    async with LocalPostgres(tmp_path) as server:
        await server.create_database("quotas")
        await migrate(server.url("quotas"))
        async with gateways_on(server.url("quotas"), 1) as gateways:
            found = agreement(per_minute=2)
            assert await passes(gateways[0], found)
            server.kill()
            asked, started_s = gateways.asked, time.monotonic()
            for _ in range(50):
                with pytest.raises(LogUnavailable) as refused:
                    await gateways[0].charge(found, MIDNIGHT_S)
            assert time.monotonic() - started_s < 5
            assert gateways.asked - asked < 25  # for a moment after a failure nobody waits for the next
            assert refused.value.retry_after_s
            assert gateways[0].trouble()
            await server.start()

            async def recovered() -> bool:
                try:
                    await gateways[0].charge(found, MIDNIGHT_S)
                except LogUnavailable:
                    return False
                return True

            await until(recovered, "the database to be asked again")
            assert gateways[0].trouble() == ""
            with pytest.raises(NgspError, match="quota-exhausted"):
                await gateways[0].charge(found, MIDNIGHT_S)
