"""One measurement after the other, the targets in turn, so that a drift of the machine falls on all of them alike."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.figures import LoadResult
from bench.machine import ProcessorTimes
from ngsp.local.child import end_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from bench.plan import RequestPlan
    from bench.target import Target

LOAD_PROCESS_GRACE_S = 60.0


class LoadError(Exception):
    """The load generator could not do its work."""


@dataclass(frozen=True, slots=True)
class Level:
    """A closed loop of `connections`, or an open loop at `rate_per_s` over at most so many."""

    connections: int
    rate_per_s: float | None = None


CLOSED_16, CLOSED_64, CLOSED_256 = Level(16), Level(64), Level(256)
OPEN_1000 = Level(256, 1000)
LEVELS = (CLOSED_16, CLOSED_64, CLOSED_256, OPEN_1000)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often: each level is run `repetitions` times for each target.

    Many short windows rather than few long ones, so that what else the machine does falls on all targets alike.
    """

    window_s: float = 4.0
    warmup_s: float = 1.0
    repetitions: int = 6
    first_warmup_s: float = 20.0
    """Of each target, before anything is measured, at 64 connections: the broker compiles its byte code as it runs, and
    takes four times its later processor time in the first seconds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one target at one level.

    `processor_us`: processor time per answer, by process. `others_share`: the part of the machine that was busy with
    what is not the bench, from 0 to 1.
    """

    target: str
    level: Level
    repetition: int
    load: LoadResult
    processor_us: Mapping[str, float]
    others_share: float


async def measure(targets: Sequence[Target], servers: Mapping[str, int], effort: Effort) -> AsyncIterator[Sample]:
    """Yields a sample as each is taken. `servers`: process ids, by name, of what the targets share."""
    for target in targets:
        await run_load_process(*await target.request(), CLOSED_64, effort.first_warmup_s, 0.0)
    for level in LEVELS:
        for repetition in range(1, effort.repetitions + 1):
            for target in targets:
                yield await _sample(target, servers, level, repetition, effort)


async def _sample(target: Target, servers: Mapping[str, int], level: Level, repetition: int, effort: Effort) -> Sample:
    port, plan = await target.request()
    processes = {**target.processes(), **servers}
    before = ProcessorTimes.now(processes)
    load = await run_load_process(port, plan, level, effort.window_s, effort.warmup_s)
    after = ProcessorTimes.now(processes)
    used_s = {**after.of_since(before), "load": load.cpu_s}
    answers = max(load.answered_in_all, 1)
    return Sample(
        target=target.name,
        level=level,
        repetition=repetition,
        load=load,
        processor_us={name: seconds * 1e6 / answers for name, seconds in used_s.items()},
        others_share=after.others_share_since(before),
    )


async def run_load_process(port: int, plan: RequestPlan, level: Level, window_s: float, warmup_s: float) -> LoadResult:
    """One run of `python -m bench.load`. LoadError where it fails or does not end in time."""
    arguments = ["--port", str(port), "--connections", str(level.connections)]
    arguments += ["--duration", str(window_s), "--warmup", str(warmup_s)]
    if level.rate_per_s is not None:
        arguments += ["--rate", str(level.rate_per_s)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.load", *arguments, stdin=pipe, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(window_s + warmup_s + LOAD_PROCESS_GRACE_S):
            out, complaint = await process.communicate(plan.to_json().encode())
    except TimeoutError as error:
        raise LoadError("the load generator did not end") from error
    finally:
        await end_of(process, 0)
    if process.returncode:
        raise LoadError(complaint.decode(errors="replace").strip())
    return LoadResult.from_json(out.decode())
