"""A small application with every manner a caller can meet, and its server in a thread with a loop of its own.

As a program (`python -m tests.http.served`) the same server runs in a process of its own, to be stopped by signals:
its argument is a JSON object (`graceful_timeout_s`, `uds`), it prints `ready PORT`, `drain`, `stopped`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from ngsp.api.edge import Limits
from ngsp.api.server import running, serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}
BLOCK = b"x" * 65_536


class Application:
    """ASGI. `events` tells the test what the application met, in order."""

    def __init__(self) -> None:
        self.events: queue.Queue[str] = queue.Queue()
        self.released = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self.events.put(f"{scope['method']} {scope['path']}")
        manner = getattr(self, "_" + scope["path"].strip("/*").partition("/")[0], self._echo)
        await manner(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        for event in ("startup", "shutdown"):
            message = await receive()
            assert message["type"] == f"lifespan.{event}"
            self.events.put(event)
            await send({"type": f"lifespan.{event}.complete"})

    async def _echo(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers with what it was asked: method, path, query, header fields, the body's length."""
        length = await self._length(receive)
        if length is None:
            return
        fields = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        answer = {
            "method": scope["method"],
            "path": scope["path"],
            "raw_path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "version": scope["http_version"],
            "fields": fields,
            "length": length,
        }
        await _answer(send, 200, json.dumps(answer).encode())

    async def _length(self, receive: Receive) -> int | None:
        """Length of the whole body; None where the caller went away."""
        length = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.events.put("disconnect")
                return None
            length += len(message["body"])
            if not message["more_body"]:
                return length

    async def _held(self, scope: Any, receive: Receive, send: Send) -> None:
        """Waits for the test."""
        await self.released.wait()
        await self._echo(scope, receive, send)

    async def _early(self, scope: Any, receive: Receive, send: Send) -> None:
        """Does not wait for the body."""
        await _answer(send, 413, b"too much")

    async def _started(self, scope: Any, receive: Receive, send: Send) -> None:
        """Begins the answer before the body has come."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await self._length(receive)

    async def _headfirst(self, scope: Any, receive: Receive, send: Send) -> None:
        """The body comes when the test says so."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await self.released.wait()
        await send({"type": "http.response.body", "body": b"body"})

    async def _crash(self, scope: Any, receive: Receive, send: Send) -> None:
        raise ValueError("a defect")

    async def _lazy(self, scope: Any, receive: Receive, send: Send) -> None:
        """Takes the body only when the test says so."""
        await self._held(scope, receive, send)

    async def _endless(self, scope: Any, receive: Receive, send: Send) -> None:
        """An answer without an end; tells the test how many blocks went out before the caller was gone."""
        assert (await receive())["type"] == "http.request"
        gone = asyncio.ensure_future(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        blocks = 0
        while not gone.done():
            await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
            blocks += 1
            await asyncio.sleep(0)  # sending alone never waits once the connection is lost
        self.events.put(f"gone after {blocks}")

    async def _large(self, scope: Any, receive: Receive, send: Send) -> None:
        """Eight megabytes in one piece."""
        await _answer(send, 200, BLOCK * 128)

    async def _stuck(self, scope: Any, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()


async def _answer(send: Send, status: int, body: bytes) -> None:
    fields = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


class Served:
    """The running server as a test sees it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, application: Application) -> None:
        self.port = 0
        self.application = application
        self.refusals: list[tuple[str, str]] = []
        self._loop = loop
        self.stopping = asyncio.Event()

    def next_event(self) -> str:
        return self.application.events.get(timeout=10)

    def forget(self) -> None:
        self.refusals.clear()
        while not self.application.events.empty():
            self.application.events.get()

    def release(self) -> None:
        self._loop.call_soon_threadsafe(self.application.released.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self.stopping.set)

    async def run(self, limits: Limits, started: threading.Event) -> None:
        def on_refusal(code: str, address: str) -> None:
            self.refusals.append((code, address))

        async with running(self.application, limits=limits, on_refusal=on_refusal, graceful_timeout_s=2.0) as base_url:
            self.port = int(base_url.rpartition(":")[2])
            assert self.application.events.get_nowait() == "startup"
            started.set()
            await self.stopping.wait()


@contextlib.contextmanager
def served(loop_name: str, limits: Limits) -> Iterator[Served]:
    """The server in a thread; when left, it has stopped and whatever went wrong in it is raised."""
    started = threading.Event()
    server: list[Served] = []
    failed: list[BaseException] = []

    async def main() -> None:
        server.append(Served(asyncio.get_running_loop(), Application()))
        await server[0].run(limits, started)

    def thread_main() -> None:
        try:
            with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
                runner.run(main())
        except BaseException as error:  # noqa: BLE001 - given to the test's thread
            failed.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=thread_main)
    thread.start()
    assert started.wait(10)
    try:
        if not failed:
            yield server[0]
    finally:
        if thread.is_alive():
            server[0].release()
            server[0].stop()
        thread.join(10)
        assert not thread.is_alive()
        if failed:
            raise failed[0]


async def _program(options: dict[str, Any]) -> None:
    application = Application()

    async def drain() -> None:
        print("drain", flush=True)
        if options.get("drain_hangs"):
            await asyncio.Event().wait()

    def on_drained(line: str) -> None:
        if line == "release":
            application.released.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, lambda: on_drained(sys.stdin.readline().strip()))
    await serve(
        application,
        host="127.0.0.1",
        port=0,
        limits=Limits(),
        on_refusal=lambda code, address: None,
        drain=drain,
        ready=lambda port: print("ready", port, flush=True),
        graceful_timeout_s=options["graceful_timeout_s"],
        uds=Path(options["uds"]) if "uds" in options else None,
    )
    while not application.events.empty():
        print(application.events.get(), flush=True)
    print("stopped", flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as program_runner:
        program_runner.run(_program(json.loads(sys.argv[1])))
