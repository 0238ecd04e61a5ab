"""An adapter process at its fastest: the runner with a function that does nothing, next to a bare loop of aiokafka.

Both are processes of their own over one broker, and work off the same requests of 1 KB, which lie on the topic before
they start; both reply with 1 KB to the topic that the request names. What the runner adds: commits of the finished
prefix, bounds, checks of envelope, deadline and schema, a task for each message. The rate is taken from the end of the
reply topic, the processor time from the process itself.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from bench.adapters.figures import Figure, table
from bench.child import Child
from bench.figures import median
from bench.topics import create_topics
from ngsp.local.kafka import LocalKafka
from ngsp.local.programs import Programs, key_file
from ngsp.messages import Envelope, uuid7
from ngsp.text import tr

GOAL_PER_S = 3_000.0
REQUEST_TOPIC, REPLY_TOPIC = "ngsp.request.G12.echo.v1", "ngsp.reply.1"
NOTE = "n" * 960
BARE, RUNNER = "aiokafka", "runner"
"""The first is the reference."""
WARMTH = 0.1
"""Of the requests, as many are not counted."""
LONGEST_S = 180.0


async def measure(quick: bool) -> list[str]:
    """The lines of the report, the last with the goal."""
    count, repetitions = (2_000, 1) if quick else (20_000, 3)
    runs: dict[str, list[tuple[float, float]]] = {BARE: [], RUNNER: []}
    with tempfile.TemporaryDirectory(prefix="ngsp-bench-") as folder:
        async with LocalKafka(Path(folder)) as kafka:
            for _ in range(repetitions):
                for name, taken in runs.items():
                    taken.append(await _run(kafka.bootstrap, Path(folder), name, count))
            await kafka.remove()
    figures = [
        Figure(name, median([cpu_us for _, cpu_us in taken]), median([per_s for per_s, _ in taken]))
        for name, taken in runs.items()
    ]
    bare, runner = figures
    assert bare.per_s is not None
    assert runner.per_s is not None
    head = tr("một tiến trình bộ kết nối, yêu cầu 1 KB:", "one adapter process, requests of 1 KB:")
    last = (
        f"runner per_s={runner.per_s:.0f} goal={GOAL_PER_S:.0f} to_aiokafka={runner.per_s / bare.per_s:.2f} "
        f"per_core_s={1e6 / runner.cpu_us:.0f}"
    )
    return [head, "", table(figures), "", last]


async def _run(bootstrap: str, folder: Path, name: str, count: int) -> tuple[float, float]:
    """Requests a second, and processor time of the process in µs a request."""
    await create_topics(bootstrap, REQUEST_TOPIC, REPLY_TOPIC)
    await _fill(bootstrap, count)
    async with AsyncExitStack() as stack:
        end = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        await end.start()
        stack.push_async_callback(end.stop)
        stack.push_async_callback(_delete, bootstrap)
        process = psutil.Process(await _start(stack, bootstrap, folder, name))
        begun_at, begun_cpu_s, warm = await _until(end, process, int(count * WARMTH))
        ended_at, ended_cpu_s, last = await _until(end, process, count)
    counted = last - warm
    return counted / (ended_at - begun_at), (ended_cpu_s - begun_cpu_s) / counted * 1e6


async def _start(stack: AsyncExitStack, bootstrap: str, folder: Path, name: str) -> int:
    """The id of the process, which ends with `stack`."""
    if name == BARE:
        child = await Child.start("bench.adapters.bare", {"bootstrap": bootstrap})
        stack.push_async_callback(child.stop)
        return child.pid
    programs = Programs(folder / "logs")
    stack.push_async_callback(programs.stop_all)
    variables = {
        "NGSP_ADAPTER_KAFKA_BOOTSTRAP": bootstrap,
        "NGSP_ADAPTER_KEY_FILE": str(key_file(folder / "adapter.key")),
    }
    await programs.start(RUNNER, ["-m", "ngsp", "adapter", "run", "bench.full.adapter"], variables)
    return programs.running[RUNNER].pid


async def _until(end: AIOKafkaConsumer, process: psutil.Process, wanted: int) -> tuple[float, float, int]:
    """When `wanted` replies were there, what processor time that had taken, and how many there were then."""
    partition = TopicPartition(REPLY_TOPIC, 0)
    async with asyncio.timeout(LONGEST_S):
        while True:
            found = (await end.end_offsets([partition]))[partition]
            if found >= wanted:
                times = process.cpu_times()
                return time.perf_counter(), times.user + times.system, found
            await asyncio.sleep(0.01)


def request_body() -> bytes:
    return b'{"citizen":{"id":"900000000001"},"note":"%s"}' % NOTE.encode()


async def _fill(bootstrap: str, count: int) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_batch_size=128 * 1024)
    await producer.start()
    body = request_body()
    deadline_ms = int(time.time() * 1000) + 600_000
    sent = []
    for _ in range(count):
        request = Envelope(
            uuid7(), "G12/echo/v1", deadline_ms, "measurement", ("",), "0" * 16 + "." + "0" * 16, REPLY_TOPIC, body,
            consumer="G22", officer="canbo-0017",
        )  # fmt: skip
        sent.append(await producer.send(REQUEST_TOPIC, body, headers=request.headers()))
    await asyncio.gather(*sent)
    await producer.stop()


async def _delete(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    topics: Sequence[str] = (REQUEST_TOPIC, REPLY_TOPIC)
    await admin.delete_topics(list(topics))
    while set(topics) & set(await admin.list_topics()):
        await asyncio.sleep(0.05)
    await admin.close()
