"""`python -m adapters.g12_tax.tax_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g12_tax.tax_server.ledger import STATE_PATH, Ledger
from adapters.rest_server.program import run


def main() -> None:
    ledger = Ledger()
    run(
        "tax_server",
        ledger.answer,
        client_id="nen-tang-tich-hop",
        subjects=ledger.payers,
        open_paths=frozenset((STATE_PATH,)),
    )


if __name__ == "__main__":
    main()
