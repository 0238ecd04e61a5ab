"""Calls of services that are disabled or in maintenance: who is told what, what waits, and what goes on afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ngsp.local.postgres import LocalPostgres
from ngsp.messages import uuid7
from tests.support.gateway import Provider, Rig, further_gateway, running_gateway, service
from tests.support.problems import problem
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    provider = Provider(
        services=[
            service("look-up"),
            service("send", mode="submission", deadline_s=3600),
            service("send-soon", mode="submission", deadline_s=600),
        ]
    )
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), provider, relay_poll_s=0.02) as rig:
        yield rig


@pytest.fixture(autouse=True)
async def _active_again(rig: Rig) -> AsyncIterator[None]:
    yield
    for name in ("look-up", "send", "send-soon"):
        await decide(rig, name, "active")


async def decide(rig: Rig, name: str, state: str, **how: Any) -> None:
    """Decided by the operator; holds on this gateway when it returns."""
    answer = await rig.http.put(
        f"/v1/services/H41/{name}/v1/state",
        json={"state": state, **({"reason": "Theo kế hoạch"} if state != "active" else {}), **how},
        headers=await rig.headers("operator"),
    )
    assert answer.status_code == 200, answer.text


def soon(**later: float) -> str:
    return (datetime.now(UTC) + timedelta(**later)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def test_a_query_is_told_until_when_and_a_stranger_nothing(rig: Rig) -> None:
    denied = await rig.call(by="stranger")
    ends = soon(minutes=10)
    await decide(rig, "look-up", "maintenance", until=ends)
    told = await rig.call()
    found = problem(told, 503, "service-in-maintenance")
    assert datetime.fromisoformat(found["until"]) == datetime.fromisoformat(ends)
    assert 590 <= int(told.headers["Retry-After"]) <= 600
    (entry,) = await rig.entries(told.headers["Ngsp-Transaction"])
    assert (entry["kind"], entry["outcome"]["reason"]) == ("refused", "service is in maintenance")
    stranger = await rig.call(by="stranger")
    problem(stranger, 403, "access-denied")
    same = [answer.content.replace(answer.headers["Ngsp-Transaction"].encode(), b"") for answer in (denied, stranger)]
    assert same[0] == same[1] and stranger.headers.keys() == denied.headers.keys()
    problem(await rig.call(Ngsp_Purpose="tax"), 403, "access-denied")
    problem(await rig.call(Prefer="respond-async", Idempotency_Key=uuid7()), 503, "service-in-maintenance")
    assert rig.provider.seen == []
    await decide(rig, "look-up", "active")
    assert (await rig.call()).status_code == 200


async def test_an_announced_maintenance_stops_nothing_yet(rig: Rig) -> None:
    await decide(rig, "look-up", "maintenance", **{"from": soon(minutes=5), "until": soon(minutes=10)})
    assert (await rig.call()).status_code == 200


async def test_a_disabled_service_is_denied_like_one_that_is_not_there(rig: Rig) -> None:
    await decide(rig, "look-up", "disabled")
    for answer in (await rig.call(), await rig.call(by="stranger"), await rig.call("nothing")):
        problem(answer, 403, "access-denied")


async def test_a_submission_waits_for_the_end(rig: Rig) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=2)
    await decide(rig, "send", "maintenance", until=ends.isoformat().replace("+00:00", "Z"))
    answer = await rig.call("send", Idempotency_Key=uuid7())
    assert answer.status_code == 202 and 1 <= int(answer.headers["Retry-After"]) <= 2
    tx = answer.headers["Ngsp-Transaction"]
    assert await rig.outcome(tx) == ["accepted", "delivered", "succeeded"]
    delivered = (await rig.entries(tx))[1]
    assert datetime.fromisoformat(delivered["at"]) >= ends
    assert len(rig.provider.seen) == 1


async def test_a_submission_that_waits_goes_when_it_ends_early(rig: Rig) -> None:
    await decide(rig, "send", "maintenance", until=soon(minutes=30))
    waiting = [
        (await rig.call("send", Idempotency_Key=uuid7())).headers["Ngsp-Transaction"] for _ in range(3)
    ]  # fmt: skip

    async def put_off() -> bool:
        late = "SELECT count(*) FROM outbox WHERE next_at > now() + interval '1 minute' AND tx = ANY($1::uuid[])"
        return bool(await rig.rows.fetchval(late, waiting) == 3)

    await until(put_off, "all to be put off")
    assert rig.provider.seen == []
    await decide(rig, "send", "active")
    for tx in waiting:
        assert (await rig.outcome(tx))[-1] == "succeeded"
    assert len(rig.provider.seen) == 3


async def test_a_submission_whose_deadline_comes_before_is_refused_at_once(rig: Rig) -> None:
    await decide(rig, "send-soon", "maintenance", until=soon(minutes=30))
    problem(await rig.call("send-soon", Idempotency_Key="soon-1"), 503, "service-in-maintenance")
    await decide(rig, "send-soon", "maintenance", until=soon(minutes=5))
    assert (await rig.call("send-soon", Idempotency_Key="soon-1")).status_code == 202, "and its key is free"


async def test_every_gateway_knows_within_a_second(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> None:
    async with further_gateway(rig, tmp_path_factory.mktemp("second")) as other:
        assert (await other.call()).status_code == 200
        await decide(rig, "look-up", "maintenance", until=soon(minutes=30))

        async def told() -> bool:
            return (await other.call()).status_code == 503

        await until(told, "the other gateway to know", 1.0)
