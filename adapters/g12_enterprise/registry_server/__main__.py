"""`python -m adapters.g12_enterprise.registry_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g12_enterprise.registry_server.data import enterprises
from adapters.g12_enterprise.registry_server.desk import STATE_PATH, Desk
from adapters.rest_server.program import Rest
from adapters.rest_server.server import Answering
from adapters.stand_in.program import run


def make() -> tuple[Answering, int]:
    desk = Desk(enterprises())
    return desk.answer, len(desk.records)


SYSTEM = Rest("registry_server", make, frozenset((STATE_PATH,)))

if __name__ == "__main__":
    run(SYSTEM)
