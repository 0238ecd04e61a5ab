"""`python -m adapters.g24_insurance.insurance_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g24_insurance.insurance_server.cards import holders
from adapters.g24_insurance.insurance_server.desk import STATE_PATH, Desk
from adapters.rest_server.program import run


def main() -> None:
    desk = Desk(holders())
    run(
        "insurance_server",
        desk.answer,
        client_id="nen-tang-tich-hop",
        subjects=len(desk.holders),
        open_paths=frozenset((STATE_PATH,)),
    )


if __name__ == "__main__":
    main()
