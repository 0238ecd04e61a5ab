"""`ngsp demo`: brings the world up, runs the main job, prints what happened, and stays up or exits."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from ngsp.client import CallError
from ngsp.demo.steps import BIRTH, ENTERPRISE, POPULATION, UNITS, MainJob, NotVerified, example
from ngsp.demo.world import World
from ngsp.local.process import LocalServerError
from ngsp.text import Text, tr

SERVICES = (
    (UNITS, "query", "catalogue-lookup"),
    (ENTERPRISE, "query", "enterprise-verification"),
    (POPULATION, "query", "birth-registration"),
    (BIRTH, "submission", "birth-registration"),
)


def _say(text: str) -> None:
    print(text, flush=True)


def run_demo(*, port: int, data: Path, once: bool, kafka: str | None, database: str | None) -> int:
    """Exit code: 0 where every step was verified, 1 otherwise."""
    return asyncio.run(_run(port, data, once, kafka, database))


async def _run(port: int, data: Path, once: bool, kafka: str | None, database: str | None) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    started = time.monotonic()
    world = World(data, port, kafka, database, _say)
    try:
        work = asyncio.create_task(_show(world, started))
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait([work, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            return 1
        work.result()
        if not once:
            await _stay(world, stopping)
    except (NotVerified, CallError, LocalServerError) as error:
        print(tr(f"KHÔNG ĐẠT: {error}", f"FAILED: {error}"), file=sys.stderr, flush=True)
        _say(tr(f"Nhật ký: {world.data / 'logs'}", f"Logs: {world.data / 'logs'}"))
        return 1
    finally:
        await world.close()
    return 0


async def _show(world: World, started: float) -> None:
    await world.open()
    _say(
        tr(
            f"Sẵn sàng sau {time.monotonic() - started:.1f} giây tại {world.base_url}\n",
            f"Ready after {time.monotonic() - started:.1f} seconds at {world.base_url}\n",
        )
    )
    job = MainJob(world.base_url, world.secret_of, world.provider_url, world.told, _say)
    verified = await job.run()
    _write_description(world)
    _say(
        tr(
            f"\n{verified} bước đã được kiểm chứng, kể cả trong sổ của nơi cung cấp và trong nhật ký giao dịch.",
            f"\n{verified} steps verified, in the provider's own table and in the transaction log too.",
        )
    )


def _write_description(world: World) -> None:
    """`demo.json`, for scripts and for the transcript in the README; readable by its owner only: it holds secrets."""

    def client(id: str, member: str, scopes: list[str]) -> dict[str, Any]:
        return {"id": id, "secret": world.secret_of(id), "member": member, "scopes": scopes}

    document = {
        "base_url": world.base_url,
        "clients": [
            client("g22-portal", "G22", ["exchange", "registry"]),
            client("h41-onestop", "H41", ["exchange"]),
            client("h14-onestop", "H14", ["exchange"]),
            client("h14-trial", "H14", ["exchange"]) | {"sandbox": True},
        ],
        "services": [
            {"path": f"/v1/services/{path}", "mode": mode, "purpose": purpose, "example": example(path)}
            for path, mode, purpose in SERVICES
        ],
        "operator": client("operator", "G22", ["operator", "auditor", "registry"]),
        "console_url": f"{world.base_url}/docs",
        "database_url": world.database_url,
        "kafka_bootstrap": world.bootstrap,
    }
    path = world.data / "demo.json"
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


async def _stay(world: World, stopping: asyncio.Event) -> None:
    _say(
        tr(
            f"Đang chạy. Tài liệu giao diện: {world.base_url}/docs – thông tin đăng nhập thử: {world.data}/demo.json\n"
            "Dừng bằng Ctrl-C.",
            f"Running. Interface: {world.base_url}/docs – credentials to try with: {world.data}/demo.json\n"
            "Stop with Ctrl-C.",
        )
    )
    watched = [asyncio.create_task(process.wait(), name=name) for name, process in world.programs.running.items()]
    stop = asyncio.create_task(stopping.wait())
    done, _ = await asyncio.wait([*watched, stop], return_when=asyncio.FIRST_COMPLETED)
    for task in [*watched, stop]:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*watched, stop, return_exceptions=True)
    ended = [task.get_name() for task in done if task is not stop]
    if ended:
        raise LocalServerError(Text("«{name}» đã dừng bất ngờ", "'{name}' ended unexpectedly").format(name=ended[0]))
