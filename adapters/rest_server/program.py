"""A REST stand-in as a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from adapters.rest_server.server import Answering, RestServer
from adapters.rest_server.tokens import Client
from adapters.stand_in.program import Once, Opened, Options, System, secret_in

CLIENT_ID = "nen-tang-tich-hop"


@dataclass(frozen=True)
class Rest(System):
    """`make`: what answers, and how many records there are. `open_paths`: asked without a token. `kept`: ending of the
    file beside the secret in which it keeps what it was told; `make` is given its path then."""

    name: str
    make: Callable[..., tuple[Answering, int]]
    open_paths: frozenset[str]
    kept: str = ""
    faults: ClassVar = RestServer.faults
    suffix: ClassVar = "secret"

    def open(self, options: Options) -> Opened:
        made = Once(partial(self.make, options.secret_file.with_suffix(self.kept)) if self.kept else self.make)
        server = RestServer(
            lambda: made()[0],
            Client(CLIENT_ID, secret_in(options.secret_file)),
            options.port,
            options.control_port,
            self.open_paths,
        )
        server.switch(options.fault, options.delay_s)
        told = {
            "url": server.url,
            "control_url": server.control_url,
            "client_id": CLIENT_ID,
            "secret_file": str(options.secret_file.absolute()),
        }
        return Opened(told, lambda: made()[1], server.close)
