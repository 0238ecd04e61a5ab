"""Several databases filled by one process, one after the other; what their rows share is made once.

`python -m adapters.stand_in.databases MODULE=VARIABLE …`: MODULE is one that fills alone too, VARIABLE holds the URL.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
from importlib import import_module

from adapters.stand_in.database import fill


def main() -> None:
    parser = argparse.ArgumentParser(description="Fills the stand-ins that are databases")
    parser.add_argument("databases", nargs="+", metavar="MODULE=VARIABLE")
    gc.set_threshold(50_000, 20, 50)  # nearly all that is made stays
    for given in parser.parse_args().databases:
        module, _, variable = given.partition("=")
        asyncio.run(fill(import_module(f"{module}.data").FILLING, os.environ[variable]))


if __name__ == "__main__":
    main()
