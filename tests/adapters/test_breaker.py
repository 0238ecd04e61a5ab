"""The circuit breaker against a clock of our own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngsp.adapter.breaker import Breaker, BreakerOpen, BreakerState


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A breaker with threshold 3 that stays open for 10 s, and what it told of itself."""

    clock: Clock = field(default_factory=Clock)
    heard: list[BreakerState] = field(default_factory=list)
    spread: float = 0.0

    def __post_init__(self) -> None:
        self.breaker = Breaker(
            threshold=3,
            open_s=10.0,
            jitter=0.2,
            clock=self.clock,
            uniform=lambda low, high: self.spread,
            changed=self.heard.append,
        )

    def state(self) -> BreakerState:
        return self.breaker.state

    def call(self, succeeds: bool) -> None:
        with self.breaker.admit() as permit:
            if succeeds:
                permit.succeeded()
            else:
                permit.failed()

    def open(self) -> None:
        for _ in range(3):
            self.call(succeeds=False)


def test_opens_after_failures_in_a_row_only() -> None:
    bench = Bench()
    for succeeds in (False, False, True, False, False):
        bench.call(succeeds)
    assert (bench.state(), bench.breaker.failures) == ("closed", 2)
    bench.call(succeeds=False)
    assert (bench.state(), bench.breaker.opened, bench.heard) == ("open", 1, ["open"])


def test_open_admits_nobody_and_says_when_to_come_back() -> None:
    bench = Bench()
    bench.open()
    bench.clock.now += 4.0
    with pytest.raises(BreakerOpen) as refused:
        bench.breaker.admit()
    assert refused.value.retry_after_s == pytest.approx(6.0)


def test_half_open_admits_one_probe_at_a_time_and_success_closes() -> None:
    bench = Bench()
    bench.open()
    bench.clock.now += 10.0
    assert bench.state() == "half-open"
    with bench.breaker.admit() as probe:
        with pytest.raises(BreakerOpen):
            bench.breaker.admit()
        probe.succeeded()
    assert bench.state() == "closed"
    assert bench.heard == ["open", "half-open", "closed"]
    bench.call(succeeds=False)
    assert bench.state() == "closed", "one failure after recovery is one, not the last of many"


def test_failed_probe_opens_again_for_a_whole_period() -> None:
    bench = Bench()
    bench.open()
    bench.clock.now += 10.0
    bench.call(succeeds=False)
    assert (bench.state(), bench.breaker.opened) == ("open", 2)
    bench.clock.now += 9.9
    assert bench.state() == "open"
    bench.clock.now += 0.1
    assert bench.state() == "half-open"


def test_cancelled_probe_frees_its_place_and_counts_as_nothing() -> None:
    bench = Bench()
    bench.open()
    bench.clock.now += 10.0
    with pytest.raises(RuntimeError), bench.breaker.admit():
        raise RuntimeError("not the provider's fault")
    assert bench.state() == "half-open"
    bench.call(succeeds=True)
    assert bench.state() == "closed"


def test_answers_from_before_the_last_change_are_not_counted() -> None:
    bench = Bench()
    slow_success, slow_failure = bench.breaker.admit(), bench.breaker.admit()
    bench.open()
    slow_success.succeeded()
    assert bench.state() == "open"
    bench.clock.now += 10.0
    with bench.breaker.admit() as probe:
        slow_failure.failed()
        assert bench.state() == "half-open"
        with pytest.raises(BreakerOpen):
            bench.breaker.admit()
        probe.succeeded()
    assert bench.state() == "closed"


def test_permit_settles_once() -> None:
    bench = Bench()
    permit = bench.breaker.admit()
    permit.failed()
    permit.failed()
    permit.succeeded()
    assert bench.breaker.failures == 1


@pytest.mark.parametrize(("spread", "open_s"), [(-0.2, 8.0), (0.0, 10.0), (0.2, 12.0)])
def test_open_period_is_spread(spread: float, open_s: float) -> None:
    bench = Bench(spread=spread)
    bench.open()
    bench.clock.now += open_s - 0.001
    assert bench.state() == "open"
    bench.clock.now += 0.002
    assert bench.state() == "half-open"


@pytest.mark.parametrize(("threshold", "open_s", "jitter"), [(0, 1.0, 0.1), (1, 0.0, 0.1), (1, 1.0, 1.0)])
def test_nonsense_settings_are_refused(threshold: int, open_s: float, jitter: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        Breaker(threshold=threshold, open_s=open_s, jitter=jitter)


@given(st.lists(st.sampled_from(["ok", "fail", "cancel", "wait"]), max_size=60))
def test_any_history_keeps_the_rules(history: list[str]) -> None:
    """Open admits nobody; after enough time it always admits a probe; one success always closes."""
    bench = Bench()
    for step in history:
        if step == "wait":
            bench.clock.now += 10.0
            continue
        before = bench.state()
        try:
            permit = bench.breaker.admit()
        except BreakerOpen:
            assert before == "open"
            continue
        assert before != "open"
        with permit:
            if step == "ok":
                permit.succeeded()
            elif step == "fail":
                permit.failed()
        if step == "ok":
            assert (bench.state(), bench.breaker.failures) == ("closed", 0)
        assert bench.state() != "closed" or bench.breaker.failures < 3
    bench.clock.now += 10.0
    bench.call(succeeds=True)
    assert bench.state() == "closed"
