"""A REST stand-in as a program."""

from __future__ import annotations

from adapters.rest_server.server import Answering, RestServer
from adapters.rest_server.tokens import Client
from adapters.stand_in.program import ending, read_options, secret_in, tell


def run(name: str, answering: Answering, *, client_id: str, subjects: int, open_paths: frozenset[str]) -> None:
    """Serves until it is told to end. `subjects`: how many records there are."""
    options = read_options(name, RestServer.faults, "secret")
    ended = ending()
    client = Client(client_id, secret_in(options.secret_file))
    server = RestServer(answering, client, options.port, options.control_port, open_paths)
    server.switch(options.fault, options.delay_s)
    tell(
        {
            "url": server.url,
            "control_url": server.control_url,
            "subjects": subjects,
            "client_id": client_id,
            "secret_file": str(options.secret_file.absolute()),
        },
        options.ready_file,
    )
    ended.wait()
    server.close()
