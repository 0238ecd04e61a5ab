"""`python -m bench adapters [PART …] [--quick]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

import uvloop

from bench.adapters import mapping, rest, runner, soap
from bench.child import ChildError
from bench.machine import commit, machine
from ngsp.text import tr

PARTS: dict[str, Callable[[bool], list[str]]] = {
    "runner": lambda quick: uvloop.run(runner.measure(quick)),
    "rest": lambda quick: uvloop.run(rest.measure(quick)),
    "soap": lambda quick: uvloop.run(soap.measure(quick)),
    "mapping": mapping.measure,
}
"""Each measures for as long as it takes (shortly, if quick) and returns its lines of the report."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0: measured; 2: could not run."""
    parser = argparse.ArgumentParser(prog="python -m bench adapters", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help=tr("ngắn và thô", "short and rough"))
    chosen = parser.parse_args(arguments)
    print(f"{tr('bản', 'commit')} {commit()}; {machine()}")
    for name in chosen.parts or PARTS:
        try:
            lines = PARTS[name](chosen.quick)
        except ChildError as error:
            print(error, file=sys.stderr)
            return 2
        print("\n" + "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
