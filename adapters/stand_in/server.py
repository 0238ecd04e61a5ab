"""HTTP/1.1 with connections kept alive, and switches that make it misbehave.

The control interface, on a port of its own: `PUT /fault` with `{"kind": …, "delay_s": …}`, `GET /state`; `DELETE /…`
where a kind of server has something to forget.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

HOST = "127.0.0.1"
LONGEST_HANG_S = 60.0
LARGEST_REQUEST_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Switch:
    """What it does wrong now. `delay_s`: of the fault `slow`."""

    kind: str = "none"
    delay_s: float = 1.0


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is no news; anything else is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class SwitchedServer(ABC):
    """Serves from the moment it is made until `close`. `control_port` None: no switches. `faults`: what it knows."""

    faults: ClassVar[tuple[str, ...]] = ("none", "slow", "hang", "down", "cut", "trickle")
    """slow: answers after the delay; hang: never answers; down: nobody listens; cut: does it, then hangs up without a
    word; trickle: a byte at a time."""

    def __init__(self, port: int = 0, control_port: int | None = None) -> None:
        self.requests = 0
        self.connections = 0
        self.switched = Switch()
        self._changed = threading.Condition()
        self._open: set[socket.socket] = set()
        self._server: _Server | None = self._serve(port, self.handler())
        self._port = self._server.server_address[1]
        self._control = None if control_port is None else self._serve(control_port, _control(self))
        self.url = f"http://{HOST}:{self._port}"
        self.control_url = f"http://{HOST}:{self._control.server_address[1]}" if self._control else None

    @abstractmethod
    def handler(self) -> type[Handler]:
        """What answers; made by `SwitchedHandler` or from it."""

    def state(self) -> dict[str, object]:
        return {"fault": self.switched.kind, "requests": self.requests, "connections": self.connections}

    def forget(self) -> None:  # noqa: B027 - most kinds have nothing to forget
        """What `DELETE` on the control port does; nothing, unless a kind of server has something."""

    def switch(self, kind: str, delay_s: float = 1.0) -> None:
        """Begin to misbehave in this way, or to behave again. ValueError for an unknown kind."""
        if kind not in self.faults or not 0 <= delay_s <= LONGEST_HANG_S:
            raise ValueError("unknown fault or delay")
        with self._changed:
            self.switched = Switch(kind, delay_s)
            self._changed.notify_all()
            if kind == "down" and self._server:
                _stop(self._server)
                self._server = None
                for connection in self._open:
                    with contextlib.suppress(OSError):  # its caller was faster
                        connection.shutdown(socket.SHUT_RDWR)
            elif kind != "down" and self._server is None:
                self._server = self._serve(self._port, self.handler())

    def wait_for_change(self, switched: Switch, timeout_s: float) -> None:
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

    def _serve(self, port: int, handler: type[BaseHTTPRequestHandler]) -> _Server:
        server = _Server((HOST, port), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return server


def _stop(server: _Server) -> None:
    server.shutdown()
    server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 75.0
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: addresses asked for hold codes and numbers."""

    def answer(self, status: int, body: bytes, type: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, status: int, document: object) -> None:
        self.answer(status, json.dumps(document, ensure_ascii=False).encode(), "application/json")

    def content(self) -> bytes | None:
        """The request's body; None, and answered, where it is too large or its length is not told."""
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            self.answer_json(411, {"error": "length_required"})
            return None
        if int(length) > LARGEST_REQUEST_BYTES:
            self.close_connection = True
            self.answer_json(413, {"error": "too_large"})
            return None
        return self.rfile.read(int(length))


class SwitchedHandler(Handler):
    """One connection to the system itself, with what every kind of server does wrong in the same way."""

    server_of: ClassVar[SwitchedServer]

    def setup(self) -> None:
        super().setup()
        self.server_of.connected(self.connection)

    def finish(self) -> None:
        self.server_of.parted(self.connection)
        super().finish()

    def held_up(self, switched: Switch) -> bool:
        """Waits where that is the fault; True where the request is not to be answered."""
        if switched.kind == "slow":
            self.server_of.wait_for_change(switched, switched.delay_s)
        if switched.kind == "hang":
            self.server_of.wait_for_change(switched, LONGEST_HANG_S)
        if switched.kind in ("hang", "down"):
            self.close_connection = True
            return True
        return False

    def trickle(self, switched: Switch, body: bytes, type: str) -> None:
        """`body` a byte at a time, until it is over or something was switched."""
        self.send_response(200)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for byte in body:
            if self.server_of.switched is not switched:
                break
            self.wfile.write(bytes((byte,)))
            self.wfile.flush()
            self.server_of.wait_for_change(switched, 0.1)
        self.close_connection = True


def _control(server: SwitchedServer) -> type[Handler]:
    class Control(Handler):
        def do_GET(self) -> None:
            self.answer_json(200, server.state())

        def do_PUT(self) -> None:
            try:
                asked = json.loads(self.content() or b"")
                server.switch(asked["kind"], float(asked.get("delay_s", 1.0)))
            except (KeyError, TypeError, ValueError):
                self.answer_json(400, {"faults": server.faults})
                return
            self.answer_json(200, server.state())

        def do_DELETE(self) -> None:
            server.forget()
            self.answer_json(200, server.state())

    return Control
