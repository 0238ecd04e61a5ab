"""Messages with the same order key: one after the other in a process, whatever they have to wait for."""

from __future__ import annotations

import asyncio

import pytest

from ngsp.adapter.turns import Places, Turns
from ngsp.bus import Bus
from ngsp.messages import Effect
from tests.adapter.conftest import OfficeOf
from tests.adapter.desk import desk_at
from tests.adapter.office import EFFECTS
from tests.adapter.test_work import Gated
from tests.support.waiting import until

ONE, OTHER = "0" * 31 + "1", "0" * 31 + "2"


async def test_turns_are_taken_in_the_order_of_coming_and_forgotten() -> None:
    turns = Turns()
    came: list[int] = []
    gate = asyncio.Event()

    async def comes(number: int) -> None:
        async with turns.turn("line"):
            if number == 0:
                await gate.wait()
            came.append(number)

    tasks = [asyncio.create_task(comes(number)) for number in range(6)]
    await asyncio.sleep(0)
    tasks[2].cancel()
    async with turns.turn("other"):
        assert came == []
    gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert came == [0, 1, 3, 4, 5]
    assert len(turns) == 0


async def test_places_are_shared_and_no_name_has_all() -> None:
    places, gates = Places(4, ["a", "b"]), {"a": asyncio.Event(), "b": asyncio.Event()}
    running = {"a": 0, "b": 0}
    most = dict(running)

    async def comes(name: str) -> None:
        async with places.place(name):
            running[name] += 1
            most[name] = max(most[name], running[name])
            await gates[name].wait()
            running[name] -= 1

    hanging = [asyncio.create_task(comes("a")) for _ in range(8)]
    await until(lambda: running["a"] == 3, "all but the other's share")
    others = [asyncio.create_task(comes("b")) for _ in range(3)]
    await until(lambda: running["b"] == 1, "its share")
    hanging[-1].cancel()
    others[1].cancel()
    gates["b"].set()
    await asyncio.gather(others[0], others[2])
    assert (running, most) == ({"a": 3, "b": 0}, {"a": 3, "b": 1})
    gates["a"].set()
    await asyncio.gather(*hanging[:-1])
    assert (running, most) == ({"a": 0, "b": 0}, {"a": 3, "b": 1})


async def test_a_place_that_was_given_to_somebody_who_went_goes_on() -> None:
    places, gate = Places(1, ["a"]), asyncio.Event()

    async def holds() -> None:
        async with places.place("a"):
            await gate.wait()

    async def holds_and_cancels() -> None:
        await holds()
        second.cancel()  # it has the place since then, and has not run

    first, second, third = [asyncio.create_task(holder()) for holder in (holds_and_cancels, holds, holds)]
    await asyncio.sleep(0)
    gate.set()
    await first
    await asyncio.gather(second, return_exceptions=True)
    assert second.cancelled()
    await asyncio.wait_for(third, 5)


@pytest.mark.parametrize("effect", EFFECTS)
async def test_the_next_of_a_line_is_not_begun_before_the_one_before_has_ended(
    bus: Bus, office_of: OfficeOf, effect: Effect
) -> None:
    office = office_of(effect)
    office.work = gated = Gated(office)
    async with desk_at(bus, office.path, [office.topic]) as desk, office.serving(bus) as runner:
        line = [desk.envelope(order=ONE) for _ in range(4)]
        for envelope in (*line, desk.envelope(order=OTHER), desk.envelope()):
            await bus.send(desk.topic, envelope.headers(), envelope.body, envelope.order.encode())
        await until(lambda: gated.running == 3, "the first of each line, and the one in none")
        assert runner.subscription and runner.subscription.in_work == 6
        gated.gate.set()
        for envelope in line:
            assert (await desk.answers(envelope.id))[0].status == "ok"
        assert gated.most == 3
        ids = [envelope.id for envelope in line]
        assert [id for id in office.calls if id in ids] == ids


async def test_an_order_key_that_is_none_is_no_request(bus: Bus, office_of: OfficeOf) -> None:
    office = office_of("idempotent")
    async with desk_at(bus, office.path, [office.topic]) as desk, office.serving(bus):
        await desk.deliver(desk.envelope(order="900000000001"))
        assert (await desk.ask(desk.envelope(order=ONE))).status == "ok"
        assert len(desk.answered) == 1
