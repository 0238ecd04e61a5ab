"""The tables and the ratios, in Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import median
from bench.measure import CLOSED_64, LEVELS, OPEN_1000, Level
from ngsp.text import tr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measure import Sample

FLOOR, FULL = "floor", "full"


@dataclass(frozen=True, slots=True)
class Row:
    """The medians over the repetitions of one target at one level; latencies are None where a run had no answer."""

    level: Level
    target: str
    throughput_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    errors: int
    kept_up: bool


def row_of(samples: Sequence[Sample], level: Level, target: str) -> Row | None:
    chosen = [sample.load for sample in samples if sample.level == level and sample.target == target]
    if not chosen:
        return None
    latencies = [load.latency for load in chosen if load.latency is not None]
    whole = len(latencies) == len(chosen)
    return Row(
        level=level,
        target=target,
        throughput_per_s=median([load.throughput_per_s for load in chosen]),
        p50_ms=median([latency.p50_ms for latency in latencies]) if whole else None,
        p95_ms=median([latency.p95_ms for latency in latencies]) if whole else None,
        p99_ms=median([latency.p99_ms for latency in latencies]) if whole else None,
        errors=sum(load.errors.total for load in chosen),
        kept_up=all(load.schedule is None or load.schedule.kept_up for load in chosen),
    )


def throughput_ratio(samples: Sequence[Sample], level: Level) -> float | None:
    """full/floor by the medians of throughput; None where either was not measured or answered nothing."""
    floor, full = (row_of(samples, level, target) for target in (FLOOR, FULL))
    if floor is None or full is None or not floor.throughput_per_s:
        return None
    return full.throughput_per_s / floor.throughput_per_s


def pair_ratios(samples: Sequence[Sample], level: Level) -> list[float]:
    """full/floor of throughput, each run of the full path with the run of the floor that went before it, ascending."""
    by_target = {
        target: {
            each.repetition: each.load.throughput_per_s
            for each in samples
            if (each.target, each.level) == (target, level)
        }
        for target in (FLOOR, FULL)
    }
    pairs = [(by_target[FULL].get(number), floor) for number, floor in by_target[FLOOR].items()]
    return sorted(full / floor for full, floor in pairs if full is not None and floor)


def p99_ratio(samples: Sequence[Sample], level: Level) -> float | None:
    """full/floor by the medians of p99; None where either was not measured or has none."""
    floor, full = (row_of(samples, level, target) for target in (FLOOR, FULL))
    if floor is None or full is None or not floor.p99_ms or full.p99_ms is None:
        return None
    return full.p99_ms / floor.p99_ms


def level_name(level: Level) -> str:
    if level.rate_per_s is None:
        return tr(f"{level.connections} kết nối", f"{level.connections} connections")
    return tr(f"mở, {level.rate_per_s:.0f}/giây", f"open, {level.rate_per_s:.0f}/s")


def progress(sample: Sample, repetitions: int) -> str:
    load = sample.load
    latency = f"p50 {load.latency.p50_ms:.1f} ms, p99 {load.latency.p99_ms:.1f} ms" if load.latency else "–"
    errors = tr(f", {load.errors.total} lỗi", f", {load.errors.total} errors") if load.errors.total else ""
    others = tr("tiến trình khác", "others")
    return (
        f"{level_name(sample.level)}, {sample.target} {sample.repetition}/{repetitions}: "
        f"{load.throughput_per_s:,.0f}/s, {latency}{errors} ({others} {sample.others_share:.0%})"
    )


def speed_table(samples: Sequence[Sample]) -> str:
    """Every level and target. The ratio is full/floor: of throughput in a closed loop, of p99 in an open one."""
    head = [tr("tải", "load"), tr("đường đi", "path"), tr("trả lời/giây", "answers/s")]
    head += ["p50 ms", "p95 ms", "p99 ms", tr("lỗi", "errors"), tr("tỉ lệ", "ratio")]
    rows = [head]
    for level in LEVELS:
        for target in _targets(samples):
            row = row_of(samples, level, target)
            if row is None:
                continue
            times = [f"{value:.1f}" if value is not None else "–" for value in (row.p50_ms, row.p95_ms, row.p99_ms)]
            rate = f"{row.throughput_per_s:,.0f}" + ("" if row.kept_up else tr(" (không kịp)", " (fell behind)"))
            rows.append([level_name(level), target, rate, *times, str(row.errors), _ratio_cell(samples, level, target)])
    return markdown(rows)


def _ratio_cell(samples: Sequence[Sample], level: Level, target: str) -> str:
    if target != FULL:
        return ""
    by_rate = level.rate_per_s is None
    ratio = throughput_ratio(samples, level) if by_rate else p99_ratio(samples, level)
    return "–" if ratio is None else f"{ratio:.2f}" + ("" if by_rate else " (p99)")


def cost_table(samples: Sequence[Sample]) -> str:
    """Processor time in µs per answer, by process, medians over the repetitions."""
    names = list(dict.fromkeys(name for sample in samples for name in sample.processor_us))
    rows = [[tr("tải", "load"), tr("đường đi", "path"), *names]]
    for level in LEVELS:
        for target in _targets(samples):
            chosen = [sample.processor_us for sample in samples if sample.level == level and sample.target == target]
            if chosen:
                cells = [f"{median([used.get(name, 0.0) for used in chosen]):.0f}" for name in names]
                rows.append([level_name(level), target, *cells])
    return markdown(rows)


def last_lines(samples: Sequence[Sample]) -> list[str]:
    """The goals' figures; the last is `P1 ratio=…`. None of them where a target is missing.

    Before it, how far the single pairs of runs lie apart: what is wider than the step one wants to see was too noisy.
    """
    lines = []
    if (p3 := p99_ratio(samples, OPEN_1000)) is not None:
        lines.append(f"P3 p99 ratio={p3:.2f}")
    if (p1 := throughput_ratio(samples, CLOSED_64)) is not None:
        pairs = pair_ratios(samples, CLOSED_64)
        lines.append(f"P1 pairs={pairs[0]:.2f}..{pairs[-1]:.2f} ({len(pairs)})")
        lines.append(f"P1 ratio={p1:.2f}")
    return lines


def _targets(samples: Sequence[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.target for sample in samples))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The first of `rows` is the head; the first two columns are texts, the others figures."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        words = [
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "| " + " | ".join(words) + " |"

    rule = ["-" * width if place < 2 else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
    return "\n".join([line(rows[0]), line(rule), *(line(row) for row in rows[1:])])
