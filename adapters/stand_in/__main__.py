"""Several stand-ins in one process, each with a port and a secret of its own; what many of them share is made once.

`python -m adapters.stand_in --folder PATH NAME=MODULE …`: MODULE is one that runs alone too. Each is told in
`PATH/NAME.json` as soon as it listens, and `PATH/systems.json` when all have their records: name → how many.
"""

from __future__ import annotations

import argparse
import gc
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

from adapters.stand_in.program import Opened, ending, tell

ALL = "systems.json"


def main() -> None:
    parser = argparse.ArgumentParser(prog="stand_in", description="Stand-ins for providers' systems, on loopback")
    parser.add_argument("--folder", type=Path, required=True, help="where what they tell and their secrets go")
    parser.add_argument("systems", nargs="+", metavar="NAME=MODULE", help="module: one whose __main__ has a SYSTEM")
    options = parser.parse_args()
    gc.set_threshold(50_000, 20, 50)  # nearly all that is made stays
    ended = ending()
    opened: dict[str, Opened] = {}
    with ExitStack() as stack:
        for given in options.systems:
            name, _, module = given.partition("=")
            ready_file = options.folder / f"{name}.json"
            opened[name] = import_module(f"{module}.__main__").SYSTEM.beside(ready_file)
            stack.callback(opened[name].close)
            tell(opened[name].told, ready_file)
        subjects = {}
        for name, system in opened.items():
            if ended.is_set():
                return
            subjects[name] = system.load()
        tell(subjects, options.folder / ALL)
        ended.wait()


if __name__ == "__main__":
    main()
