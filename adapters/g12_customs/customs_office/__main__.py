"""`python -m adapters.g12_customs.customs_office --ready-file PATH [--folder PATH]`."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from adapters.g12_customs.customs_office.declarations import batches
from adapters.g12_customs.customs_office.office import Office
from adapters.stand_in.program import Opened, ending, tell

LOOK_EVERY_S = 0.1


class Customs:
    """The office over a folder, as a system among others."""

    def beside(self, ready_file: Path) -> Opened:
        return self.open(ready_file.with_suffix(".d"))

    def open(self, folder: Path) -> Opened:
        office, closed = Office(folder), threading.Event()

        def load() -> int:
            office.lay_batches()
            return sum(map(len, batches().values()))

        def look() -> None:
            while not closed.wait(LOOK_EVERY_S):
                office.look()

        looking = threading.Thread(target=look, daemon=True)
        looking.start()

        def close() -> None:
            closed.set()
            looking.join()

        return Opened({"folder": str(folder.absolute())}, load, close)


SYSTEM = Customs()


def main() -> None:
    parser = argparse.ArgumentParser(prog="customs_office", description="Stand-in for the customs office, in a folder")
    parser.add_argument("--folder", type=Path, help="the folder; beside the ready file where none is named")
    parser.add_argument("--ready-file", type=Path, help="file to write the JSON line to as well")
    options = parser.parse_args()
    if options.folder is None and options.ready_file is None:
        parser.error("--folder or --ready-file is needed")
    ended = ending()
    opened = SYSTEM.open(options.folder) if options.folder else SYSTEM.beside(options.ready_file)
    tell(opened.told | {"subjects": opened.load()}, options.ready_file)
    ended.wait()
    opened.close()


if __name__ == "__main__":
    main()
