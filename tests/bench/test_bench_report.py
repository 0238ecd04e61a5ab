"""What is printed, from samples made up for it."""

from __future__ import annotations

import pytest

from bench.figures import Errors, Latency, LoadResult, Schedule
from bench.measure import CLOSED_16, CLOSED_64, OPEN_1000, Level, Sample
from bench.report import cost_table, last_lines, p99_ratio, pair_ratios, progress, row_of, speed_table, throughput_ratio


@pytest.fixture(autouse=True)
def in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "en")


def sample(
    target: str,
    level: Level,
    throughput_per_s: float,
    p99_ms: float | None,
    repetition: int = 1,
    *,
    errors: int = 0,
    kept_up: bool = True,
) -> Sample:
    return Sample(
        target=target,
        level=level,
        repetition=repetition,
        load=LoadResult(
            mode="closed" if level.rate_per_s is None else "open",
            connections=level.connections,
            rate_per_s=level.rate_per_s,
            window_s=1.0,
            answered=0 if p99_ms is None else 100,
            answered_in_all=100,
            throughput_per_s=throughput_per_s,
            latency=None if p99_ms is None else Latency(1.0, 2.0, p99_ms, 99.0),
            errors=Errors({"503": errors} if errors else {}, 0, 0, "HTTP/1.1 503" if errors else None),
            schedule=None if level.rate_per_s is None else Schedule(100, 0, 0, 0.1, kept_up),
            cpu_s=0.1,
        ),
        processor_us={"gateway": throughput_per_s / 10, "load": 20.0},
        others_share=0.25,
    )


BOTH = [
    sample("floor", CLOSED_64, 8000, 10),
    sample("full", CLOSED_64, 4100, 20),
    sample("floor", CLOSED_64, 1000, 500, 2),
    sample("full", CLOSED_64, 4000, 25, 2),
    sample("floor", CLOSED_64, 7900, 12, 3),
    sample("full", CLOSED_64, 700, 900, 3),
    sample("floor", OPEN_1000, 1000, 20),
    sample("full", OPEN_1000, 999, 30),
]


def test_a_row_holds_medians() -> None:
    row = row_of(BOTH, CLOSED_64, "floor")
    assert row is not None
    assert (row.throughput_per_s, row.p99_ms, row.errors, row.kept_up) == (7900, 12, 0, True)
    assert row_of(BOTH, CLOSED_16, "floor") is None


def test_the_ratios_are_those_of_the_medians() -> None:
    assert throughput_ratio(BOTH, CLOSED_64) == pytest.approx(4000 / 7900)
    assert p99_ratio(BOTH, OPEN_1000) == pytest.approx(1.5)
    assert pair_ratios(BOTH, CLOSED_64) == pytest.approx([700 / 7900, 4100 / 8000, 4.0])
    assert last_lines(BOTH) == ["P3 p99 ratio=1.50", "P1 pairs=0.09..4.00 (3)", "P1 ratio=0.51"]


def test_there_is_no_ratio_of_a_path_that_was_not_measured_or_did_not_answer() -> None:
    floor_alone = [each for each in BOTH if each.target == "floor"]
    assert throughput_ratio(floor_alone, CLOSED_64) is None
    assert p99_ratio(floor_alone, OPEN_1000) is None
    assert pair_ratios(floor_alone, CLOSED_64) == []
    assert last_lines(floor_alone) == []
    silent = [sample("floor", CLOSED_64, 0, None), sample("full", CLOSED_64, 5, 1)]
    assert throughput_ratio(silent, CLOSED_64) is None
    assert p99_ratio(silent, CLOSED_64) is None


def test_one_silent_run_leaves_no_latency() -> None:
    row = row_of([sample("floor", CLOSED_64, 10, 5), sample("floor", CLOSED_64, 0, None)], CLOSED_64, "floor")
    assert row is not None
    assert row.p99_ms is None
    assert row.throughput_per_s == 5


def test_the_tables() -> None:
    assert speed_table(BOTH).splitlines() == [
        "| load           | path  | answers/s | p50 ms | p95 ms | p99 ms | errors |      ratio |",
        "| -------------- | ----- | --------: | -----: | -----: | -----: | -----: | ---------: |",
        "| 64 connections | floor |     7,900 |    1.0 |    2.0 |   12.0 |      0 |            |",
        "| 64 connections | full  |     4,000 |    1.0 |    2.0 |   25.0 |      0 |       0.51 |",
        "| open, 1000/s   | floor |     1,000 |    1.0 |    2.0 |   20.0 |      0 |            |",
        "| open, 1000/s   | full  |       999 |    1.0 |    2.0 |   30.0 |      0 | 1.50 (p99) |",
    ]
    assert cost_table(BOTH).splitlines()[2:4] == [
        "| 64 connections | floor |     790 |   20 |",
        "| 64 connections | full  |     400 |   20 |",
    ]


def test_errors_and_an_unkept_rate_are_seen() -> None:
    late = [sample("floor", OPEN_1000, 600, 5000, errors=3, kept_up=False)]
    assert "600 (fell behind)" in speed_table(late)
    assert "|      3 |" in speed_table(late)
    assert progress(late[0], 2) == "open, 1000/s, floor 1/2: 600/s, p50 1.0 ms, p99 5000.0 ms, 3 errors (others 25%)"


def test_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NGSP_LANGUAGE", "vi")
    assert "| 64 kết nối    | floor    |" in speed_table(BOTH)
    assert last_lines(BOTH)[-1] == "P1 ratio=0.51"
