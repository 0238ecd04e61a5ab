"""`python -m adapters.g15_civil_registry.civil_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g15_civil_registry.civil_server.desk import STATE_PATH, Desk
from adapters.g15_civil_registry.civil_server.register import Register
from adapters.rest_server.program import run


def main() -> None:
    register = Register()
    run(
        "civil_server",
        Desk(register).answer,
        client_id="nen-tang-tich-hop",
        subjects=len(register.by_person),
        open_paths=frozenset((STATE_PATH,)),
    )


if __name__ == "__main__":
    main()
