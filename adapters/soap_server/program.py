"""A SOAP stand-in as a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from adapters.soap_server.messages import Contract
from adapters.soap_server.security import Account, Guard
from adapters.soap_server.server import SoapServer, Work
from adapters.stand_in.program import Once, Opened, Options, System, secret_in

USERNAME = "nen-tang-tich-hop"


@dataclass(frozen=True)
class Soap(System):
    """`make`: what each operation of the WSDL does, and how many records there are. `digest`: see `Account`."""

    name: str
    wsdl: Path
    schema: Path
    make: Callable[[], tuple[Mapping[str, Work], int]]
    digest: bool
    faults: ClassVar = SoapServer.faults
    suffix: ClassVar = "password"

    def open(self, options: Options) -> Opened:
        made = Once(self.make)
        guard = Guard(Account(USERNAME, secret_in(options.secret_file), self.digest))
        contract = Contract(self.wsdl, self.schema)
        server = SoapServer(contract, guard, lambda: made()[0], options.port, options.control_port)
        server.switch(options.fault, options.delay_s)
        told = {
            "url": server.url,
            "control_url": server.control_url,
            "username": USERNAME,
            "password_file": str(options.secret_file.absolute()),
        }
        return Opened(told, lambda: made()[1], server.close)
