"""Quotas of agreements through the front door: over gateways, by minute and by day, and what does not count."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ngsp.adapter import RecordNotFound, Request
from ngsp.local.postgres import LocalPostgres
from tests.support.gateway import Provider, Rig, further_gateway, running_gateway, service
from tests.support.problems import problem
from tests.support.waiting import until

QUOTA = 40


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    terms = {
        "by-day": {"quota_per_day": QUOTA},
        "by-minute-1": {"quota_per_minute": QUOTA},
        "by-minute-2": {"quota_per_minute": QUOTA},
        "three": {"quota_per_day": 3},
        "two": {"quota_per_minute": 2},
        "once": {"quota_per_day": 2},
        "posted": {"quota_per_day": 1},
    }
    services = [service(name) for name in terms if name != "posted"]
    provider = Provider(services=[*services, service("posted", mode="submission", deadline_s=60)], terms=terms)
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), provider, lease_s=3.0) as rig:
        yield rig


async def flooded(gateways: list[Rig], name: str, calls: int) -> Counter[int]:
    """Statuses of `calls` calls, few at once, so that the quota alone decides."""
    statuses: Counter[int] = Counter()
    left = iter(range(calls))

    async def one(gateway: Rig) -> None:
        for _ in left:
            answer = await gateway.call(name)
            statuses[answer.status_code] += 1
            if answer.status_code != 200:
                problem(answer, 429, "quota-exhausted")
                assert 1 <= int(answer.headers["Retry-After"]) <= 86_400

    await asyncio.gather(*(one(gateway) for gateway in gateways for _ in range(2)))
    return statuses


def near(admitted: int) -> bool:
    return QUOTA - max(QUOTA // 20, 1) <= admitted <= QUOTA + max(QUOTA // 20, 1)


async def test_a_quota_holds_over_two_gateways(rig: Rig, tmp_path: Path) -> None:
    async with further_gateway(rig, tmp_path) as second:

        async def both_seen() -> bool:
            return bool(await rig.rows.fetchval("SELECT count(*) = 2 FROM gateways WHERE slot IS NOT NULL"))

        await until(both_seen, "the gateways to know of each other")
        assert await flooded([rig], "by-day", 5) == {200: 5}
        found = await flooded([second, rig], "by-day", 3 * QUOTA)
        assert near(5 + found[200])
        assert len(rig.provider.seen) == 5 + found[200]
        assert (await flooded([rig], "by-day", 1), await flooded([second], "by-day", 1)) == ({429: 1}, {429: 1})
        for name in ("by-minute-1", "by-minute-2"):
            minute = time.time() // 60
            found = await flooded([rig, second], name, 3 * QUOTA)
            if time.time() // 60 == minute:  # else the second one, a moment later, has a minute for itself
                assert near(found[200])
                break
        else:
            raise AssertionError("more than a minute for a few calls")


async def test_what_is_refused_anyway_costs_nothing(rig: Rig) -> None:
    for _ in range(2):
        problem(await rig.call("three", {"unknown": 1}), 422, "schema-mismatch")
        problem(await rig.call("three", content=b"{"), 400, "malformed-json")
        problem(await rig.call("three", content=b" " * 70_000), 413, "body-too-large")
        problem(await rig.call("three", Ngsp_Purpose="tax"), 403, "access-denied")
        problem(await rig.call("three", Content_Type="text/plain"), 415, "unsupported-type")
        problem(await rig.call("three", Prefer="respond-async"), 428, "key-required")
    assert await flooded([rig], "three", 5) == {200: 3, 429: 2}


async def test_the_minute_says_when_to_come_again(rig: Rig) -> None:
    for _ in range(6):
        answer = await rig.call("two")
        if answer.status_code == 429:
            break
    problem(answer, 429, "quota-exhausted")
    assert int(answer.headers["Retry-After"]) <= 60
    (found,) = await rig.entries(answer.headers["Ngsp-Transaction"])
    assert (found["kind"], found["outcome"]["code"]) == ("refused", "quota-exhausted")


async def test_a_repeat_is_answered_though_the_quota_is_used_up(rig: Rig, tmp_path: Path) -> None:
    """What was paid for once is told again, whatever it was, by every gateway; nothing new passes."""

    async def act(request: Request) -> object:
        if request.payload["do"] == "nobody":
            raise RecordNotFound("KHONG-CO")
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    first = await rig.call("once", Idempotency_Key="paid")
    nobody = await rig.call("once", {"do": "nobody"}, Idempotency_Key="paid-too")
    assert first.status_code == 200
    problem(nobody, 404, "record-not-found")
    posted = await rig.call("posted", Idempotency_Key="posted")
    assert posted.status_code == 202
    async with further_gateway(rig, tmp_path) as second:
        for gateway in (rig, second):
            problem(await gateway.call("once"), 429, "quota-exhausted")
            problem(await gateway.call("once", Idempotency_Key="never-paid"), 429, "quota-exhausted")
            problem(await gateway.call("posted", Idempotency_Key="never-posted"), 429, "quota-exhausted")
            for _ in range(3):
                again = await gateway.call("once", Idempotency_Key="paid")
                assert (again.status_code, again.content) == (200, first.content)
                assert again.headers["Ngsp-Transaction"] == first.headers["Ngsp-Transaction"]
                again = await gateway.call("once", {"do": "nobody"}, Idempotency_Key="paid-too")
                problem(again, 404, "record-not-found")
                assert again.headers["Ngsp-Transaction"] == nobody.headers["Ngsp-Transaction"]
            again = await gateway.call("posted", Idempotency_Key="posted")
            assert again.status_code in (200, 202)
            assert again.headers["Ngsp-Transaction"] == posted.headers["Ngsp-Transaction"]
            other = await gateway.call("once", {"do": "other"}, Idempotency_Key="paid")
            problem(other, 422, "idempotency-mismatch")
            assert await rig.kinds(other.headers["Ngsp-Transaction"]) == ["refused"]
            by_another = await gateway.call("once", by="other", Idempotency_Key="paid")
            problem(by_another, 429, "quota-exhausted")
    done = [request.payload["do"] for request in rig.provider.seen if request.envelope.service == "H41/once/v1"]
    assert done == ["it", "nobody"]
