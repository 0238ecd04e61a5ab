"""`python -m adapters.g24_insurance.insurance_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g24_insurance.insurance_server.cards import holders
from adapters.g24_insurance.insurance_server.desk import STATE_PATH, Desk
from adapters.rest_server.program import Rest
from adapters.rest_server.server import Answering
from adapters.stand_in.program import run


def make() -> tuple[Answering, int]:
    desk = Desk(holders())
    return desk.answer, len(desk.holders)


SYSTEM = Rest("insurance_server", make, frozenset((STATE_PATH,)))

if __name__ == "__main__":
    run(SYSTEM)
