"""A figure of a part, and how a part is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.report import markdown
from ngsp.text import tr


@dataclass(frozen=True, slots=True)
class Figure:
    """The medians of one subject's runs. `per_s` None: it was measured in processor time alone."""

    name: str
    cpu_us: float
    per_s: float | None = None


def table(figures: Sequence[Figure]) -> str:
    """Each next to the first, which is the reference: how many times its processor time it takes."""
    reference = figures[0]
    rows = [[tr("đo", "measured"), tr("lần/giây", "calls/s"), "CPU µs", tr("so với dòng đầu", "to the first")]]
    for figure in figures:
        rate = "–" if figure.per_s is None else f"{figure.per_s:,.0f}"
        ratio = f"{figure.cpu_us / reference.cpu_us:.2f}"
        rows.append([figure.name, rate, f"{figure.cpu_us:.1f}", ratio])
    return markdown(rows)
