"""`python -m adapters.g01_driving_licence.licence_server --ready-file PATH`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adapters.g01_driving_licence.licence_server.desk import Desk
from adapters.g01_driving_licence.licence_server.licences import licences
from adapters.soap_server.program import Soap
from adapters.soap_server.server import Work
from adapters.stand_in.program import run

FOLDER = Path(__file__).parents[1]


def make() -> tuple[Mapping[str, Work], int]:
    desk = Desk(licences())
    return desk.work(), len(desk.licences)


SYSTEM = Soap("licence_server", FOLDER / "giay-phep-lai-xe.wsdl", FOLDER / "giay-phep-lai-xe.xsd", make, digest=False)

if __name__ == "__main__":
    run(SYSTEM)
