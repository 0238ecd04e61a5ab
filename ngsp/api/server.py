"""Runs the application: listens, serves, and stops on SIGTERM or SIGINT without losing a request.

uvicorn's parts do the work (configuration, lifespan, protocol); its `Server` is left out because it raises the signal
again after the shutdown, ends the process where a port is taken, and answers what it cancels in plain text.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import stat
import sys
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.lifespan.on import LifespanOn
from uvicorn.server import ServerState

from ngsp.api.edge import Edge, Limits, TurnsAway, problem_of
from ngsp.api.protocol import GatewayProtocol, protocol_factory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from starlette.types import ASGIApp

logger = logging.getLogger(__name__)

BACKLOG = 2_048
SPARE_FILES = 512
"""Open files for everything but connections: database, broker, back ends."""
CANCEL_TIMEOUT_S = 2.0
"""Time for requests to end that were cancelled because the graceful time was over."""


class LifespanFailed(Exception):
    """The application did not start or did not stop; its own error is in the log."""


async def serve(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    limits: Limits,
    on_refusal: Callable[[str, str], None],
    drain: Callable[[], Awaitable[None]],
    ready: Callable[[int], None],
    graceful_timeout_s: float,
    uds: Path | None = None,
    problem: Callable[[str], bytes] = problem_of,
    trusted_proxies: str = "",
    turn_away: TurnsAway | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, finishes what is in flight, and returns. To be called in the main thread.

    `port` 0 takes a free one; `ready` is told the real one (0 with `uds`, a Unix socket's path instead of host and
    port). On the signal: `drain` (the application refuses new work), no more connections, requests in flight to their
    end, lifespan shutdown; drain and requests have `graceful_timeout_s` together. A second signal ends the process at
    once with code 1. `on_refusal` gets the code and the remote address of each refusal made below the application.
    `trusted_proxies` are the addresses, separated by commas, whose `X-Forwarded-For` is believed. `turn_away` may
    refuse requests before they are parsed.

    Raises OSError where the address cannot be had, LifespanFailed, and what `drain` raises, after the shutdown.
    """
    edge = Edge(limits, problem=problem, on_refusal=on_refusal, turn_away=turn_away)
    server = _Server(app, edge, graceful_timeout_s=graceful_timeout_s, trusted_proxies=trusted_proxies)
    with _listening_socket(host, port, uds) as listener, _stopped_by_signals(server):
        await server.run(listener, drain=drain, ready=ready)


@contextlib.asynccontextmanager
async def running(
    app: ASGIApp,
    *,
    limits: Limits | None = None,
    on_refusal: Callable[[str, str], None] = lambda code, address: None,
    drain: Callable[[], Awaitable[None]] | None = None,
    graceful_timeout_s: float = 5.0,
    problem: Callable[[str], bytes] = problem_of,
    host: str = "127.0.0.1",
    port: int = 0,
    trusted_proxies: str = "",
    turn_away: TurnsAway | None = None,
) -> AsyncIterator[str]:
    """For tests: the same server as a task of the running loop, without signals; gives `http://127.0.0.1:port`."""
    edge = Edge(limits or Limits(), problem=problem, on_refusal=on_refusal, turn_away=turn_away)
    server = _Server(app, edge, graceful_timeout_s=graceful_timeout_s, trusted_proxies=trusted_proxies)
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    with _listening_socket(host, port, None) as listener:
        task = asyncio.create_task(server.run(listener, drain=drain or _nothing_to_drain, ready=listening.set_result))
        task.add_done_callback(lambda _: listening.cancel())
        try:
            await listening
        except asyncio.CancelledError:
            await task  # it did not come to listen: raises why
            raise
        try:
            yield f"http://{host}:{listening.result()}"
        finally:
            server.stop()
            await task


async def _nothing_to_drain() -> None:
    return


class _Server:
    """One listener and its connections, from lifespan startup to lifespan shutdown."""

    def __init__(self, app: ASGIApp, edge: Edge, *, graceful_timeout_s: float, trusted_proxies: str) -> None:
        self._edge = edge
        self._graceful_timeout_s = graceful_timeout_s
        self._config = Config(
            app,
            http=protocol_factory(edge),  # type: ignore[arg-type]  # a class is asked for, a factory is what is used
            ws="none",
            lifespan="on",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=trusted_proxies,
        )
        self._config.load()
        self._state = ServerState()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    async def run(
        self, listener: socket.socket, *, drain: Callable[[], Awaitable[None]], ready: Callable[[int], None]
    ) -> None:
        _allow_open_files(self._edge.limits.max_connections + SPARE_FILES)
        lifespan = LifespanOn(self._config)
        await lifespan.startup()
        if lifespan.should_exit:
            raise LifespanFailed("the application did not start")
        try:
            async with self._dated(), self._accepting(listener, lifespan) as stop_accepting:
                address = listener.getsockname()
                ready(address[1] if isinstance(address, tuple) else 0)
                await self._stopping.wait()
                await self._finish(drain, stop_accepting)
        finally:
            await lifespan.shutdown()
        if lifespan.should_exit:
            raise LifespanFailed("the application did not stop")

    @contextlib.asynccontextmanager
    async def _accepting(self, listener: socket.socket, lifespan: LifespanOn) -> AsyncIterator[Callable[[], None]]:
        """Gives what stops the accepting; when left, no connection is open."""
        loop = asyncio.get_running_loop()

        def connect() -> GatewayProtocol:
            return self._config.http_protocol_class(  # type: ignore[call-arg,return-value]
                config=self._config, server_state=self._state, app_state=lifespan.state, _loop=loop
            )

        create = loop.create_unix_server if listener.family == socket.AF_UNIX else loop.create_server
        server = await create(connect, sock=listener, backlog=BACKLOG)
        try:
            yield server.close
        finally:
            server.close()
            for connection in self._connections():
                connection.transport.abort()
            await server.wait_closed()

    @contextlib.asynccontextmanager
    async def _dated(self) -> AsyncIterator[None]:
        """Keeps the `Date` field right to the second."""

        async def keep() -> None:
            while True:
                self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
                await asyncio.sleep(1.0)

        self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        task = asyncio.create_task(keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _finish(self, drain: Callable[[], Awaitable[None]], stop_accepting: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._graceful_timeout_s
        self._edge.draining = True
        try:
            await asyncio.wait_for(drain(), self._graceful_timeout_s)
        except TimeoutError:
            logger.warning("draining took longer than the graceful time")
        finally:
            stop_accepting()
            for connection in self._connections():
                connection.shutdown()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._at_rest(), max(end - loop.time(), 0.0))
            await self._give_up()

    async def _at_rest(self) -> None:
        await self._edge.empty.wait()
        while tasks := list(self._state.tasks):
            await asyncio.wait(tasks)

    async def _give_up(self) -> None:
        tasks = list(self._state.tasks)
        for connection in self._connections():
            connection.give_up()
        if not tasks:
            return
        logger.warning("requests in flight are cancelled: the graceful time is over", extra={"requests": len(tasks)})
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT_S)

    def _connections(self) -> list[GatewayProtocol]:
        return [c for c in self._state.connections if isinstance(c, GatewayProtocol)]


@contextlib.contextmanager
def _listening_socket(host: str, port: int, uds: Path | None) -> Iterator[socket.socket]:
    """A bound socket that does not listen yet: a taken address is found before the application starts."""
    if uds is None:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            yield listener
        return
    if uds.exists() and stat.S_ISSOCK(uds.stat().st_mode):
        uds.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(uds))
        try:
            uds.chmod(0o660)
            yield listener
        finally:
            uds.unlink(missing_ok=True)


@contextlib.contextmanager
def _stopped_by_signals(server: _Server) -> Iterator[None]:
    loop = asyncio.get_running_loop()

    def on_signal(name: str) -> None:
        if not server.is_stopping:
            logger.info("stopping on a signal", extra={"signal": name})
            server.stop()
            return
        logger.warning("a second signal: ending at once", extra={"signal": name})
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    handled = (signal.SIGTERM, signal.SIGINT)
    for signal_ in handled:
        loop.add_signal_handler(signal_, on_signal, signal_.name)
    try:
        yield
    finally:
        for signal_ in handled:
            loop.remove_signal_handler(signal_)


def _allow_open_files(needed: int) -> None:
    """Raises the soft limit of open files (1,024 on many systems), as far as the hard one lets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        logger.warning("fewer open files are allowed than needed", extra={"allowed": allowed, "needed": needed})
