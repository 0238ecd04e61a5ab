"""Percentiles, medians, and the form in which a run's result travels."""

from __future__ import annotations

import math
import random

import pytest

from bench.figures import Errors, Latency, LoadResult, Schedule, median, percentile


def test_percentiles_are_nearest_rank() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert [percentile(hundred, percent) for percent in (0, 1, 50, 95, 99, 99.5, 100)] == [1, 1, 50, 95, 99, 100, 100]
    assert percentile([7.0], 0) == percentile([7.0], 99) == 7.0
    assert percentile([1.0, 2.0], 50) == 1.0
    assert percentile([1.0, 2.0], 51) == 2.0


def test_a_percentile_covers_its_share_of_the_values() -> None:
    source = random.Random(7)
    for _ in range(200):
        values = sorted(source.choice((1.0, 2.0, 3.0, 5.0)) for _ in range(source.randint(1, 50)))
        percent = source.uniform(0.1, 100)
        found = percentile(values, percent)
        assert sum(value <= found for value in values) >= len(values) * percent / 100
        assert sum(value < found for value in values) < len(values) * percent / 100


@pytest.mark.parametrize("percent", [-1.0, 100.1, math.nan])
def test_a_percentage_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 100"):
        percentile([1.0], percent)


def test_nothing_has_no_percentile_and_no_median() -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile([], 50)
    with pytest.raises(ValueError, match="no median"):
        median([])
    assert Latency.of_seconds([]) is None


def test_median() -> None:
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5


def test_latency_is_in_milliseconds_whatever_the_order() -> None:
    assert Latency.of_seconds([0.003, 0.001, 0.002]) == Latency(p50_ms=2.0, p95_ms=3.0, p99_ms=3.0, max_ms=3.0)


@pytest.mark.parametrize("answered", [0, 2])
def test_a_result_travels_as_json(answered: int) -> None:
    result = LoadResult(
        mode="open",
        connections=4,
        rate_per_s=100.0,
        window_s=1.5,
        answered=answered,
        answered_in_all=answered + 1,
        throughput_per_s=1.3,
        latency=Latency.of_seconds([0.5] * answered),
        errors=Errors({"503": 2}, 1, 3, "HTTP/1.1 503"),
        schedule=Schedule(8, 1, 1, 0.25, False),
        cpu_s=0.1,
    )
    assert LoadResult.from_json(result.to_json()) == result
    assert result.errors.total == 6
