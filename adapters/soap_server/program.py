"""A SOAP stand-in as a program."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.soap_server.messages import Contract
from adapters.soap_server.security import Account, Guard
from adapters.soap_server.server import SoapServer, Work
from adapters.stand_in.program import ending, read_options, secret_in, tell


def run(name: str, contract: Contract, work: Mapping[str, Work], *, username: str, digest: bool, subjects: int) -> None:
    """Serves until it is told to end."""
    options = read_options(name, SoapServer.faults, "password")
    ended = ending()
    guard = Guard(Account(username, secret_in(options.secret_file), digest))
    server = SoapServer(contract, guard, work, options.port, options.control_port)
    server.switch(options.fault, options.delay_s)
    tell(
        {
            "url": server.url,
            "control_url": server.control_url,
            "subjects": subjects,
            "username": username,
            "password_file": str(options.secret_file.absolute()),
        },
        options.ready_file,
    )
    ended.wait()
    server.close()
