"""`python -m bench`: the floor and the full path over the same PostgreSQL and Kafka, in one run, and their ratio.

`python -m bench adapters`, `compatible`, `events`, `overload`, `slow`: see the modules of these names.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from bench.child import ChildError
from bench.floor.target import FloorTarget
from bench.machine import commit, machine, postgres_version
from bench.measure import Effort, LoadError, Sample, measure
from bench.report import FLOOR, FULL, cost_table, last_lines, progress, speed_table
from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from ngsp.local.process import LocalServerError
from ngsp.text import tr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.target import Target

OTHERS = {
    "adapters": "bench.adapters.__main__",
    "compatible": "bench.compatible",
    "events": "bench.events",
    "overload": "bench.overload",
    "slow": "bench.slow",
}
"""What else is measured, and where its `main` is."""
QUICK = Effort(window_s=2.0, warmup_s=0.5, repetitions=3, first_warmup_s=10.0)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def all_targets() -> list[Target]:
    targets: list[Target] = [FloorTarget()]
    if importlib.util.find_spec("bench.full") is not None:
        targets.append(importlib.import_module("bench.full").FullTarget())
    return targets


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=tr("ngắn và thô", "short and rough"))
    parser.add_argument("--only", choices=[FLOOR, FULL], help=tr("chỉ đo một đường đi", "measure one path alone"))
    parser.add_argument(
        "--seconds", type=float, metavar="N", help=tr("độ dài mỗi lần đo, giây", "length of each measured window")
    )
    return parser.parse_args(arguments)


def effort_of(chosen: argparse.Namespace) -> Effort:
    effort = QUICK if chosen.quick else Effort()
    if chosen.seconds is None:
        return effort
    return Effort(chosen.seconds, effort.warmup_s, effort.repetitions, effort.first_warmup_s)


async def bench(targets: Sequence[Target], effort: Effort, folder: Path) -> tuple[str, list[Sample]]:
    """Starts the servers and the targets, measures, and puts everything away again, whatever happens."""
    this_task = asyncio.current_task()
    assert this_task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this_task.cancel)
    samples: list[Sample] = []
    postgres, kafka = LocalPostgres(folder, say), LocalKafka(folder, say)
    async with AsyncExitStack() as stack:
        await postgres.start()
        stack.push_async_callback(postgres.remove)
        await kafka.start()
        stack.push_async_callback(kafka.remove)
        assert postgres.pid is not None
        assert kafka.pid is not None
        for target in targets:
            stack.push_async_callback(target.stop)
            await target.start(postgres, kafka)
        async for sample in measure(targets, {"kafka": kafka.pid, "postgres": postgres.pid}, effort):
            samples.append(sample)
            say(progress(sample, effort.repetitions))
        return await postgres_version(postgres), samples


def report(samples: Sequence[Sample], database: str, effort: Effort) -> None:
    others = max(sample.others_share for sample in samples)
    print(f"{tr('bản', 'commit')} {commit()}; {machine()}, {database}")
    print(
        tr(
            f"{effort.repetitions} lần {effort.window_s:g} giây mỗi mức, trung vị; "
            f"tiến trình khác chiếm tới {others:.0%} máy",
            f"{effort.repetitions} runs of {effort.window_s:g} s a level, medians; others took up to {others:.0%} "
            "of the machine",
        )
    )
    print(f"\n{speed_table(samples)}\n")
    print(tr("Thời gian bộ xử lý, µs mỗi trả lời:", "Processor time, µs per answer:"))
    print(f"\n{cost_table(samples)}\n")
    for sample in samples:
        if sample.load.errors.example is not None:
            print(tr("Một lỗi:", "An error:"), sample.target, repr(sample.load.errors.example))
            break


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: measured without an error; 1: an answer was not 2xx, or a path is missing; 2: could not run."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in OTHERS:
        status: int = importlib.import_module(OTHERS[given[0]]).main(given[1:])
        return status
    chosen = read_arguments(given)
    effort = effort_of(chosen)
    targets = [target for target in all_targets() if chosen.only in (None, target.name)]
    if not targets:
        say(tr("Đường đi này chưa có.", "There is no such path yet."))
        return 2
    folder = Path(tempfile.mkdtemp(prefix="ngsp-bench-"))
    try:
        database, samples = asyncio.run(bench(targets, effort, folder))
    except (ChildError, LoadError, LocalServerError) as error:
        say(str(error))
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        say(tr("Bị dừng giữa chừng.", "Stopped before the end."))
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report(samples, database, effort)
    failed = any(sample.load.errors.total for sample in samples)
    if chosen.only is None and len(targets) < 2:
        say(tr("Chưa có đường đi đầy đủ, nên không có tỉ lệ P1.", "There is no full path yet, so no P1 ratio."))
        return 1
    for line in last_lines(samples):
        print(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
