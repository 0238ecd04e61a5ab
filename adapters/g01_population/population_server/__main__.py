"""`python -m adapters.g01_population.population_server --ready-file PATH`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adapters.g01_population.citizens import communes, population
from adapters.g01_population.population_server.desk import Desk
from adapters.soap_server.program import Soap
from adapters.soap_server.server import Work
from adapters.stand_in.program import run

FOLDER = Path(__file__).parents[1]


def make() -> tuple[Mapping[str, Work], int]:
    desk = Desk(population(), communes())
    return desk.work(), len(desk.citizens)


SYSTEM = Soap("population_server", FOLDER / "dan-cu.wsdl", FOLDER / "dan-cu.xsd", make, digest=True)

if __name__ == "__main__":
    run(SYSTEM)
