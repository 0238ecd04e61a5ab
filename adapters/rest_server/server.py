"""JSON over HTTP/1.1, connections kept alive, and switches that make it misbehave.

    POST /token       with client credentials                  200 {"access_token": …, "expires_in": 3600, …}
    …                 with a token                             what the stand-in answers
                      without a good one                       401

The control interface, on a port of its own: `PUT /fault` with `{"kind": …, "delay_s": …}`, `DELETE /tokens`,
`GET /state`.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from adapters.rest_server.tokens import Client, Tokens

HOST = "127.0.0.1"
TOKEN_PATH = "/token"  # noqa: S105 - an address
LARGEST_REQUEST_BYTES = 4 << 20
LONGEST_HANG_S = 60.0
FAULTS = (
    *("none", "slow", "error", "overloaded", "html", "redirect", "huge", "broken", "other"),
    *("trickle", "hang", "cut", "down"),
)
"""slow: answers after the delay; error: 500; overloaded: 503; html: a page with status 200; redirect: 302 to itself;
huge: more than two megabytes; broken: half a JSON document; other: another record than was asked for; trickle: ten
bytes a second; hang: never answers; cut: does it, then hangs up without a word; down: nobody listens."""


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


@dataclass(frozen=True, slots=True)
class _Fault:
    kind: str = "none"
    delay_s: float = 1.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is no news; anything else is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class RestServer:
    """Serves from the moment it is made until `close`. `open_paths`: asked without a token. `control_port` None: no
    switches.
    """

    def __init__(
        self,
        answering: Answering,
        client: Client,
        port: int = 0,
        control_port: int | None = None,
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        self.answering, self.tokens, self.open_paths = answering, Tokens(client), open_paths
        self.requests = 0
        self.connections = 0
        self.fault = _Fault()
        self._changed = threading.Condition()
        self._server: _Server | None = self._serve(port, _handler(self))
        self._port = self._server.server_address[1]
        self._control = None if control_port is None else self._serve(control_port, _control_handler(self))
        self.url = f"http://{HOST}:{self._port}"
        self.control_url = f"http://{HOST}:{self._control.server_address[1]}" if self._control else None

    def _serve(self, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
        server = _Server((HOST, port), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    def switch(self, kind: str, delay_s: float = 1.0) -> None:
        """Begin to misbehave in this way, or to behave again. ValueError for an unknown kind."""
        if kind not in FAULTS or not 0 <= delay_s <= LONGEST_HANG_S:
            raise ValueError("unknown fault or delay")
        with self._changed:
            self.fault = _Fault(kind, delay_s)
            self._changed.notify_all()
            if kind == "down" and self._server:
                _stop(self._server)
                self._server = None
            elif kind != "down" and self._server is None:
                self._server = self._serve(self._port, _handler(self))

    def wait_for_change(self, fault: _Fault, timeout_s: float) -> None:
        """Until the fault is another one, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.fault is not fault, timeout_s)

    def count(self, *, requests: int = 0, connections: int = 0) -> None:
        with self._changed:
            self.requests += requests
            self.connections += connections

    def state(self) -> dict[str, object]:
        return {
            "fault": self.fault.kind,
            "requests": self.requests,
            "connections": self.connections,
            "tokens": self.tokens.given,
        }

    def close(self) -> None:
        for server in (self._server, self._control):
            if server:
                _stop(server)


def _stop(server: _Server) -> None:
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 75.0
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses asked for hold codes and numbers."""

    def answer(self, status: int, body: bytes, type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, status: int, document: object) -> None:
        self.answer(status, json.dumps(document, ensure_ascii=False).encode())

    def body(self) -> bytes | None:
        """The request's body; None, and answered, where it is too large or its length is not told."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > LARGEST_REQUEST_BYTES or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            self.answer_json(413, {"error": "too_large"})
            return None
        return self.rfile.read(int(length))


def _handler(server: RestServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        def setup(self) -> None:
            super().setup()
            server.count(connections=1)

        def _any(self) -> None:
            body = self.body()
            if body is None:
                return
            address = urlsplit(self.path)
            shown = self.headers.get("Authorization", "")
            if address.path == TOKEN_PATH and self.command == "POST":
                self.answer_json(*server.tokens.give(shown, body))
                return
            if address.path not in server.open_paths and not server.tokens.good(shown):
                self.answer_json(401, {"error": "invalid_token"})
                return
            server.count(requests=1)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            headers = {name.lower(): value for name, value in self.headers.items()}
            fault = server.fault
            self._answer(Asked(self.command, address.path, query, headers, body, fault.kind == "other"), fault)

        do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _any

        def _answer(self, asked: Asked, fault: _Fault) -> None:
            if fault.kind in ("hang", "down"):
                if fault.kind == "hang":
                    server.wait_for_change(fault, LONGEST_HANG_S)
                self.close_connection = True
                return
            if fault.kind == "slow":
                server.wait_for_change(fault, fault.delay_s)
            if fault.kind == "trickle":
                self._trickle(fault)
                return
            if misbehave := _MISBEHAVIOUR.get(fault.kind):
                misbehave(self)
                return
            status, document = server.answering(asked)
            if fault.kind == "cut":
                self.close_connection = True
                return
            self.answer_json(status, document)

        def _trickle(self, fault: _Fault) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while server.fault is fault:
                self.wfile.write(b" ")
                self.wfile.flush()
                server.wait_for_change(fault, 0.1)
            self.close_connection = True

    return Handler


_PAGE = "<!DOCTYPE html><title>Bảo trì</title><p>Hệ thống đang bảo trì.".encode()
_MISBEHAVIOUR: dict[str, Callable[[_Handler], None]] = {
    "error": lambda handler: handler.answer_json(500, {"KET_QUA": "LOI_HE_THONG"}),
    "overloaded": lambda handler: handler.answer_json(503, {"KET_QUA": "QUA_TAI"}),
    "html": lambda handler: handler.answer(200, _PAGE, "text/html; charset=utf-8"),
    "redirect": lambda handler: handler.answer(302, b"", Location="/"),
    "huge": lambda handler: handler.answer(200, b'{"KET_QUA": "' + b"O" * (2 << 20) + b'"}'),
    "broken": lambda handler: handler.answer(200, b'{"KET_QUA": "OK", "DU_LIEU": {"MA_SO"'),
}


def _control_handler(server: RestServer) -> type[BaseHTTPRequestHandler]:
    class Control(_Handler):
        def do_GET(self) -> None:
            self.answer_json(200, server.state())

        def do_PUT(self) -> None:
            try:
                asked = json.loads(self.body() or b"")
                server.switch(asked["kind"], float(asked.get("delay_s", 1.0)))
            except (KeyError, TypeError, ValueError):
                self.answer_json(400, {"faults": FAULTS})
                return
            self.answer_json(200, server.state())

        def do_DELETE(self) -> None:
            server.tokens.forget()
            self.answer_json(200, server.state())

    return Control
