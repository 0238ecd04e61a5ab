"""SOAP 1.1 over HTTP/1.1, connections kept alive, and switches that make it misbehave.

    POST /            an envelope                      200 an envelope, or 500 with a soap:Fault
    GET  /?wsdl       the WSDL; `/NAME` the XSD that it names

The control interface, on a port of its own: `PUT /fault` with `{"kind": …, "delay_s": …}`, `GET /state`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from adapters.soap_server import bad
from adapters.soap_server.messages import SERVER, Call, Contract, Fault, parsed
from adapters.soap_server.security import Guard

HOST = "127.0.0.1"
LARGEST_REQUEST_BYTES = 1 << 20
LONGEST_HANG_S = 60.0
XML = "text/xml; charset=utf-8"

Work = Callable[[Call], Mapping[str, Any]]
"""An operation: what it answers, or Fault."""

FAULTS = (
    *("none", "slow", "hang", "down", "cut", "trickle", "clock", "busy", "error"),
    *bad.ANSWERS,
)
"""slow: answers after the delay; hang: never answers; down: nobody listens; cut: does it, then hangs up without a word;
trickle: a byte at a time; clock: its clock is an hour off; busy: the fault DANG_BAN; error: a fault of its own. The
others: see `bad.ANSWERS`."""


@dataclass(frozen=True, slots=True)
class _Switch:
    kind: str = "none"
    delay_s: float = 1.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is no news; anything else is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class SoapServer:
    """Serves from the moment it is made until `close`. `control_port` None: no switches."""

    def __init__(
        self,
        contract: Contract,
        guard: Guard,
        work: Mapping[str, Work],
        port: int = 0,
        control_port: int | None = None,
    ) -> None:
        self.contract, self._guard, self._work = contract, guard, work
        self.requests = 0
        self.connections = 0
        self.switched = _Switch()
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._server: _Server | None = self._serve(port, _soap_handler(self))
        self._port = self._server.server_address[1]
        self._control = None if control_port is None else self._serve(control_port, _control_handler(self))
        self.url = f"http://{HOST}:{self._port}"
        self.control_url = f"http://{HOST}:{self._control.server_address[1]}" if self._control else None

    def _serve(self, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
        server = _Server((HOST, port), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server

    def answer(self, content: bytes) -> tuple[int, bytes]:
        """Status and envelope for one request."""
        try:
            envelope = parsed(content)
            self._guard.check(envelope)
            call = self.contract.read(envelope)
            return 200, self.contract.reply(call.operation, self._work[call.operation](call))
        except Fault as fault:
            return 500, self.contract.fault(fault)

    def switch(self, kind: str, delay_s: float = 1.0) -> None:
        """Begin to misbehave in this way, or to behave again. ValueError for an unknown kind."""
        if kind not in FAULTS or not 0 <= delay_s <= LONGEST_HANG_S:
            raise ValueError("unknown fault or delay")
        with self._changed:
            self.switched = _Switch(kind, delay_s)
            self._guard.off = timedelta(hours=1) if kind == "clock" else timedelta()
            self._changed.notify_all()
            if kind == "down" and self._server:
                _stop(self._server)
                self._server = None
                for connection in self._open:
                    with contextlib.suppress(OSError):  # its caller was faster
                        connection.shutdown(socket.SHUT_RDWR)
            elif kind != "down" and self._server is None:
                self._server = self._serve(self._port, _soap_handler(self))

    def wait_for_change(self, switched: _Switch, timeout_s: float) -> None:
        """Until it was switched again, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.switched is not switched, timeout_s)

    def asked(self) -> None:
        with self._changed:
            self.requests += 1

    def connected(self, connection: socket.socket) -> None:
        with self._changed:
            self.connections += 1
            self._open.add(connection)

    def parted(self, connection: socket.socket) -> None:
        with self._changed:
            self._open.discard(connection)

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
        """Nothing."""

    def answer(self, status: int, body: bytes, type: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, status: int, document: object) -> None:
        self.answer(status, json.dumps(document, ensure_ascii=False).encode(), "application/json")


def _soap_handler(server: SoapServer) -> type[BaseHTTPRequestHandler]:
    class Soap(_Handler):
        def setup(self) -> None:
            super().setup()
            server.connected(self.connection)

        def finish(self) -> None:
            server.parted(self.connection)
            super().finish()

        def do_GET(self) -> None:
            name = server.contract.wsdl if self.path == "/?wsdl" else self.path[1:]
            file = server.contract.files.get(name)
            self.answer(200 if file else 404, file or b"", XML)

        def do_POST(self) -> None:
            content = self._content()
            if content is None:
                return
            server.asked()
            switched = server.switched
            kind = switched.kind
            if kind in ("hang", "down"):
                if kind == "hang":
                    server.wait_for_change(switched, LONGEST_HANG_S)
                self.close_connection = True
                return
            if kind == "slow":
                server.wait_for_change(switched, switched.delay_s)
            if kind in ("busy", "error"):
                self.answer(500, server.contract.fault(_FAULTS[kind]), XML)
                return
            status, envelope = server.answer(content)
            if kind == "cut":
                self.close_connection = True
            elif kind == "trickle":
                self._trickle(switched, envelope)
            elif kind in bad.ANSWERS:
                answer = bad.ANSWERS[kind](envelope)
                self.answer(answer.status, answer.body, answer.type, **answer.headers)
            else:
                self.answer(status, envelope, XML)

        def _content(self) -> bytes | None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > LARGEST_REQUEST_BYTES:
                self.close_connection = True
                self.answer(413 if length.isdecimal() else 411, b"", XML)
                return None
            return self.rfile.read(int(length))

        def _trickle(self, switched: _Switch, envelope: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", XML)
            self.send_header("Content-Length", str(len(envelope)))
            self.end_headers()
            for byte in envelope:
                if server.switched is not switched:
                    break
                self.wfile.write(bytes((byte,)))
                self.wfile.flush()
                server.wait_for_change(switched, 0.1)
            self.close_connection = True

    return Soap


_FAULTS = {
    "busy": Fault("DANG_BAN", "Hệ thống đang bận, xin thử lại", SERVER),
    "error": Fault("LOI_HE_THONG", "Lỗi hệ thống", SERVER),
}


def _control_handler(server: SoapServer) -> type[BaseHTTPRequestHandler]:
    class Control(_Handler):
        def do_GET(self) -> None:
            self._answer_state()

        def do_PUT(self) -> None:
            try:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.switch(asked["kind"], float(asked.get("delay_s", 1.0)))
            except (KeyError, TypeError, ValueError):
                self.answer_json(400, {"faults": FAULTS})
                return
            self._answer_state()

        def _answer_state(self) -> None:
            self.answer_json(
                200,
                {"fault": server.switched.kind, "requests": server.requests, "connections": server.connections},
            )

    return Control
