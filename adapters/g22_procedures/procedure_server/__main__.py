"""`python -m adapters.g22_procedures.procedure_server --ready-file PATH`."""

from __future__ import annotations

from pathlib import Path

from adapters.g22_procedures.procedure_server.catalogue import STATE_PATH, Catalogue
from adapters.rest_server.program import Rest
from adapters.rest_server.server import Answering
from adapters.stand_in.program import run


def make(kept: Path) -> tuple[Answering, int]:
    catalogue = Catalogue(kept=kept)
    return catalogue.answer, sum(len(versions) for versions in catalogue.procedures.values())


SYSTEM = Rest("procedure_server", make, frozenset((STATE_PATH,)), kept=".jsonl")

if __name__ == "__main__":
    run(SYSTEM)
