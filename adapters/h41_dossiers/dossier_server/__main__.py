"""`python -m adapters.h41_dossiers.dossier_server --ready-file PATH`."""

from __future__ import annotations

from adapters.h41_dossiers.dossier_server.desk import STATE_PATH, Desk
from adapters.h41_dossiers.dossier_server.dossiers import dossiers
from adapters.rest_server.program import run


def main() -> None:
    desk = Desk(dossiers())
    run(
        "dossier_server",
        desk.answer,
        client_id="nen-tang-tich-hop",
        subjects=len(desk.dossiers),
        open_paths=frozenset((STATE_PATH,)),
    )


if __name__ == "__main__":
    main()
