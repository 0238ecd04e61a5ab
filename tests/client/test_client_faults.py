"""What goes wrong on the way: what the client repeats then, and what it must not."""

from __future__ import annotations

import asyncio

import pytest

from ngsp.adapter import Interrupted, Request, Unavailable
from ngsp.client import NEVER, errors, new_key
from tests.client.between import Between
from tests.client.hands import KIND, SEND, Hands, hands
from tests.support.gateway import Rig

LOST = "H41/uncertain/v1"
"""A query whose service is not idempotent."""


def keys(bus: Hands) -> list[str]:
    return [headers.get("Idempotency-Key", "") for headers in bus.requests.headers if "Ngsp-Purpose" in headers]


async def test_a_bus_that_is_away_for_a_moment_is_tried_again(rig: Rig, kind: KIND, proxy: Between) -> None:
    await proxy.stop()

    async def back_at_the_second(number: int) -> None:
        if number == 2:
            await proxy.start()

    async with hands(kind, rig, proxy.url) as bus:
        bus.requests.before = back_at_the_second
        assert (await bus.call(LOST)).json()["did"] == "it"
        assert len(rig.provider.seen) == 1
        assert [path for _, path in bus.requests.sent] == ["/oauth2/token"] * 2 + [f"/v1/services/{LOST}"]


async def test_a_bus_that_stays_away_is_unreachable(rig: Rig, kind: KIND, proxy: Between) -> None:
    await proxy.stop()
    async with hands(kind, rig, proxy.url) as bus, hands(kind, rig, proxy.url, retry=NEVER) as impatient:
        with pytest.raises(errors.Unreachable):
            await bus.call()
        assert len(bus.requests.sent) == 5
        with pytest.raises(errors.Unreachable) as told:
            await impatient.submit()
        assert (len(impatient.requests.sent), bool(told.value.idempotency_key)) == (1, True)


async def test_a_submission_whose_answer_was_lost_is_sent_again_under_its_key(
    rig: Rig, kind: KIND, proxy: Between
) -> None:
    async with hands(kind, rig, proxy.url) as bus:
        proxy.lose = 2
        submission = await bus.submit()
        assert (await bus.wait(submission)).json()["did"] == "it"
        assert (proxy.lost, keys(bus)) == (2, [submission.key] * 3)
    assert len(rig.provider.seen) == 1
    count = await rig.rows.fetchval("SELECT count(*) FROM outbox WHERE tx = $1", submission.transaction)
    assert count == 1


async def test_a_submission_that_was_not_repeated_is_found_by_its_key(rig: Rig, kind: KIND, proxy: Between) -> None:
    async with hands(kind, rig, proxy.url, retry=NEVER) as bus:
        prepared = await bus.do("prepare", SEND, {"do": "it"})
        proxy.lose = 1
        with pytest.raises(errors.ConnectionLost) as told:
            await bus.send(prepared)
        assert (told.value.idempotency_key, told.value.transaction) == (prepared.key, "")
    async with hands(kind, rig) as next_run:
        submission = await next_run.submit(payload=prepared.body, key=prepared.key)
        await next_run.wait(submission)
    assert len(rig.provider.seen) == 1


async def test_a_lost_answer_to_an_idempotent_query_is_asked_for_again(rig: Rig, kind: KIND, proxy: Between) -> None:
    async with hands(kind, rig, proxy.url) as bus:
        for _ in range(2):
            proxy.lose = 1
            assert (await bus.call()).json()["did"] == "it"
        assert proxy.lost == 2
        catalogue = [path for method, path in bus.requests.sent if method == "GET"]
        assert catalogue == ["/v1/services/H41/look-up/v1"], "asked once, when it was needed"
    assert len(rig.provider.seen) == 4


async def test_a_lost_answer_of_a_service_that_is_not_idempotent_is_not(rig: Rig, kind: KIND, proxy: Between) -> None:
    async with hands(kind, rig, proxy.url) as bus:
        proxy.lose = 1
        with pytest.raises(errors.ConnectionLost):
            await bus.call(LOST)
        assert len(rig.provider.seen) == 1
        proxy.lose = 1
        key = new_key()
        assert (await bus.call(LOST, key=key)).json()["did"] == "it"
        assert keys(bus)[1:] == [key, key]
    assert len(rig.provider.seen) == 2


async def test_a_page_of_a_proxy_is_no_answer(rig: Rig, kind: KIND, proxy: Between) -> None:
    async with hands(kind, rig, proxy.url) as bus:
        proxy.canned = 1
        with pytest.raises(errors.NotUnderstood) as told:
            await bus.call(LOST)
        assert (told.value.status, rig.provider.seen) == (502, [])
        proxy.canned = 1
        submission = await bus.submit()
        assert keys(bus)[1:] == [submission.key] * 2


async def test_what_may_have_been_done_is_not_done_again(rig: Rig, bus: Hands) -> None:
    async def act(request: Request) -> object:
        raise Interrupted("KHONG-RO")

    rig.provider.act = act  # type: ignore[method-assign]
    with pytest.raises(errors.OutcomeUnknown) as told:
        await bus.call()
    assert (told.value.outcome_unknown, told.value.safe_to_repeat) == (True, False)
    assert len(rig.provider.seen) == 1


async def test_a_query_that_was_not_answered_is_asked_again_where_the_bus_says_so(rig: Rig, bus: Hands) -> None:
    hung = asyncio.Event()

    async def act(request: Request) -> object:
        if len(rig.provider.seen) == 1:
            await hung.wait()
        return {"did": "at the second time"}

    rig.provider.act = act  # type: ignore[method-assign]
    assert (await bus.call("H41/slow/v1")).json() == {"did": "at the second time"}
    hung.set()
    rig.provider.seen.clear()
    hung.clear()
    with pytest.raises(errors.NoAnswer) as told:
        await bus.call("H41/slow/v1", key=new_key())
    hung.set()
    assert told.value.safe_to_repeat is True, "but under the key stands this outcome, whatever is repeated"
    assert len(rig.provider.seen) == 1


async def test_a_provider_that_is_down_is_asked_again_later(rig: Rig, bus: Hands) -> None:
    async def act(request: Request) -> object:
        raise Unavailable

    rig.provider.act = act  # type: ignore[method-assign]
    with pytest.raises(errors.ProviderUnavailable) as told:
        await bus.call(deadline_s=3.0)
    assert told.value.retry_after_s == 5, "longer than there is time: it is told at once"
    assert len(rig.provider.seen) == 1


async def test_a_quota_that_is_used_up_is_told_at_once(rig: Rig, bus: Hands) -> None:
    with pytest.raises(errors.QuotaExhausted) as told:
        for _ in range(3):
            await bus.call("H41/few/v1")
    assert told.value.retry_after_s is not None
    assert told.value.retry_after_s >= 1
    assert bus.requests.count("/v1/services/H41/few") <= 3


async def test_the_stream_goes_on_where_it_was_cut(rig: Rig, kind: KIND, proxy: Between) -> None:
    async with hands(kind, rig, proxy.url) as bus, hands(kind, rig) as other:
        open_streams = asyncio.Event()
        made: list[str] = []

        async def note(_: int) -> None:
            if bus.requests.count("/v1/transactions/stream") > len(made):
                open_streams.set()

        async def call() -> None:
            """A call each time the stream is open, and then the connection breaks."""
            for _ in range(3):
                await open_streams.wait()
                open_streams.clear()
                made.append((await other.call()).transaction)
                proxy.cut()

        first = (await other.call()).transaction
        bus.requests.before = note
        calling = asyncio.create_task(call())
        found = await bus.items("follow", after=await last_place(rig, first), enough=lambda events: len(events) == 6)
        await calling
        assert [event.transaction.id for event in found] == [id for id in made for _ in range(2)]
        assert [event.kind for event in found] == ["accepted", "succeeded"] * 3
        assert bus.requests.count("/v1/transactions/stream") >= 3
        assert all(event.at.tzinfo is not None for event in found)


async def last_place(rig: Rig, tx: str) -> str:
    """Where the last entry of a transaction stands in the log."""
    found = await rig.rows.fetchrow(
        "SELECT xid, seq FROM entries WHERE tx = $1 ORDER BY xid DESC, seq DESC LIMIT 1", tx
    )
    return f"{found['xid']}-{found['seq']}"


async def test_a_stream_that_may_not_be_read_is_an_error(rig: Rig, kind: KIND) -> None:
    async with hands(kind, rig) as bus:
        with pytest.raises(errors.MalformedHeader):
            await bus.items("follow", after="nowhere")
