"""`python -m bench slow`: a thousand clients that send a byte a second, and what the others' calls take meanwhile.

Every second of them never ends its head, the others, with a token that is good, never their body. Whom the gateway cuts
off comes again at once. The same closed loop with and without them, in turn, over real PostgreSQL and Kafka.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import LoadResult, median
from bench.full.target import full_path
from bench.machine import commit, machine
from bench.measure import CLOSED_64, LoadError, run_load_process
from bench.overload import say, told
from ngsp.local.process import LocalServerError
from ngsp.text import tr

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bench.plan import RequestPlan

CLIENTS = 1_000
WARMUP_S = 1.0
FIRST_WARMUP_S = 15.0


@dataclass(frozen=True, slots=True)
class Effort:
    clients: int
    window_s: float
    repetitions: int


@dataclass
class Crowd:
    """Connections that are open, and how many were cut off so far."""

    open: int = 0
    cut_off: int = 0


def beginnings(plan: RequestPlan) -> tuple[bytes, bytes]:
    """What a slow client sends at once: a head without its end, and a head whose body is to come."""
    lines = [f"{plan.method} {plan.path} HTTP/1.1", "Host: gateway"]
    lines += [f"{name}: {value}" for name, value in plan.headers.items()]
    head = "\r\n".join(lines).encode()
    return head + b"\r\nX-Slow: ", head + b"\r\nContent-Length: 60000\r\n\r\n"


async def _dribble(port: int, beginning: bytes, crowd: Crowd) -> None:
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        crowd.open += 1
        ended = asyncio.create_task(reader.read())
        try:
            writer.write(beginning)
            while not ended.done():
                await asyncio.wait((ended,), timeout=1.0)
                writer.write(b"a")
            crowd.cut_off += 1
        finally:
            crowd.open -= 1
            ended.cancel()
            writer.close()
            await asyncio.gather(ended, return_exceptions=True)


@asynccontextmanager
async def slow_clients(port: int, plan: RequestPlan, clients: int) -> AsyncIterator[Crowd]:
    crowd, both = Crowd(), beginnings(plan)
    tasks = [asyncio.create_task(_dribble(port, both[number % 2], crowd)) for number in range(clients)]
    try:
        while crowd.open < clients and not any(task.done() for task in tasks):
            await asyncio.sleep(0.05)
        yield crowd
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def measure(effort: Effort) -> tuple[list[LoadResult], list[LoadResult]]:
    """The runs without and with slow clients."""
    alone: list[LoadResult] = []
    beside: list[LoadResult] = []
    async with full_path(say) as (target, _):
        await run_load_process(*await target.request(), CLOSED_64, FIRST_WARMUP_S, 0.0)
        for _ in range(effort.repetitions):
            port, plan = await target.request()
            alone.append(await run_load_process(port, plan, CLOSED_64, effort.window_s, WARMUP_S))
            say(told(alone[-1]))
            async with slow_clients(port, plan, effort.clients) as crowd:
                beside.append(await run_load_process(port, plan, CLOSED_64, effort.window_s, WARMUP_S))
                say(f"{crowd.open:,} + {told(beside[-1])}; " + tr("bị ngắt", "cut off") + f" {crowd.cut_off:,}")
    return alone, beside


def report(alone: Sequence[LoadResult], beside: Sequence[LoadResult]) -> int:
    """Prints the figures; the exit status."""
    print(f"{tr('bản', 'commit')} {commit()}; {machine()}")
    p99_ms = [median([run.latency.p99_ms for run in runs if run.latency]) for runs in (alone, beside)]
    for name, runs in ((tr("không có", "without"), alone), (tr("có", "with"), beside)):
        for run in runs:
            print(f"  {name}: {told(run)}")
    print(f"S7 slow p99_ratio={p99_ms[1] / p99_ms[0]:.2f}")
    return 1 if any(run.errors.total for run in (*alone, *beside)) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: measured; 1: a call of the others was not answered 200; 2: could not run."""
    parser = argparse.ArgumentParser(prog="python -m bench slow", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=tr("ngắn và thô", "short and rough"))
    parser.add_argument("--clients", type=int, default=CLIENTS, help=tr("số hệ thống chậm", "how many are slow"))
    chosen = parser.parse_args(arguments)
    try:
        alone, beside = asyncio.run(measure(Effort(chosen.clients, *((2.0, 1) if chosen.quick else (15.0, 3)))))
    except (LoadError, LocalServerError) as error:
        say(str(error))
        return 2
    return report(alone, beside)
