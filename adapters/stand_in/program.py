"""The command line of a stand-in.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def read_options(name: str, faults: Sequence[str], secret: str) -> argparse.Namespace:
    """`secret`: what the file is called that holds it, `password` or `secret`; it stands in `options.secret_file`."""
    parser = argparse.ArgumentParser(prog=name, description="Stand-in for a provider's system, on loopback")
    parser.add_argument("--port", type=int, default=0, help="port of the system; 0 takes a free one")
    parser.add_argument("--control-port", type=int, help="port of the fault switches; 0 takes a free one; none without")
    parser.add_argument("--fault", choices=faults, default="none", help="fault to begin with")
    parser.add_argument("--delay-s", type=float, default=1.0, help="delay of the fault slow, in seconds")
    parser.add_argument("--ready-file", type=Path, help="file to write the JSON line to as well")
    parser.add_argument(
        f"--{secret}-file", type=Path, dest="secret_file", help=f"file with the {secret}; made where it is missing"
    )
    options = parser.parse_args()
    if options.secret_file is None:
        if options.ready_file is None:
            parser.error(f"--{secret}-file or --ready-file is needed: the {secret} stands beside")
        options.secret_file = options.ready_file.with_suffix(f".{secret}")
    return options


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
