"""`python -m adapters.g18_health.health_server --ready-file PATH`."""

from __future__ import annotations

from adapters.g18_health.health_server.archive import STATE_PATH, Archive
from adapters.rest_server.program import Rest
from adapters.rest_server.server import Answering
from adapters.stand_in.program import run


def make() -> tuple[Answering, int]:
    archive = Archive()
    return archive.answer, archive.papers


SYSTEM = Rest("health_server", make, frozenset((STATE_PATH,)))

if __name__ == "__main__":
    run(SYSTEM)
