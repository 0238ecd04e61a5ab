"""What the bench of overload makes of its runs."""

from __future__ import annotations

from bench.figures import Errors, Latency, LoadResult
from bench.overload import Run


def result(
    goodput_per_s: float, refused: dict[str, int] | None = None, broken: int = 0, p99_ms: float = 5
) -> LoadResult:
    return LoadResult(
        mode="closed",
        connections=8,
        rate_per_s=None,
        window_s=1,
        answered=1,
        answered_in_all=1,
        throughput_per_s=1,
        latency=None,
        errors=Errors(refused or {}, broken, 0, "HTTP/1.1 429" if refused else None),
        schedule=None,
        cpu_s=0,
        refusal_latency=Latency(1, 2, p99_ms, 9) if refused else None,
        goodput_per_s=goodput_per_s,
    )


def test_goodput_is_of_the_best_and_refusals_are_no_faults() -> None:
    overloaded = [result(900, {"429": 10, "503": 2}, p99_ms=8), result(700, {"429": 9}, p99_ms=12)]
    run = Run([result(1_000), result(800)], [*overloaded, result(800, {"503": 1}, p99_ms=10)], result(990))
    assert (run.best_per_s, run.goodput, run.refusal_p99_ms, run.faults) == (1_000, 0.8, 10, [])


def test_without_refusals_there_is_no_figure_for_them() -> None:
    assert Run([result(1)], [result(1)], result(1)).refusal_p99_ms is None


def test_whatever_else_goes_wrong_is_a_fault() -> None:
    good, bad = result(1), result(1, {"500": 1})
    assert len(Run([good], [bad], good).faults) == 1
    assert len(Run([good], [result(1, {"429": 1}, broken=1)], good).faults) == 1
    assert len(Run([result(1, {"429": 1})], [good], good).faults) == 1
    assert len(Run([good], [good], result(1, {"503": 1})).faults) == 1
