"""A clock that is off: found out by the gateway's, told, and nothing lost or doubled for it."""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate

import pytest
from structlog.testing import capture_logs

from ngsp.adapter.clock import OFF, Clock
from ngsp.bus import EmbeddedBus
from ngsp.messages import Effect
from tests.adapter.conftest import OfficeOf
from tests.adapter.desk import desk_at
from tests.adapter.front import front
from tests.adapter.office import EFFECTS
from tests.adapter.test_signs import registrar
from tests.support.waiting import until

HOUR_S = 3600.0


def ahead(seconds: float) -> Clock:
    return Clock(lambda: time.time() + seconds)


@pytest.mark.parametrize(
    ("told", "asked", "answered", "off"),
    [
        (1_000, 1_000.0, 1_000.9, 0.0),
        (1_000, 999.0, 1_000.0, 0.0),
        (1_000, 1_000.9, 1_002.0, 0.0),
        (1_000, 1_062.0, 1_062.1, 61.0),
        (1_000, 900.0, 905.0, -95.0),
        (1_000, 900.0, 1_100.0, 0.0),
    ],
)
def test_only_what_is_sure_is_taken_for_an_error(told: int, asked: float, answered: float, off: float) -> None:
    clock = Clock()
    clock.compare(formatdate(told, usegmt=True), asked, answered)
    assert clock.off_s == pytest.approx(off)
    assert clock.is_off == (abs(off) > 60)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 99 Foo 2026 00:00:00 GMT"])
def test_a_date_that_is_none_says_nothing(date: str | None) -> None:
    clock = Clock()
    clock.off_s = 5.0
    clock.compare(date, 0, 1)
    assert clock.off_s == 5.0


@pytest.mark.parametrize("off_s", [HOUR_S, -HOUR_S, 0.0])
async def test_the_gateway_s_answers_show_that_the_clock_is_off(
    embedded: EmbeddedBus, office_of: OfficeOf, off_s: float
) -> None:
    office = office_of("idempotent")
    async with (
        front() as gateway,
        desk_at(embedded, office.path, [office.topic]),
        office.serving(embedded, clock=ahead(off_s)) as runner,
    ):
        told = registrar(office, gateway)
        with capture_logs() as lines:
            beating = asyncio.create_task(told.beat_for_ever(runner, 0.05))
            await until(lambda: len(gateway.beats) >= 3, "some heartbeats")
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
        await told.close()
        assert gateway.beats[-1]["troubles"] == ([OFF] if off_s else [])
        said = [line for line in lines if line.get("code") == OFF]
        assert len(said) == bool(off_s)
        if off_s:
            assert said[0]["seconds"] == pytest.approx(off_s, abs=5)


@pytest.mark.parametrize("effect", EFFECTS)
async def test_an_hour_ahead_nothing_is_begun_that_seems_too_late(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    office, clock = office_of(effect), ahead(HOUR_S)
    async with desk_at(embedded, office.path, [office.topic]) as desk:
        async with office.serving(embedded, clock=clock) as runner:
            soon, later = desk.envelope(), desk.envelope(deadline_s=2 * HOUR_S)
            assert (await desk.ask(soon)).status == "expired"
            assert (await desk.ask(later)).status == "ok"
            clock.off_s = HOUR_S  # from now on it is known
            assert runner.troubles() == [OFF]
            other = desk.envelope()
            reply = await desk.ask(other)
            assert (reply.status, reply.code) == ("retry", OFF)
            assert office.calls == [later.id]
        async with office.serving(embedded):  # the clock was set right
            assert (await desk.ask(other)).status == "ok"
            told = (await desk.ask(soon)).status
            assert told == ("ok" if effect == "idempotent" else "expired"), "an inbox says what it said before"
    assert [await office.entered(each.id) for each in (other, later)] == [1, 1]


@pytest.mark.parametrize("effect", EFFECTS)
async def test_an_hour_behind_what_is_too_late_is_done_once_and_said_to_be_done(
    embedded: EmbeddedBus, office_of: OfficeOf, effect: Effect
) -> None:
    """The gateway has ended it as unknown, and takes the late reply for what it is."""
    office = office_of(effect)
    async with desk_at(embedded, office.path, [office.topic]) as desk, office.serving(embedded, clock=ahead(-HOUR_S)):
        late = desk.envelope(deadline_s=-60)
        first, second = await desk.ask(late), await desk.ask(late)
        assert first.status == second.status == "ok"
        assert (first.body == second.body) == (effect != "idempotent")
    assert await office.entered(late.id) == (2 if effect == "idempotent" else 1)
