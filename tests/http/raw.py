"""A caller that speaks in bytes."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """One connection; every wait ends after ten seconds with an error."""

    def __init__(self, port: int, *, source: str = "", receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(TIMEOUT_S)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            if source:
                self.socket.bind((source, 0))
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)

    def send_end(self) -> None:
        """Nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def send_bytewise(self, data: bytes) -> None:
        """Each byte in a packet of its own, until the server has had enough."""
        for position in range(len(data)):
            try:
                self.socket.sendall(data[position : position + 1])
            except (BrokenPipeError, ConnectionResetError):
                return

    def dribble(self, data: bytes, pause_s: float) -> int:
        """A byte each `pause_s` until the server answers or closes; gives the number of bytes sent."""
        for position in range(len(data)):
            if self.has_input(pause_s):
                return position
            self.socket.sendall(data[position : position + 1])
        return len(data)

    def has_input(self, wait_s: float) -> bool:
        return bool(select.select([self.socket], [], [], wait_s)[0])

    def _more(self) -> bool:
        data = self.socket.recv(65_536)
        self._buffer += data
        return bool(data)

    def take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._more():
                raise EOFError(f"the connection ended after {self._buffer!r}")
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def take_line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            if not self._more():
                raise EOFError(f"the connection ended after {self._buffer!r}")
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def answer(self, *, to_head: bool = False) -> Answer:
        status = int(self.take_line().split(b" ")[1])
        fields: dict[str, str] = {}
        while line := self.take_line():
            name, _, value = line.decode("latin-1").partition(": ")
            fields[name] = value
        if to_head or 100 <= status < 200:
            return Answer(status, fields, b"")
        if fields.get("transfer-encoding") != "chunked":
            return Answer(status, fields, self.take(int(fields["content-length"])))
        body = b""
        while size := int(self.take_line(), 16):
            body += self.take(size + 2)[:-2]
        assert self.take_line() == b""
        return Answer(status, fields, body)

    def call(self, *parts: bytes) -> Answer:
        self.send(*parts)
        return self.answer()

    def is_closed(self) -> bool:
        """Waits for the end of the connection: True where the server ended it without another byte."""
        try:
            return not self._buffer and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def end(self) -> bytes:
        """Everything up to the end of the connection."""
        with contextlib.suppress(ConnectionResetError):
            while self._more():
                pass
        return self._buffer

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def caller(port: int, *, source: str = "", receive_buffer: int = 0) -> Iterator[Caller]:
    connection = Caller(port, source=source, receive_buffer=receive_buffer)
    try:
        yield connection
    finally:
        connection.close()


def get(path: str = "/", *fields: str, version: str = "1.1") -> bytes:
    head = [f"GET {path} HTTP/{version}", "Host: gateway", *fields]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1")


def post(body: bytes, path: str = "/", *fields: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: gateway", f"Content-Length: {len(body)}", *fields]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body


def chunked(*chunks: bytes, path: str = "/", end: bytes = b"0\r\n\r\n") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def assert_refused(answer: Answer, status: int, code: str) -> None:
    """A whole problem document that ends the connection."""
    assert answer.status == status
    assert answer.fields["content-type"] == "application/problem+json"
    assert answer.fields["connection"] == "close"
    assert "date" in answer.fields
    assert "server" not in answer.fields
    assert ("retry-after" in answer.fields) == (status == 503)
    problem = answer.json()
    assert (problem["type"], problem["status"], problem["code"]) == (f"/errors/{code}", status, code)
    assert problem["title"]
    assert problem["detail"]
    assert problem["remedy"]


def seconds_since(start_s: float) -> float:
    return time.monotonic() - start_s
