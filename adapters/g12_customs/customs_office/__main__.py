"""`python -m adapters.g12_customs.customs_office --ready-file PATH [--folder PATH]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from adapters.g12_customs.customs_office.declarations import batches
from adapters.g12_customs.customs_office.office import Office
from adapters.stand_in.program import ending, tell

LOOK_EVERY_S = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(prog="customs_office", description="Stand-in for the customs office, in a folder")
    parser.add_argument("--folder", type=Path, help="the folder; beside the ready file where none is named")
    parser.add_argument("--ready-file", type=Path, help="file to write the JSON line to as well")
    options = parser.parse_args()
    folder = options.folder or (options.ready_file and options.ready_file.with_suffix(".d"))
    if folder is None:
        parser.error("--folder or --ready-file is needed")
    ended = ending()
    office = Office(folder)
    office.lay_batches()
    subjects = sum(map(len, batches().values()))
    tell({"folder": str(folder.absolute()), "subjects": subjects}, options.ready_file)
    while not ended.wait(LOOK_EVERY_S):
        office.look()


if __name__ == "__main__":
    main()
