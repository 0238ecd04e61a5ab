"""A lean HTTP/1.1 load generator, a process of its own: `python -m bench.load --port 8080 < plan.json`.

Closed loop: each of C connections sends its next request when the last is answered. Open loop (`--rate`): requests
fall due at an even rate whatever the server does, wait for a free connection if none of the C is free, and their
latency counts from the moment they were due, so that a slow server cannot hide its queue (no coordinated omission).

It speaks keep-alive and Content-Length alone, and reads from an answer no more than its status and its end, because it
shares the machine with what it measures. Prints one line of JSON: `bench.figures.LoadResult`.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from abc import ABC, abstractmethod
from array import array
from collections import Counter, deque
from dataclasses import dataclass

import uvloop

from bench.connection import Connection
from bench.figures import Errors, Latency, LoadResult, Schedule, percentile
from bench.plan import PreparedRequests, RequestPlan

EXAMPLE_MAX_BYTES = 1000
CONNECT_TIMEOUT_S = 10.0
RECONNECT_PAUSE_S = 0.05
TICK_MIN_S = 0.001
"""The event loop's timers count in milliseconds: asking for less would spin."""

BEHIND_MAX_SHARE = 0.01

clock = time.perf_counter


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """`rate_per_s` None is a closed loop. `grace_s`: how long, after the end, outstanding requests may be answered."""

    port: int
    connections: int
    duration_s: float
    warmup_s: float
    rate_per_s: float | None = None
    host: str = "127.0.0.1"
    grace_s: float = 10.0

    def __post_init__(self) -> None:
        if self.connections < 1 or self.duration_s <= 0 or self.warmup_s < 0 or self.grace_s < 0:
            raise ValueError("connections and duration must be positive, warm-up and grace not negative")
        if self.rate_per_s is not None and self.rate_per_s <= 0:
            raise ValueError("a rate must be positive")


class Book:
    """The run's times, and what it counted."""

    def __init__(self, settings: LoadSettings, begin: float) -> None:
        self.settings = settings
        self.begin = begin
        self.measured_from = begin + settings.warmup_s
        self.end = self.measured_from + settings.duration_s
        self.latencies_s = array("d")
        self.served_s = array("d")
        self.refused_s = array("d")
        self.answered_within = 0
        self.answered_in_all = 0
        self.refused: Counter[str] = Counter()
        self.broken = 0
        self.example: str | None = None

    def answer(self, status: int, first_bytes: bytes, started: float, sent: float, now: float) -> None:
        """An answer belongs to the window by its arrival in a closed loop, by its schedule in an open one."""
        within = self.measured_from <= now < self.end
        if not 200 <= status < 300:
            self.refused[str(status)] += 1
            if within:
                self.refused_s.append(now - sent)
            self._keep_example(first_bytes[:EXAMPLE_MAX_BYTES].decode(errors="replace"))
            return
        self.answered_in_all += 1
        if within:
            self.served_s.append(now - sent)
        if within if self.settings.rate_per_s is None else self.measured_from <= started < self.end:
            self.latencies_s.append(now - started)
            self.answered_within += within

    def breakage(self, reason: str) -> None:
        self.broken += 1
        self._keep_example(f"connection broken: {reason}")

    def _keep_example(self, text: str) -> None:
        if self.example is None:
            self.example = text

    def result(self, unanswered: int, schedule: Schedule | None) -> LoadResult:
        settings = self.settings
        return LoadResult(
            mode="closed" if settings.rate_per_s is None else "open",
            connections=settings.connections,
            rate_per_s=settings.rate_per_s,
            window_s=settings.duration_s,
            answered=len(self.latencies_s),
            answered_in_all=self.answered_in_all,
            throughput_per_s=round(self.answered_within / settings.duration_s, 1),
            latency=Latency.of_seconds(self.latencies_s),
            errors=Errors(dict(self.refused), self.broken, unanswered, self.example),
            schedule=schedule,
            cpu_s=round(time.process_time(), 3),
            served_latency=Latency.of_seconds(self.served_s),
            refusal_latency=Latency.of_seconds(self.refused_s),
            goodput_per_s=round(len(self.served_s) / settings.duration_s, 1),
        )


class Loop(ABC):
    """What both loops share: C connections kept open, and the wait for the end."""

    def __init__(self, settings: LoadSettings, plan: RequestPlan) -> None:
        self._settings = settings
        self._requests = PreparedRequests(plan, f"{settings.host}:{settings.port}")
        self._open: set[Connection] = set()
        self._outstanding = 0
        self._book = Book(settings, clock())
        self._running = False  # between the start and the end of the window
        self._settled = asyncio.Event()
        self._reconnects: set[asyncio.Task[None]] = set()

    async def run(self) -> LoadResult:
        """Raises OSError (TimeoutError among them) where not every connection can be made at the start."""
        try:
            for _ in range(self._settings.connections):
                await self._connect()
            if len(self._open) < self._settings.connections:
                raise ConnectionError("the server closed a connection before its first request")
            self._book = Book(self._settings, clock())
            self._running = True
            self._start(list(self._open))
            await asyncio.sleep(self._book.end - clock())
            self._stop()
            self._running = False
            if self._outstanding:
                await self._wait_for_answers()
            return self._book.result(self._outstanding, self._schedule())
        finally:
            self._running = False
            for task in self._reconnects:
                task.cancel()
            await asyncio.gather(*self._reconnects, return_exceptions=True)
            for connection in list(self._open):
                connection.close()

    @abstractmethod
    def _start(self, connections: list[Connection]) -> None:
        """Begin to send."""

    @abstractmethod
    def _stop(self) -> None:
        """The window has ended: nothing is sent after this call."""

    @abstractmethod
    def _ready(self, connection: Connection) -> None:
        """The connection has nothing outstanding: send on it, or keep it."""

    @abstractmethod
    def _schedule(self) -> Schedule | None: ...

    def _send(self, connection: Connection, started: float) -> None:
        self._outstanding += 1
        connection.sent = clock()
        connection.send(self._requests.next(), started)

    def on_open(self, connection: Connection) -> None:
        self._open.add(connection)

    def on_answer(self, connection: Connection, status: int, first_bytes: bytes, closes: bool) -> None:
        now = clock()
        assert connection.started is not None
        self._book.answer(status, first_bytes, connection.started, connection.sent, now)
        self._end_of_request(connection)
        if closes:
            connection.close()
        else:
            self._ready(connection)

    def on_lost(self, connection: Connection, reason: str) -> None:
        self._open.discard(connection)
        if connection.started is not None:
            self._book.breakage(reason)
            self._end_of_request(connection)
        if self._running:
            task = asyncio.get_running_loop().create_task(self._reconnect())
            self._reconnects.add(task)
            task.add_done_callback(self._reconnects.discard)

    def _end_of_request(self, connection: Connection) -> None:
        connection.started = None
        self._outstanding -= 1
        if not self._running and not self._outstanding:
            self._settled.set()

    async def _wait_for_answers(self) -> None:
        try:
            async with asyncio.timeout(self._settings.grace_s):
                await self._settled.wait()
        except TimeoutError:
            return  # what is still outstanding is counted as unanswered

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, connection = await loop.create_connection(
                lambda: Connection(self), self._settings.host, self._settings.port
            )
        return connection

    async def _reconnect(self) -> None:
        while self._running:
            await asyncio.sleep(RECONNECT_PAUSE_S)
            try:
                connection = await self._connect()
            except OSError as error:
                self._book.breakage(f"not made again: {error}")
                continue
            self._ready(connection)
            return


class ClosedLoop(Loop):
    """Each connection sends its next request as soon as it has the last answer."""

    def _start(self, connections: list[Connection]) -> None:
        for connection in connections:
            self._ready(connection)

    def _stop(self) -> None:
        pass

    def _ready(self, connection: Connection) -> None:
        if self._running and (now := clock()) < self._book.end:
            self._send(connection, now)

    def _schedule(self) -> Schedule | None:
        return None


class Due:
    """An even schedule: request number n falls due at `begin + n / rate_per_s`, up to and without `end`."""

    def __init__(self, begin: float, end: float, rate_per_s: float) -> None:
        self._begin = begin
        self._end = end
        self._rate_per_s = rate_per_s
        self._number = 0

    def peek(self) -> float | None:
        """When the next request falls due; None after the last."""
        due = self._begin + self._number / self._rate_per_s
        return due if due < self._end else None

    def take(self, now: float) -> list[float]:
        """The times at or before `now` that have not been taken yet, in order."""
        taken: list[float] = []
        while (due := self.peek()) is not None and due <= now:
            taken.append(due)
            self._number += 1
        return taken


class OpenLoop(Loop):
    """Requests fall due at an even rate; one for which no connection is free waits, and its latency with it."""

    def __init__(self, settings: LoadSettings, plan: RequestPlan) -> None:
        super().__init__(settings, plan)
        self._free: deque[Connection] = deque()
        self._waiting: deque[float] = deque()
        self._lags_s = array("d")
        self._scheduled = self._behind_max = 0

    def _start(self, connections: list[Connection]) -> None:
        assert self._settings.rate_per_s is not None
        self._due = Due(self._book.begin, self._book.end, self._settings.rate_per_s)
        self._free.extend(connections)
        self._tick()

    def _stop(self) -> None:
        self._tick()  # what fell due since the last one

    def _tick(self) -> None:
        taken = self._due.take(clock())
        self._waiting.extend(taken)
        self._scheduled += sum(due >= self._book.measured_from for due in taken)
        while self._waiting and self._free:
            if (connection := self._free.popleft()).is_open:
                self._send_oldest(connection)
        self._behind_max = max(self._behind_max, len(self._waiting))
        if (due := self._due.peek()) is not None:
            asyncio.get_running_loop().call_later(max(TICK_MIN_S, due - clock()), self._tick)

    def _ready(self, connection: Connection) -> None:
        if self._waiting and self._running:
            self._send_oldest(connection)
        else:
            self._free.append(connection)

    def _send_oldest(self, connection: Connection) -> None:
        due = self._waiting.popleft()
        if due >= self._book.measured_from:
            self._lags_s.append(clock() - due)
        self._send(connection, due)

    def _schedule(self) -> Schedule | None:
        behind_at_end = len(self._waiting)
        return Schedule(
            scheduled=self._scheduled,
            behind_max=self._behind_max,
            behind_at_end=behind_at_end,
            send_lag_p99_ms=round(percentile(sorted(self._lags_s), 99) * 1000, 3) if self._lags_s else None,
            kept_up=behind_at_end <= self._scheduled * BEHIND_MAX_SHARE,
        )


async def run_load(settings: LoadSettings, plan: RequestPlan) -> LoadResult:
    """Raises OSError where the server cannot be reached at the start."""
    loop = ClosedLoop(settings, plan) if settings.rate_per_s is None else OpenLoop(settings, plan)
    return await loop.run()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description="HTTP load; the plan is read as JSON.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--duration", type=float, default=10.0, metavar="S", help="measured window, in seconds")
    parser.add_argument("--warmup", type=float, default=2.0, metavar="S", help="before the window, not counted")
    parser.add_argument("--rate", type=float, metavar="PER_S", help="open loop at this rate (default: closed loop)")
    parser.add_argument("--plan", type=argparse.FileType("r"), default=sys.stdin, help="file (default: standard input)")
    chosen = parser.parse_args(arguments)
    settings = LoadSettings(
        port=chosen.port,
        connections=chosen.connections,
        duration_s=chosen.duration,
        warmup_s=chosen.warmup,
        rate_per_s=chosen.rate,
        host=chosen.host,
    )
    plan = RequestPlan.from_json(chosen.plan.read())
    gc.disable()  # a run makes no cycles worth a pause in the middle of it
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result = runner.run(run_load(settings, plan))
    except OSError as error:
        print(f"bench.load: {settings.host}:{settings.port}: {error}", file=sys.stderr)
        return 2
    print(result.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
