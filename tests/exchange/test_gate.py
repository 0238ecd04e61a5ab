"""Who may enter the gate, by itself."""

from __future__ import annotations

import asyncio
import time

import pytest

from ngsp.errors import NgspError
from ngsp.gate import LATE_S, LEAST_ROOM, Gate
from tests.support.waiting import until


def code(refusal: NgspError | None) -> str:
    return refusal.code if refusal else ""


async def test_who_may_enter() -> None:
    age_s, trouble = 0.0, ""
    gate = Gate(
        most=10,
        client_share=0.5,
        most_log_wait_s=0.25,
        log_age_s=lambda: age_s,
        log_trouble=lambda: trouble,
        most_body_bytes=100,
    )
    for _ in range(9):
        assert gate.refusal("a") is None
        gate.enter("a")
    assert code(gate.refusal("a")) == "too-many-requests"
    assert gate.refusal("b") is None
    gate.enter("b")
    assert (code(gate.refusal("a")), code(gate.refusal("b"))) == ("too-many-requests", "overloaded")
    for _ in range(5):
        gate.leave("a")
    assert gate.refusal("a") is None, "below its share again"
    gate.enter("a")
    assert (code(gate.refusal("a")), code(gate.refusal("b"))) == ("too-many-requests", "")
    age_s = 0.3
    assert code(gate.refusal("b")) == "overloaded"
    trouble = "DiskFull"
    assert code(gate.refusal("b")) == "log-unavailable"
    gate.draining = True
    assert code(gate.refusal("b")) == "draining"
    assert (gate.reserve_body(60), gate.reserve_body(41), gate.reserve_body(40)) == (True, False, True)
    gate.release_body(100)
    assert gate.reserve_body(100)


async def test_a_gate_with_room_for_one() -> None:
    gate = Gate(most=1, client_share=0.5, most_log_wait_s=1, log_age_s=lambda: 0.0, log_trouble=str, most_body_bytes=1)
    assert gate.refusal("a") is None
    gate.enter("a")
    assert (code(gate.refusal("a")), code(gate.refusal("b"))) == ("too-many-requests", "overloaded")
    gate.leave("a")
    assert gate.refusal("b") is None


def gate_of(most: int) -> Gate:
    return Gate(
        most=most, client_share=0.5, most_log_wait_s=1, log_age_s=lambda: 0.0, log_trouble=str, most_body_bytes=1
    )


async def test_the_room_is_narrowed_while_the_loop_is_late_and_widened_while_it_is_not() -> None:
    gate = gate_of(512)
    for _ in range(256):
        gate.enter("a")
        gate.enter("b")
    for _ in range(20):
        gate.pace(10 * LATE_S)
    narrower = gate.room
    assert LEAST_ROOM < narrower < 512
    for _ in range(500):
        gate.pace(10 * LATE_S)
    assert gate.room == LEAST_ROOM
    for _ in range(256):
        gate.leave("a")
        gate.leave("b")
    for _ in range(LEAST_ROOM):
        assert gate.refusal("a" if gate.in_flight % 2 else "b") is None
        gate.enter("a" if gate.in_flight % 2 else "b")
    assert code(gate.refusal("a")) == "too-many-requests"
    for _ in range(LEAST_ROOM // 3):
        assert gate.refusal("c") is None, "who holds less than the others is not refused for the narrowness"
        gate.enter("c")
    assert code(gate.refusal("c")) == "overloaded"
    for _ in range(1_000):
        gate.pace(0.0)
    assert gate.room == 512
    assert gate.refusal("c") is None


async def test_a_small_room_is_not_narrowed() -> None:
    gate = gate_of(LEAST_ROOM - 1)
    for _ in range(500):
        gate.pace(10 * LATE_S)
    assert gate.room == LEAST_ROOM - 1


async def test_the_room_is_wide_again_when_nobody_is_refused_any_more() -> None:
    gate = gate_of(128)
    for _ in range(128):
        gate.enter("a")
    assert code(gate.refusal("a")) == "too-many-requests"
    while gate.room == 128:
        gate.pace(10 * LATE_S)
    for _ in range(128):
        gate.leave("a")
    await until(lambda: gate.room == 128, "the room to be wide again")


async def test_callers_who_come_back_at_once_find_the_wide_room_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused all the time in the narrow room, though there is a place for each in the wide one."""
    monkeypatch.setattr("ngsp.gate.TRIAL_EVERY", 50)
    gate = gate_of(128)
    for _ in range(100):
        gate.enter("a")
    assert code(gate.refusal("a")) == ""
    while gate.room > 100:
        gate.pace(1.0)

    def is_in() -> bool:
        time.sleep(0.03)  # what refusing takes of the loop
        return gate.refusal("a") is None

    assert not is_in()
    await until(is_in, "a trial of the wide room")
    gate.enter("a")
    for _ in range(60):  # beyond the end of the trial
        time.sleep(0.005)
        await asyncio.sleep(0.01)
        assert gate.room == 128
