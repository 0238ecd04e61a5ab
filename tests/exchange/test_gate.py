"""Who may enter the gate, by itself."""

from __future__ import annotations

from ngsp.errors import NgspError
from ngsp.gate import Gate


def code(refusal: NgspError | None) -> str:
    return refusal.code if refusal else ""


def test_who_may_enter() -> None:
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


def test_a_gate_with_room_for_one() -> None:
    gate = Gate(most=1, client_share=0.5, most_log_wait_s=1, log_age_s=lambda: 0.0, log_trouble=str, most_body_bytes=1)
    assert gate.refusal("a") is None
    gate.enter("a")
    assert (code(gate.refusal("a")), code(gate.refusal("b"))) == ("too-many-requests", "overloaded")
    gate.leave("a")
    assert gate.refusal("b") is None
