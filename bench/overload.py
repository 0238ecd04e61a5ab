"""`python -m bench overload`: five times the load that the gateway can carry, over real PostgreSQL and Kafka.

First its best in a closed loop, then an open loop at five times that rate. Told: how much of its best it still answers
(goodput), how fast it refuses the rest, how long the accepted take, whether it is as good as before afterwards, and how
another client fares meanwhile that makes a few calls a second.
Refusals and accepted are timed from the sending: an open loop without a free connection waits in the generator.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.figures import LoadResult, median
from bench.full.target import full_path
from bench.machine import ProcessorTimes, commit, machine
from bench.measure import CLOSED_64, CLOSED_256, Level, LoadError, run_load_process
from ngsp.local.process import LocalServerError
from ngsp.text import tr

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMES = 5
CONNECTIONS = 768
"""More than a gateway lets in at once: each connection has one request outstanding."""
REFUSALS = frozenset(("429", "503"))
WARMUP_S = 1.0
ASIDE = Level(8, 40)
"""What another client sends meanwhile."""


@dataclass(frozen=True, slots=True)
class Run:
    """The runs of one measurement, `window_s` each, `repetitions` of each kind."""

    best: list[LoadResult]
    overloaded: list[LoadResult]
    afterwards: LoadResult
    aside: list[LoadResult] = field(default_factory=list)

    @property
    def best_per_s(self) -> float:
        return max(result.goodput_per_s for result in self.best)

    @property
    def goodput(self) -> float:
        return median([result.goodput_per_s for result in self.overloaded]) / self.best_per_s

    @property
    def refusal_p99_ms(self) -> float | None:
        found = [result.refusal_latency.p99_ms for result in self.overloaded if result.refusal_latency]
        return median(found) if found else None

    @property
    def faults(self) -> list[str]:
        """What may not happen, however much comes."""
        found = [result.errors.example or "?" for result in (*self.best, self.afterwards) if result.errors.total]
        for result in self.overloaded:
            others = result.errors.refused.keys() - REFUSALS
            if others or result.errors.broken or result.errors.unanswered:
                found.append(f"{sorted(others)}, broken {result.errors.broken}, open {result.errors.unanswered}")
        return found


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass(frozen=True, slots=True)
class Effort:
    """`times`: the offered rate as a multiple of the best; `connections` to offer it over."""

    window_s: float
    repetitions: int
    warmup_s: float
    times: float
    connections: int


async def measure(effort: Effort) -> Run:
    """Starts the servers and the gateway, measures, and puts everything away again."""
    async with full_path(say) as (target, servers):

        async def run(level: Level) -> LoadResult:
            request, processes = await target.request(), {**target.processes(), **servers}
            before = ProcessorTimes.now(processes)
            result = await run_load_process(*request, level, effort.window_s, WARMUP_S)
            after = ProcessorTimes.now(processes)
            used_s = after.of_since(before) | {"load": result.cpu_s}
            cores = ", ".join(f"{name} {seconds / (after.at_s - before.at_s):.2f}" for name, seconds in used_s.items())
            rate = f" {level.rate_per_s:,.0f}/s" if level.rate_per_s else ""
            say(f"{level.connections}{rate}: {told(result)}")
            say(
                tr(f"  lõi xử lý: {cores}; khác", f"  cores: {cores}; others")
                + f" {after.others_share_since(before):.0%}"
            )
            return result

        await run_load_process(*await target.request(), CLOSED_64, effort.warmup_s, 0.0)
        best = [await run(level) for _ in range(effort.repetitions) for level in (CLOSED_64, CLOSED_256)]
        flood = Level(effort.connections, effort.times * max(result.goodput_per_s for result in best))
        pairs = []
        for _ in range(effort.repetitions):
            port, plan = await target.request("aside")
            other = run_load_process(port, plan, ASIDE, effort.window_s, WARMUP_S)
            pairs.append(await asyncio.gather(run(flood), other))
        overloaded, aside = ([pair[which] for pair in pairs] for which in (0, 1))
        return Run(best, overloaded, await run(CLOSED_256), aside)


def told(result: LoadResult) -> str:
    served, refused = result.served_latency, result.refusal_latency
    text = tr(f"{result.goodput_per_s:,.0f} trả lời/s", f"{result.goodput_per_s:,.0f} answers/s")
    if served:
        text += f" p50 {served.p50_ms:.0f} ms p99 {served.p99_ms:.0f} ms"
    if refused:
        refusals = ", ".join(f"{count:,} × {status}" for status, count in sorted(result.errors.refused.items()))
        text += tr("; từ chối ", "; refused ") + f"{refusals} p50 {refused.p50_ms:.1f} ms p99 {refused.p99_ms:.1f} ms"
        text += tr(", lâu nhất ", ", longest ") + f"{refused.max_ms:.0f} ms"
    return text


def report(run: Run, times: float) -> None:
    print(f"{tr('bản', 'commit')} {commit()}; {machine()}")
    print(tr("tốt nhất", "best"), f"{run.best_per_s:,.0f}/s;", tr("gửi đến", "offered"), f"{times:g}×")
    for result in run.overloaded:
        print(" ", told(result))
    for result in run.aside:
        print(tr("  hệ thống khác", "  another client"), told(result))
    print(tr("sau đó", "afterwards"), told(run.afterwards))
    for fault in run.faults:
        print(tr("Lỗi:", "A fault:"), fault)
    p99 = f"{run.refusal_p99_ms:.1f}" if run.refusal_p99_ms is not None else "-"
    print(f"S7 goodput={run.goodput:.2f} refusal_p99_ms={p99}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: measured; 1: answers that overload does not excuse; 2: could not run."""
    parser = argparse.ArgumentParser(prog="python -m bench overload", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=tr("ngắn và thô", "short and rough"))
    parser.add_argument("--times", type=float, default=TIMES, help=tr("gấp mấy lần", "times its best"))
    parser.add_argument("--connections", type=int, default=CONNECTIONS, help=tr("số kết nối", "how many to send over"))
    chosen = parser.parse_args(arguments)
    try:
        length = (3.0, 1, 8.0) if chosen.quick else (6.0, 3, 20.0)
        run = asyncio.run(measure(Effort(*length, chosen.times, chosen.connections)))
    except (LoadError, LocalServerError) as error:
        say(str(error))
        return 2
    report(run, chosen.times)
    return 1 if run.faults else 0
