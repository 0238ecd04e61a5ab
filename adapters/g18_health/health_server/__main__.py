"""`python -m adapters.g18_health.health_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g18_health.health_server.archive import STATE_PATH, Archive
from adapters.rest_server.program import run


def main() -> None:
    archive = Archive()
    run(
        "health_server",
        archive.answer,
        client_id="nen-tang-tich-hop",
        subjects=archive.papers,
        open_paths=frozenset((STATE_PATH,)),
    )


if __name__ == "__main__":
    main()
