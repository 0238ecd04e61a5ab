"""Starting and stopping: signals to a real process, and the same server as a task of the test's loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ngsp.api.edge import Limits
from ngsp.api.server import LifespanFailed, running, serve
from tests.http.raw import TIMEOUT_S, assert_refused, caller, get, post
from tests.http.served import Application

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


class Program:
    """The server in a process of its own; what it prints is read line by line."""

    def __init__(self, options: dict[str, Any]) -> None:
        command = [sys.executable, "-m", "tests.http.served", json.dumps(options)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.line().removeprefix("ready "))

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def signal(self, which: signal.Signals) -> None:
        self.process.send_signal(which)

    def release(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("release\n")
        self.process.stdin.flush()

    def end(self) -> tuple[int, list[str]]:
        """Exit code, and the lines not read yet."""
        output, _ = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, output.splitlines()


@contextlib.contextmanager
def program(**options: Any) -> Iterator[Program]:
    started = Program({"graceful_timeout_s": 8.0, **options})
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.communicate(timeout=TIMEOUT_S)


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_request_in_flight_end_and_the_process_exits_with_0(which: signal.Signals) -> None:
    with program() as server, caller(server.port) as busy, caller(server.port) as idle, caller(server.port) as late:
        assert idle.call(get()).status == 200
        assert busy.call(get("/before")).status == 200
        busy.send(post(b"abc", "/held"))
        late.send(post(b"abcdef", "/late")[:20])
        assert idle.call(get("/seen")).status == 200  # a round trip: what was sent before it is in
        server.signal(which)
        assert server.line() == "drain"
        assert idle.is_closed()
        late.send(post(b"abcdef", "/late")[20:])
        assert (answer := late.answer()).json()["length"] == 6
        assert answer.fields["connection"] == "close"
        with pytest.raises(ConnectionRefusedError), caller(server.port):
            pass
        server.release()
        answer = busy.answer()
        assert (answer.status, answer.fields["connection"], answer.json()["length"]) == (200, "close", 3)
        assert busy.is_closed()
        code, lines = server.end()
    assert code == 0
    assert lines[0] == "startup"
    assert lines[-2:] == ["shutdown", "stopped"]


def test_a_signal_without_work_ends_at_once() -> None:
    with program(graceful_timeout_s=3_600.0) as server:
        server.signal(signal.SIGTERM)
        assert server.end() == (0, ["drain", "startup", "shutdown", "stopped"])


def test_what_outlasts_the_graceful_time_gets_503_and_the_exit_code_is_0() -> None:
    with program(graceful_timeout_s=0.3) as server, caller(server.port) as stuck, caller(server.port) as half:
        stuck.send(get("/stuck") + get("/never"))
        half.send(get("/never")[:-2])
        server.signal(signal.SIGTERM)
        assert_refused(stuck.answer(), 503, "draining")
        assert half.end() == b""
        code, lines = server.end()
    assert code == 0
    assert lines == ["drain", "startup", "GET /stuck", "shutdown", "stopped"]


def test_draining_that_hangs_is_not_waited_for_longer_than_the_graceful_time() -> None:
    with program(graceful_timeout_s=0.3, drain_hangs=True) as server:
        server.signal(signal.SIGTERM)
        code, lines = server.end()
    assert (code, lines[-1]) == (0, "stopped")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_with_1(second: signal.Signals) -> None:
    with program(graceful_timeout_s=3_600.0) as server, caller(server.port) as busy:
        busy.send(get("/stuck"))
        with caller(server.port) as other:
            assert other.call(get()).status == 200
        server.signal(signal.SIGTERM)
        assert server.line() == "drain"
        server.signal(second)
        assert server.end() == (1, [])
        assert busy.is_closed()


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with program(uds=str(path)) as server:
        assert server.port == 0
        assert path.stat().st_mode & 0o777 == 0o660
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert client.post("http://gateway/x", content=b"abc").json()["length"] == 3
            assert client.get("http://gateway/x").json()["path"] == "/x"
        server.signal(signal.SIGTERM)
        assert server.end()[0] == 0
    assert not path.exists()


async def test_the_server_runs_as_a_task_beside_the_test() -> None:
    application = Application()
    async with httpx.AsyncClient() as client:
        async with running(application) as base_url:
            assert (await client.post(f"{base_url}/a", content=b"abc")).json()["length"] == 3
            held = asyncio.create_task(client.get(f"{base_url}/held"))
            while application.events.empty() or application.events.get_nowait() != "GET /held":
                await asyncio.sleep(0)
            application.released.set()
        assert (await held).status_code == 200
    assert list(application.events.queue)[-1] == "shutdown"


async def test_draining_comes_before_the_connections_end_and_new_ones_are_still_heard() -> None:
    application = Application()
    readiness: list[int] = []

    async def drain() -> None:
        async with httpx.AsyncClient() as client:
            answer = await client.get(base_url)
            readiness.append(answer.status_code)
            assert answer.headers["connection"] == "close"

    async with running(application, drain=drain) as base_url:
        pass
    assert readiness == [200]


async def test_an_error_in_draining_is_raised_after_an_orderly_end() -> None:
    application = Application()

    async def drain() -> None:
        raise ValueError("cannot drain")

    with pytest.raises(ValueError, match="cannot drain"):
        async with running(application, drain=drain):
            pass
    assert list(application.events.queue) == ["startup", "shutdown"]


async def test_an_application_that_does_not_start_is_an_error() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("no database")

    with pytest.raises(LifespanFailed, match="did not start"):
        async with running(broken):
            pass


async def test_an_application_that_does_not_stop_is_an_error() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ValueError("cannot close")

    with pytest.raises(LifespanFailed, match="did not stop"):
        async with running(broken):
            pass


async def test_a_port_that_is_taken_is_an_error_before_the_application_starts() -> None:
    application = Application()
    async with running(Application()) as base_url:
        with pytest.raises(OSError, match="Address already in use"):
            async with running(application, port=httpx.URL(base_url).port or 0):
                pass
    assert application.events.empty()


async def test_only_named_proxies_are_believed() -> None:
    seen: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await Application()(scope, receive, send)
            return
        seen.append(scope["client"][0])
        await Application()(scope, receive, send)

    for trusted, address in (("", "127.0.0.1"), ("127.0.0.1", "203.0.113.9"), ("192.0.2.1", "127.0.0.1")):
        async with running(application, trusted_proxies=trusted) as base_url, httpx.AsyncClient() as client:
            await client.get(base_url, headers={"X-Forwarded-For": "203.0.113.9"})
        assert seen.pop() == address


async def test_serving_leaves_the_signals_as_they_were() -> None:
    loop = asyncio.get_running_loop()
    application = Application()

    def ready(port: int) -> None:
        assert port
        signal.raise_signal(signal.SIGTERM)

    async def drain() -> None:
        application.events.put("drain")

    await serve(
        application,
        host="127.0.0.1",
        port=0,
        limits=Limits(),
        on_refusal=lambda code, address: None,
        drain=drain,
        ready=ready,
        graceful_timeout_s=5.0,
    )
    assert list(application.events.queue) == ["startup", "drain", "shutdown"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not loop.remove_signal_handler(signal.SIGINT)
