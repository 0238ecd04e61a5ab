"""The REST back end, whole, against the fast server: next to a bare call of the client library under it, and of httpx.

64 calls at a time, all in this process; the server is another. What the back end adds is expressions, breaker,
deadline, bounds and outcomes. httpx is there to show why it was not taken. `per_core_s` is what the processor time
alone would allow: what the figure tends to where nothing else runs.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import orjson

from bench.adapters.figures import Figure, table
from bench.adapters.reply import MAPPING, TABLES
from bench.child import Child
from bench.figures import median
from ngsp.adapter import Adapter, Request
from ngsp.adapter.addresses import VARIABLE
from ngsp.messages import Envelope, uuid7
from ngsp.text import tr

GOAL_PER_S = 1_500.0
AT_ONCE = 64
PATH = "/tra-cuu?soDinhDanh=912185000017"
MANIFEST: dict[str, Any] = {
    "id": "bench-rest",
    "provider": "G22",
    "backend": {"kind": "rest", "url": {"env": "URL"}, "connections": AT_ONCE},
    "tables": TABLES,
    "services": [
        {
            "service": "bench",
            "version": "v1",
            "deadline_s": 30,
            "title": {"vi": "Đo", "en": "Bench"},
            "description": {"vi": "Đo", "en": "Bench"},
            "request_schema": {"type": "object"},
            "reply_schema": {"type": "object"},
            "call": {"path": "/tra-cuu", "query": {"soDinhDanh": "payload.soDinhDanh"}, "headers": {"X-Id": "id"}},
            "reply": MAPPING,
            "outcomes": [{"when": "body.KET_QUA != 'OK'", "outcome": "failed"}],
        }
    ],
}

Call = Callable[[], Awaitable[None]]
Opened = Callable[[str], AbstractAsyncContextManager[Call]]


@asynccontextmanager
async def bare_aiohttp(url: str) -> AsyncIterator[Call]:
    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def call() -> None:
            async with session.get(url + PATH, allow_redirects=False) as response:
                orjson.loads(await response.read())

        yield call


@asynccontextmanager
async def bare_httpx(url: str) -> AsyncIterator[Call]:
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    async with httpx.AsyncClient(limits=limits, timeout=60.0, trust_env=False) as client:

        async def call() -> None:
            orjson.loads((await client.get(url + PATH)).content)

        yield call


@asynccontextmanager
async def back_end(url: str) -> AsyncIterator[Call]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.yaml"
        path.write_bytes(orjson.dumps(MANIFEST))  # JSON is YAML
        adapter = Adapter.load(path)
    serve = adapter.function("G22/bench/v1")
    body = orjson.dumps({"soDinhDanh": "912185000017"})
    async with adapter.open_resources({"URL": url, VARIABLE: "127.0.0.1"}.get):

        async def call() -> None:
            until = int(time.time() * 1000) + 30_000
            await serve(Request(Envelope(uuid7(), "G22/bench/v1", until, "bench", ("",), "", "", body)))

        yield call


SUBJECTS = {"aiohttp": bare_aiohttp, "httpx": bare_httpx, "REST": back_end}
"""The first is the reference."""


async def measure(quick: bool) -> list[str]:
    """The lines of the report, the last with the goal."""
    figures = await compared("bench.adapters.server", "", SUBJECTS, quick)
    head = tr(f"HTTP, {AT_ONCE} lời gọi một lúc:", f"HTTP, {AT_ONCE} calls at a time:")
    bare, rest = figures[0], figures[-1]
    assert bare.per_s is not None
    assert rest.per_s is not None
    last = (
        f"rest per_s={rest.per_s:.0f} goal={GOAL_PER_S:.0f} to_aiohttp={rest.per_s / bare.per_s:.2f} "
        f"per_core_s={1e6 / rest.cpu_us:.0f}"
    )
    return [head, "", table(figures), "", last]


async def compared(server: str, path: str, subjects: Mapping[str, Opened], quick: bool) -> list[Figure]:
    """Each subject's medians, calling `path` of the child `server`: all open at once, their runs in turn."""
    child = await Child.start(server, {})
    window_s, repetitions = (0.2, 1) if quick else (2.0, 5)
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in subjects}
    try:
        async with AsyncExitStack() as stack:
            url = f"http://127.0.0.1:{child.ready['port']}{path}"
            calls = {name: await stack.enter_async_context(opened(url)) for name, opened in subjects.items()}
            for call in calls.values():
                await run(call, window_s)
            for _ in range(repetitions):
                for name, call in calls.items():
                    runs[name].append(await run(call, window_s))
    finally:
        await child.stop()
    return [
        Figure(name, median([cpu_us for _, cpu_us in taken]), median([per_s for per_s, _ in taken]))
        for name, taken in runs.items()
    ]


async def run(call: Call, window_s: float) -> tuple[float, float]:
    """Calls a second, and processor time of this process in µs a call."""
    end, made = time.perf_counter() + window_s, 0

    async def again() -> None:
        nonlocal made
        while time.perf_counter() < end:
            await call()
            made += 1

    begun, begun_cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(again() for _ in range(AT_ONCE)))
    used_s = time.process_time() - begun_cpu
    return made / (time.perf_counter() - begun), used_s / made * 1e6
