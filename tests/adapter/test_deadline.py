"""The deadline is checked before work begins, and an answer once given stays the answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from ngsp.adapter import Request, Unavailable
from ngsp.bus import Bus, EmbeddedBus
from ngsp.messages import Effect
from tests.adapter.conftest import OfficeOf
from tests.adapter.desk import desk_at
from tests.adapter.office import EFFECTS, GUARDED, in_work
from tests.support.waiting import until


def passed(deadline_ms: int) -> bool:
    return time.time() * 1000 >= deadline_ms


@pytest.mark.parametrize("effect", EFFECTS)
async def test_what_has_expired_is_not_begun(bus: Bus, office_of: OfficeOf, effect: Effect) -> None:
    office = office_of(effect)
    async with desk_at(bus, office.path, [office.topic]) as desk, office.serving(bus):
        for late_s in (0.0, 0.1, 3600.0, 10 * 365 * 86400.0):
            reply = await desk.ask(desk.envelope(deadline_s=-late_s))
            assert (reply.status, reply.code, reply.body) == ("expired", "", b"")
        assert office.calls == []
        assert (await desk.ask(desk.envelope())).status == "ok"


@pytest.mark.parametrize("effect", GUARDED)
async def test_what_was_told_to_have_expired_is_never_done(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    """Not even if a later delivery says that there is time: the answer of the first is kept."""
    office = office_of(effect)
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        late = desk.envelope(deadline_s=-1)
        in_time = desk.envelope(id=late.id)
        assert {(await desk.ask(envelope)).status for envelope in (late, in_time, late, in_time)} == {"expired"}
    assert office.calls == []
    assert await office.entered(late.id) == 0


@pytest.mark.parametrize("effect", GUARDED)
async def test_what_was_done_in_time_stays_done_after_the_deadline(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    office = office_of(effect)
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        envelope = desk.envelope()
        done = await desk.ask(envelope)
        again = await desk.ask(replace(envelope, deadline_ms=int(time.time() * 1000) - 1000))
    assert (done.status, done.body) == (again.status, again.body) == ("ok", done.body)
    assert len(office.calls) == 1


@pytest.mark.parametrize("effect", EFFECTS)
async def test_work_begun_in_time_is_finished(embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect) -> None:
    office = office_of(effect)

    async def past_the_deadline(request: Request) -> object:
        await until(lambda: passed(request.envelope.deadline_ms), "the deadline")
        assert request.remaining_s() == 0
        return await office.enter(request)

    office.work = past_the_deadline
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        reply = await desk.ask(desk.envelope(deadline_s=1.5))
    assert reply.status == "ok"
    assert await office.entered(reply.id) == 1


async def test_a_repeat_that_waited_past_its_deadline_is_not_begun(embedded: EmbeddedBus, office_of: OfficeOf) -> None:
    """It waits for the first delivery's transaction; when that is rolled back, it is too late."""
    office, gate = office_of("transactional"), asyncio.Event()

    async def unavailable_when_let(request: Request) -> object:
        await gate.wait()
        raise Unavailable

    office.work = unavailable_when_let
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded) as runner:
        envelope = desk.envelope(deadline_s=2.0)
        await desk.deliver(envelope, 2)
        await in_work(runner, 2)
        await until(lambda: office.calls == [envelope.id], "the first to be begun")
        await until(lambda: passed(envelope.deadline_ms), "the deadline")
        gate.set()
        replies = await desk.answers(envelope.id, 2)
    assert sorted(reply.status for reply in replies) == ["expired", "retry"]
    assert office.calls == [envelope.id]


@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_function_knows_its_deadline(embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect) -> None:
    office = office_of(effect)
    seen: list[tuple[float, float]] = []

    async def looks(request: Request) -> object:
        seen.append((request.deadline.timestamp(), request.remaining_s()))
        return {}

    office.work = looks
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded):
        envelope = desk.envelope(deadline_s=30)
        await desk.ask(envelope)
    ((at, remaining_s),) = seen
    assert at == pytest.approx(envelope.deadline_ms / 1000, abs=0.001)
    assert 0 < remaining_s <= 30
