"""`python -m adapters.g15_civil_registry.civil_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g15_civil_registry.civil_server.desk import STATE_PATH, Desk
from adapters.g15_civil_registry.civil_server.register import Register
from adapters.rest_server.program import Rest
from adapters.rest_server.server import Answering
from adapters.stand_in.program import run


def make() -> tuple[Answering, int]:
    register = Register()
    return Desk(register).answer, len(register.by_person)


SYSTEM = Rest("civil_server", make, frozenset((STATE_PATH,)))

if __name__ == "__main__":
    run(SYSTEM)
