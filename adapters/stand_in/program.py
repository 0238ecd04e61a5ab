"""A stand-in as a program, alone or with others in one process (`python -m adapters.stand_in`).

Each prints one JSON line when it serves, and ends with 0 on SIGTERM or SIGINT. Its secret is made anew where no file
has one yet: it is never the same on two machines.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Options:
    """How a system is opened. Port 0: a free one; `control_port` None: no switches; `delay_s`: of the fault slow."""

    secret_file: Path
    port: int = 0
    control_port: int | None = None
    fault: str = "none"
    delay_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Opened:
    """A system that listens. `told`: what its caller must know. `load` makes its records and tells how many there are:
    whoever asks before that waits for it."""

    told: dict[str, Any]
    load: Callable[[], int]
    close: Callable[[], None]


class System(ABC):
    """What a program runs. `suffix`: of the file that holds its secret, `password` or `secret`."""

    name: str
    faults: ClassVar[Sequence[str]]
    suffix: ClassVar[str]

    @abstractmethod
    def open(self, options: Options) -> Opened: ...

    def beside(self, ready_file: Path) -> Opened:
        """As it opens where nothing else is said: on a free port, its secret beside the ready file."""
        return self.open(Options(ready_file.with_suffix(f".{self.suffix}")))


class Once(Generic[_T]):
    """What takes a while to make: made by whoever asks first, and the others wait."""

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: list[_T] = []
        self._lock = threading.Lock()

    def __call__(self) -> _T:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


def run(system: System) -> None:
    """The command line of one system: serves until it is told to end."""
    options, ready_file = _options(system)
    ended = ending()
    opened = system.open(options)
    tell(opened.told | {"subjects": opened.load()}, ready_file)
    ended.wait()
    opened.close()


def _options(system: System) -> tuple[Options, Path | None]:
    parser = argparse.ArgumentParser(prog=system.name, description="Stand-in for a provider's system, on loopback")
    parser.add_argument("--port", type=int, default=0, help="port of the system; 0 takes a free one")
    parser.add_argument("--control-port", type=int, help="port of the fault switches; 0 takes a free one; none without")
    parser.add_argument("--fault", choices=system.faults, default="none", help="fault to begin with")
    parser.add_argument("--delay-s", type=float, default=1.0, help="delay of the fault slow, in seconds")
    parser.add_argument("--ready-file", type=Path, help="file to write the JSON line to as well")
    secret = system.suffix
    parser.add_argument(
        f"--{secret}-file", type=Path, dest="secret_file", help=f"file with the {secret}; made where it is missing"
    )
    given = parser.parse_args()
    if given.secret_file is None:
        if given.ready_file is None:
            parser.error(f"--{secret}-file or --ready-file is needed: the {secret} stands beside")
        given.secret_file = given.ready_file.with_suffix(f".{secret}")
    return Options(given.secret_file, given.port, given.control_port, given.fault, given.delay_s), given.ready_file


def secret_in(path: Path) -> str:
    """The secret that `path` holds; made at random, for its owner only, where there is none."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text("ascii").strip()
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_urlsafe(24))
    return path.read_text("ascii")


def ending() -> threading.Event:
    """Set when the process is asked to end."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    return ended


def tell(told: dict[str, Any], ready_file: Path | None) -> None:
    """The JSON line, on standard output and whole in the file."""
    line = json.dumps(told)
    if ready_file:
        unfinished = ready_file.with_suffix(".tmp")
        unfinished.write_text(line, "utf-8")
        unfinished.rename(ready_file)
    print(line, flush=True)
