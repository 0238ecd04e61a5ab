"""The registry's HTTP interface, HTTP/1.1 with connections kept alive, and switches that make it misbehave.

    GET /apiCSDLDKDN/1.0/chiTietDoanhNghiep?maSo=9012345678   200 {"KET_QUA": "OK", "DU_LIEU": {…}}
                                                              404 {"KET_QUA": "KHONG_TIM_THAY"}
    GET /tinhTrang                                            200 {"KET_QUA": "OK"}

The control interface, on a port of its own: `PUT /fault` with `{"kind": …, "delay_s": …}`, `GET /state`.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

DETAIL_PATH = "/apiCSDLDKDN/1.0/chiTietDoanhNghiep"
HOST = "127.0.0.1"
FAULTS = (
    "none",
    "slow",
    "error",
    "overloaded",
    "html",
    "redirect",
    "huge",
    "broken",
    "other",
    "trickle",
    "hang",
    "down",
)
"""slow: answers after the delay; error: 500; overloaded: 503; html: a page with status 200; redirect: 302 to itself;
huge: more than a megabyte; broken: half a JSON document; other: another enterprise's record; trickle: ten bytes a
second; hang: never answers; down: nobody listens."""
LONGEST_HANG_S = 60.0


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


class Registry:
    """Serves `records` from the moment it is made until `close`. `control_port` None: no switches."""

    def __init__(self, records: dict[str, dict[str, Any]], port: int = 0, control_port: int | None = None) -> None:
        self.records = records
        self.requests = 0
        self.connections = 0
        self.fault = _Fault()
        self._changed = threading.Condition()
        self._server: _Server | None = self._serve(port, _detail_handler(self))
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
                self._server = self._serve(self._port, _detail_handler(self))

    def wait_for_change(self, fault: _Fault, timeout_s: float) -> None:
        """Until the fault is another one, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self.fault is not fault, timeout_s)

    def count(self, *, requests: int = 0, connections: int = 0) -> None:
        with self._changed:
            self.requests += requests
            self.connections += connections

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
        """Nothing: the address asked for holds the code."""

    def answer(self, status: int, body: bytes, type: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, status: int, document: object) -> None:
        self.answer(status, json.dumps(document, ensure_ascii=False).encode())


def _detail_handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Detail(_Handler):
        def setup(self) -> None:
            super().setup()
            registry.count(connections=1)

        def do_GET(self) -> None:
            registry.count(requests=1)
            fault = registry.fault
            if fault.kind in ("hang", "down"):
                if fault.kind == "hang":
                    registry.wait_for_change(fault, LONGEST_HANG_S)
                self.close_connection = True
                return
            if fault.kind == "slow":
                registry.wait_for_change(fault, fault.delay_s)
            if fault.kind == "trickle":
                self._trickle(fault)
                return
            misbehave = _MISBEHAVIOUR.get(fault.kind)
            if misbehave:
                misbehave(self)
                return
            self._answer_truly(fault)

        def _trickle(self, fault: _Fault) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while registry.fault is fault:
                self.wfile.write(b" ")
                self.wfile.flush()
                registry.wait_for_change(fault, 0.1)
            self.close_connection = True

        def _answer_truly(self, fault: _Fault) -> None:
            address = urlsplit(self.path)
            if address.path == "/tinhTrang":
                self.answer_json(200, {"KET_QUA": "OK"})
                return
            codes = parse_qs(address.query).get("maSo", [])
            if address.path != DETAIL_PATH or len(codes) != 1:
                self.answer_json(400, {"KET_QUA": "SAI_THAM_SO"})
                return
            record = registry.records.get(codes[0])
            if record and fault.kind == "other":
                record = next(found for code, found in registry.records.items() if code != codes[0])
            if record:
                self.answer_json(200, {"KET_QUA": "OK", "DU_LIEU": record})
            else:
                self.answer_json(404, {"KET_QUA": "KHONG_TIM_THAY"})

    return Detail


_PAGE = "<!DOCTYPE html><title>Bảo trì</title><p>Hệ thống đang bảo trì.".encode()
_MISBEHAVIOUR: dict[str, Callable[[_Handler], None]] = {
    "error": lambda handler: handler.answer_json(500, {"KET_QUA": "LOI_HE_THONG"}),
    "overloaded": lambda handler: handler.answer_json(503, {"KET_QUA": "QUA_TAI"}),
    "html": lambda handler: handler.answer(200, _PAGE, "text/html; charset=utf-8"),
    "redirect": lambda handler: handler.answer(302, b"", Location="/tinhTrang"),
    "huge": lambda handler: handler.answer(200, b'{"KET_QUA": "' + b"O" * (2 << 20) + b'"}'),
    "broken": lambda handler: handler.answer(200, b'{"KET_QUA": "OK", "DU_LIEU": {"MA_SO"'),
}


def _control_handler(registry: Registry) -> type[BaseHTTPRequestHandler]:
    class Control(_Handler):
        def do_GET(self) -> None:
            self._answer_state()

        def do_PUT(self) -> None:
            try:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                registry.switch(asked["kind"], float(asked.get("delay_s", 1.0)))
            except (KeyError, TypeError, ValueError):
                self.answer_json(400, {"faults": FAULTS})
                return
            self._answer_state()

        def _answer_state(self) -> None:
            state = {
                "fault": registry.fault.kind,
                "requests": registry.requests,
                "connections": registry.connections,
            }
            self.answer_json(200, state)

    return Control
