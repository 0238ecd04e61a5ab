"""`python -m adapters.g12_enterprise.registry_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g12_enterprise.registry_server.data import enterprises
from adapters.g12_enterprise.registry_server.desk import STATE_PATH, Desk
from adapters.rest_server.program import run


def main() -> None:
    desk = Desk(enterprises())
    run(
        "registry_server",
        desk.answer,
        client_id="nen-tang-tich-hop",
        subjects=len(desk.records),
        open_paths=frozenset((STATE_PATH,)),
    )


if __name__ == "__main__":
    main()
