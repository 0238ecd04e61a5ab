"""`python -m adapters.h41_dossiers.dossier_server --ready-file PATH`."""

from __future__ import annotations

from adapters.h41_dossiers.dossier_server.desk import STATE_PATH, Desk
from adapters.h41_dossiers.dossier_server.dossiers import dossiers
from adapters.rest_server.program import Rest
from adapters.rest_server.server import Answering
from adapters.stand_in.program import run


def make() -> tuple[Answering, int]:
    desk = Desk(dossiers())
    return desk.answer, len(desk.dossiers)


SYSTEM = Rest("dossier_server", make, frozenset((STATE_PATH,)))

if __name__ == "__main__":
    run(SYSTEM)
