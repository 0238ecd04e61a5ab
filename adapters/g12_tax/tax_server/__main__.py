"""`python -m adapters.g12_tax.tax_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g12_tax.tax_server.ledger import STATE_PATH, Ledger
from adapters.rest_server.program import Rest
from adapters.rest_server.server import Answering
from adapters.stand_in.program import run


def make() -> tuple[Answering, int]:
    ledger = Ledger()
    return ledger.answer, ledger.payers


SYSTEM = Rest("tax_server", make, frozenset((STATE_PATH,)))

if __name__ == "__main__":
    run(SYSTEM)
