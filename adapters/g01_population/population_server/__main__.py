"""`python -m adapters.g01_population.population_server --ready-file PATH`."""

from __future__ import annotations

from pathlib import Path

from adapters.g01_population.citizens import communes, population
from adapters.g01_population.population_server.desk import Desk
from adapters.soap_server.messages import Contract
from adapters.soap_server.program import run

FOLDER = Path(__file__).parents[1]


def main() -> None:
    desk = Desk(population(), communes())
    run(
        "population_server",
        Contract(FOLDER / "dan-cu.wsdl", FOLDER / "dan-cu.xsd"),
        desk.work(),
        username="nen-tang-tich-hop",
        digest=True,
        subjects=len(desk.citizens),
    )


if __name__ == "__main__":
    main()
