"""`python -m adapters.g22_procedures.procedure_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g22_procedures.procedure_server.catalogue import STATE_PATH, Catalogue
from adapters.rest_server.program import run


def main() -> None:
    catalogue = Catalogue()
    run(
        "procedure_server",
        catalogue.answer,
        client_id="nen-tang-tich-hop",
        subjects=sum(len(versions) for versions in catalogue.procedures.values()),
        open_paths=frozenset((STATE_PATH,)),
    )


if __name__ == "__main__":
    main()
