"""Submissions whose provider asks for a retry: delivered again until the deadline, and what is known when it passes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ngsp.adapter import Request, Unavailable
from ngsp.local.postgres import LocalPostgres
from ngsp.messages import IN_DOUBT
from tests.support.gateway import Provider, Rig, relay_held, running_gateway, service
from tests.support.problems import problem
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    provider = Provider(
        services=[
            service("send", mode="submission", deadline_s=60),
            service("send-soon", mode="submission", deadline_s=0.5),
            service("send-revoked", mode="submission", deadline_s=60),
        ],
    )
    quick: dict[str, Any] = {"retry_min_s": 0.02, "retry_max_s": 0.1, "relay_poll_s": 0.02, "lease_s": 0.9}
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), provider, **quick) as rig:
        yield rig


async def test_a_provider_that_is_away_is_asked_again_until_it_answers(rig: Rig) -> None:
    async def act(request: Request) -> object:
        if len(rig.provider.seen) < 4:
            raise Unavailable("K-away")
        return {"did": "at last"}

    rig.provider.act = act  # type: ignore[method-assign]
    answer = await rig.call("send", Idempotency_Key="away")
    tx = answer.headers["Ngsp-Transaction"]
    assert await rig.outcome(tx) == ["accepted", "delivered", "succeeded"]
    assert [request.envelope.attempt for request in rig.provider.seen] == [1, 2, 3, 4]
    assert {request.id for request in rig.provider.seen} == {tx}
    assert (await rig.call("send", Idempotency_Key="away")).json() == {"did": "at last"}


async def test_a_provider_that_stays_away_until_the_deadline(rig: Rig) -> None:
    async def act(request: Request) -> object:
        raise Unavailable("K-away")

    rig.provider.act = act  # type: ignore[method-assign]
    answer = await rig.call("send-soon", Idempotency_Key="stays-away")
    tx = answer.headers["Ngsp-Transaction"]
    assert (await rig.outcome(tx))[-1] in ("unknown", "expired"), "the last delivery may have met the deadline"
    assert len(rig.provider.seen) > 1
    again = await rig.call("send-soon", Idempotency_Key="stays-away")
    assert again.status_code == 504
    seen = len(rig.provider.seen)
    assert (await rig.call("send", Idempotency_Key="after-it")).status_code == 202
    await until(lambda: rig.provider.seen[-1].id != tx, "the next submission")
    assert sum(request.id == tx for request in rig.provider.seen) == seen, "nothing is sent after the deadline"
    rig.provider.act = Provider.act.__get__(rig.provider)  # type: ignore[method-assign]


async def deadline_over(rig: Rig, tx: str) -> None:
    """Nobody waits for it: it is now."""
    await rig.rows.execute("UPDATE outbox SET deadline = now(), next_at = now() WHERE tx = $1", tx)


async def answered(rig: Rig, tx: str, attempt: int) -> None:
    """Returns when each delivery up to `attempt` has been answered with: nothing done."""

    async def found() -> bool:
        return bool(
            await rig.rows.fetchval("SELECT answered @> int4range(1, $2 + 1) FROM outbox WHERE tx = $1", tx, attempt)
        )

    await until(found, f"the answers to {attempt} deliveries")


async def test_where_every_delivery_was_answered_with_a_retry_it_ends_as_not_done(rig: Rig) -> None:
    async def act(request: Request) -> object:
        raise Unavailable("K-away")

    rig.provider.act = act  # type: ignore[method-assign]
    tx = (await rig.call("send", Idempotency_Key="never-done")).headers["Ngsp-Transaction"]
    await answered(rig, tx, 3)
    async with relay_held(rig):
        await answered(rig, tx, await rig.rows.fetchval("SELECT attempts FROM outbox WHERE tx = $1", tx))
        await deadline_over(rig, tx)
    assert await rig.outcome(tx) == ["accepted", "delivered", "expired"]
    ended = (await rig.entries(tx))[-1]["outcome"]
    assert ended == {"class": "provider-unavailable", "code": "expired", "status": 504}
    document = problem(await rig.call("send", Idempotency_Key="never-done"), 504, "expired")
    assert (document["outcome_unknown"], document["safe_to_repeat"]) == (False, True)


async def test_where_one_delivery_was_not_answered_it_is_not_known(rig: Rig) -> None:
    """It may be at work still: an answer to a later delivery says nothing of it."""
    release = asyncio.Event()

    async def act(request: Request) -> object:
        if request.envelope.attempt == 2:
            await release.wait()
        raise Unavailable("K-away")

    rig.provider.act = act  # type: ignore[method-assign]
    tx = (await rig.call("send", Idempotency_Key="one-hangs")).headers["Ngsp-Transaction"]
    await answered(rig, tx, 1)
    await until(lambda: any(seen.envelope.attempt == 2 for seen in rig.provider.seen), "the second delivery")
    await rig.rows.execute("UPDATE outbox SET next_at = now() WHERE tx = $1", tx)
    await until(lambda: any(seen.envelope.attempt == 3 for seen in rig.provider.seen), "the third delivery")
    await deadline_over(rig, tx)
    assert await rig.outcome(tx) == ["accepted", "delivered", "unknown"]
    assert (await rig.entries(tx))[-1]["outcome"]["class"] == "deadline"
    release.set()


async def test_a_retry_that_may_have_been_done_is_not_counted_as_undone(rig: Rig) -> None:
    async def act(request: Request) -> object:
        raise Unavailable(IN_DOUBT if request.envelope.attempt == 1 else "K-away")

    rig.provider.act = act  # type: ignore[method-assign]
    tx = (await rig.call("send", Idempotency_Key="in-doubt")).headers["Ngsp-Transaction"]
    await until(lambda: len(rig.provider.seen) > 2, "two retries")
    await deadline_over(rig, tx)
    assert await rig.outcome(tx) == ["accepted", "delivered", "unknown"]


async def test_what_is_revoked_between_two_retries_ends_at_once(rig: Rig) -> None:
    async def act(request: Request) -> object:
        raise Unavailable("K-away")

    rig.provider.act = act  # type: ignore[method-assign]
    tx = (await rig.call("send-revoked", Idempotency_Key="retried")).headers["Ngsp-Transaction"]
    await answered(rig, tx, 1)
    path = f"/v1/agreements/{await rig.agreement('send-revoked')}/revoke"
    assert (await rig.post(path, by="provider", json={"reason": "hết thẩm quyền"})).status_code == 200
    assert await rig.outcome(tx) == ["accepted", "delivered", "refused"]
    assert (await rig.entries(tx))[-1]["outcome"]["code"] == "agreement-revoked"
