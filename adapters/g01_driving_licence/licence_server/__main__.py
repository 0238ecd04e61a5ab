"""`python -m adapters.g01_driving_licence.licence_server --ready-file PATH`."""

from __future__ import annotations

from pathlib import Path

from adapters.g01_driving_licence.licence_server.desk import Desk
from adapters.g01_driving_licence.licence_server.licences import licences
from adapters.soap_server.messages import Contract
from adapters.soap_server.program import run

FOLDER = Path(__file__).parents[1]


def main() -> None:
    desk = Desk(licences())
    run(
        "licence_server",
        Contract(FOLDER / "giay-phep-lai-xe.wsdl", FOLDER / "giay-phep-lai-xe.xsd"),
        desk.work(),
        username="nen-tang-tich-hop",
        digest=False,
        subjects=len(desk.licences),
    )


if __name__ == "__main__":
    main()
