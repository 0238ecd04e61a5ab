"""However often a message is delivered: its effect once where the adapter guards it, and the same bytes each time."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from ngsp.adapter import Request
from ngsp.bus import Bus, EmbeddedBus
from ngsp.messages import Effect
from tests.adapter.conftest import OfficeOf
from tests.adapter.desk import desk_at
from tests.adapter.office import EFFECTS, GUARDED, in_work
from tests.support.waiting import until

TIMES = (1, 2, 10)


@pytest.mark.parametrize("effect", EFFECTS)
async def test_one_after_another(bus: Bus, office_of: OfficeOf, effect: Effect) -> None:
    office = office_of(effect)
    async with desk_at(bus, office.path, [office.topic]) as desk, office.serving(bus):
        for times in TIMES:
            envelope = desk.envelope({"note": "A"})
            replies = [await desk.ask(envelope) for _ in range(times)]
            assert {reply.status for reply in replies} == {"ok"}
            executed = times if effect == "idempotent" else 1
            assert office.calls.count(envelope.id) == executed == await office.entered(envelope.id)
            assert len({reply.body for reply in replies}) == executed
            assert {(reply.id, reply.service, reply.adapter) for reply in replies} == {
                (envelope.id, office.path, office.adapter.id)
            }


@pytest.mark.parametrize("effect", EFFECTS)
async def test_all_at_once(bus: Bus, office_of: OfficeOf, effect: Effect) -> None:
    office, gate = office_of(effect), asyncio.Event()

    async def enter_when_let(request: Request) -> object:
        await gate.wait()
        return await office.enter(request)

    office.work = enter_when_let
    async with desk_at(bus, office.path, [office.topic]) as desk, office.serving(bus) as runner:
        for times in TIMES:
            gate.clear()
            envelope = desk.envelope({"note": "A"})
            await desk.deliver(envelope, times)
            await in_work(runner, times)
            gate.set()
            replies = await desk.answers(envelope.id, times)
            assert {reply.status for reply in replies} == {"ok"}
            executed = times if effect == "idempotent" else 1
            assert office.calls.count(envelope.id) == executed == await office.entered(envelope.id)
            assert len({reply.body for reply in replies}) == executed


@pytest.mark.parametrize("effect", EFFECTS)
async def test_each_delivery_gets_one_reply_that_names_it(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    office = office_of(effect)
    async with desk_at(embedded, office.path, [office.topic]) as desk:
        async with office.serving(embedded) as runner:
            first = desk.envelope()
            for attempt in range(1, 6):
                await desk.ask(desk.envelope(id=first.id, attempt=attempt))
            assert runner.handled == 5
        await desk.settle()
        assert [reply.attempt for reply in desk.replies(first.id)] == [1, 2, 3, 4, 5]


async def test_many_messages_at_once_each_have_one_effect(embedded: EmbeddedBus, office_of: OfficeOf) -> None:
    """More at once than there are connections to the provider's database, three deliveries of each."""
    office = office_of("transactional")
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        envelopes = [desk.envelope({"note": str(number)}) for number in range(100)]
        for envelope in envelopes:
            await desk.deliver(envelope, 3)
        for envelope in envelopes:
            replies = await desk.answers(envelope.id, 3)
            assert {(reply.status, reply.code) for reply in replies} == {("ok", "")}
            assert len({reply.body for reply in replies}) == 1
            assert await office.entered(envelope.id) == 1


async def test_two_processes_of_a_transactional_adapter_share_its_inbox(office_of: OfficeOf) -> None:
    """A message in work at one process while another gets it as well, as after a group's rebalance."""
    office, gate = office_of("transactional"), asyncio.Event()

    async def enter_when_let(request: Request) -> object:
        await gate.wait()
        return await office.enter(request)

    office.work = enter_when_let
    async with AsyncExitStack() as stack:
        desks, runners = [], []
        for _ in range(2):
            bus = EmbeddedBus()
            await bus.start()
            stack.push_async_callback(bus.stop)
            desks.append(await stack.enter_async_context(desk_at(bus, office.path, [office.topic])))
            runners.append(await stack.enter_async_context(office.serving(bus)))
        envelope = desks[0].envelope()
        for desk, runner in zip(desks, runners, strict=True):
            await desk.deliver(desk.envelope(id=envelope.id, deadline_ms=envelope.deadline_ms))
            await in_work(runner, 1)
        gate.set()
        (one,), (other,) = [await desk.answers(envelope.id) for desk in desks]
        assert (one.status, one.body) == (other.status, other.body)
        assert one.status == "ok"
        assert await office.entered(envelope.id) == 1 == office.calls.count(envelope.id)


@pytest.mark.parametrize("effect", GUARDED)
async def test_a_new_process_finds_what_the_last_one_did(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    office = office_of(effect)
    async with desk_at(embedded, office.path, [office.topic]) as desk:
        envelope = desk.envelope()
        async with office.serving(embedded):
            first = await desk.ask(envelope)
        async with office.serving(embedded):
            again = await desk.ask(envelope)
    assert (first.status, first.body) == (again.status, again.body)
    assert first.status == "ok"
    assert await office.entered(envelope.id) == 1


@pytest.mark.parametrize("effect", EFFECTS)
async def test_an_outcome_that_cannot_be_sent_is_sent_later(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    """A submission's message is not finished before its outcome is on the bus."""
    office = office_of(effect)
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        envelope = desk.submission()  # there is no topic for outcomes yet
        await desk.deliver(envelope)
        await until(lambda: office.calls.count(envelope.id) >= 1, "the first execution")
        async with desk_at(embedded, office.path, [office.topic], outcomes=True) as other:
            (reply,) = await other.answers(envelope.id)
    assert reply.status == "ok"
    if effect != "idempotent":
        assert await office.entered(envelope.id) == 1


async def test_a_query_whose_reply_cannot_be_sent_is_not_repeated(embedded: EmbeddedBus, office_of: OfficeOf) -> None:
    office = office_of("idempotent")
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        lost = desk.envelope(reply_to="ngsp.reply.9")  # no gateway has this slot
        await desk.deliver(lost)
        assert (await desk.ask(desk.envelope())).status == "ok"
    assert office.calls.count(lost.id) == 1
