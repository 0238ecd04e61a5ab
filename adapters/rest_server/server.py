"""JSON over HTTP, behind OAuth 2 client credentials.

    POST /token       with client credentials                  200 {"access_token": …, "expires_in": 3600, …}
    …                 with a token                             what the stand-in answers
                      without a good one                       401

`DELETE /tokens` on the control port: no token that was given out is good any more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from adapters.rest_server.tokens import Client, Tokens
from adapters.stand_in.server import Handler, Switch, SwitchedHandler, SwitchedServer

TOKEN_PATH = "/token"  # noqa: S105 - an address
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `query`: each name's first value. `other`: another record is to be answered (a fault)."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    other: bool = False

    def json(self) -> Any:
        """The body; ValueError where it is none."""
        return json.loads(self.body)


Answering = Callable[[Asked], tuple[int, object]]
"""Status and JSON document for a request that showed a good token."""


class RestServer(SwitchedServer):
    """`answering`: what the stand-in is, asked for with the first request. `open_paths`: asked without a token."""

    faults = (
        *SwitchedServer.faults,
        *("error", "overloaded", "html", "redirect", "huge", "broken", "other"),
    )
    """error: 500; overloaded: 503; html: a page with status 200; redirect: 302 to itself; huge: more than two
    megabytes; broken: half a JSON document; other: another record than was asked for."""

    def __init__(
        self,
        answering: Callable[[], Answering],
        client: Client,
        port: int = 0,
        control_port: int | None = None,
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        self.answering, self.tokens, self.open_paths = answering, Tokens(client), open_paths
        super().__init__(port, control_port)

    def state(self) -> dict[str, object]:
        return super().state() | {"tokens": self.tokens.given}

    def forget(self) -> None:
        self.tokens.forget()

    def handler(self) -> type[Handler]:
        return type("Rest", (_Rest,), {"server_of": self})


class _Rest(SwitchedHandler):
    server_of: RestServer  # type: ignore[misc]  # of this kind

    def _any(self) -> None:
        body = self.content()
        if body is None:
            return
        server, address = self.server_of, urlsplit(self.path)
        shown = self.headers.get("Authorization", "")
        if address.path == TOKEN_PATH and self.command == "POST":
            self.answer_json(*server.tokens.give(shown, body))
            return
        if address.path not in server.open_paths and not server.tokens.good(shown):
            self.answer_json(401, {"error": "invalid_token"})
            return
        server.asked()
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        switched = server.switched
        self._answer(Asked(self.command, address.path, query, headers, body, switched.kind == "other"), switched)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any

    def _answer(self, asked: Asked, switched: Switch) -> None:
        if self.held_up(switched):
            return
        if misbehave := _MISBEHAVIOUR.get(switched.kind):
            misbehave(self)
            return
        status, document = self.server_of.answering()(asked)
        if switched.kind == "cut":
            self.close_connection = True
        elif switched.kind == "trickle":
            self.trickle(switched, json.dumps(document).encode(), JSON)
        else:
            self.answer_json(status, document)


_PAGE = "<!DOCTYPE html><title>Bảo trì</title><p>Hệ thống đang bảo trì.".encode()
_MISBEHAVIOUR: dict[str, Callable[[Handler], None]] = {
    "error": lambda handler: handler.answer_json(500, {"KET_QUA": "LOI_HE_THONG"}),
    "overloaded": lambda handler: handler.answer_json(503, {"KET_QUA": "QUA_TAI"}),
    "html": lambda handler: handler.answer(200, _PAGE, "text/html; charset=utf-8"),
    "redirect": lambda handler: handler.answer(302, b"", JSON, Location="/"),
    "huge": lambda handler: handler.answer(200, b'{"KET_QUA": "' + b"O" * (2 << 20) + b'"}', JSON),
    "broken": lambda handler: handler.answer(200, b'{"KET_QUA": "OK", "DU_LIEU": {"MA_SO"', JSON),
}
