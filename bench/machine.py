"""The machine and the commit a figure was taken on, and how much of the processor was ours while it was taken."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ngsp.local.postgres import LocalPostgres

ROOT = Path(__file__).parents[1]


def commit() -> str:
    """The commit's short id, `+changes` behind it where tracked files differ from it; `unknown` outside of git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+changes" if changed else head


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def machine() -> str:
    """One line: processor, cores, memory, kernel, Python."""
    memory_gib = psutil.virtual_memory().total / 2**30
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {memory_gib:.0f} GiB, "
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


async def postgres_version(postgres: LocalPostgres) -> str:
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        return f"PostgreSQL {await connection.fetchval('SHOW server_version')}"
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class ProcessorTimes:
    """Seconds of processor time since boot, to be subtracted from a later reading.

    `ours_s`: this process and all below it, ended ones included; `busy_s`: everybody, time stolen by the host included;
    `of_s`: the processes asked for, each with those below it, by their name.
    """

    at_s: float
    ours_s: float
    busy_s: float
    of_s: Mapping[str, float]

    @classmethod
    def now(cls, processes: Mapping[str, int]) -> ProcessorTimes:
        system = psutil.cpu_times()
        return cls(
            at_s=time.monotonic(),
            ours_s=_used_s(os.getpid()),
            busy_s=system.user + system.nice + system.system + system.irq + system.softirq + system.steal,
            of_s={name: _used_s(pid) for name, pid in processes.items()},
        )

    def others_share_since(self, earlier: ProcessorTimes) -> float:
        """The part of the whole machine that was busy for others, from 0 to 1."""
        capacity_s = (self.at_s - earlier.at_s) * (psutil.cpu_count() or 1)
        others_s = (self.busy_s - earlier.busy_s) - (self.ours_s - earlier.ours_s)
        return min(max(others_s / capacity_s, 0.0), 1.0)

    def of_since(self, earlier: ProcessorTimes) -> dict[str, float]:
        return {name: used_s - earlier.of_s[name] for name, used_s in self.of_s.items()}


def _used_s(pid: int) -> float:
    """The process, those below it, and those below it that have ended and been waited for."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_own_and_ended_s(process) for process in family)


def _own_and_ended_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0  # it ended meanwhile: then its parent has its time among its children's
    return times.user + times.system + times.children_user + times.children_system
