"""Children that end with their parent, and the reading of processor time."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from bench.child import Child, ChildError
from bench.machine import ProcessorTimes, commit, machine
from bench.measure import CLOSED_16, LoadError, run_load_process
from bench.plan import RequestPlan

if TYPE_CHECKING:
    from pathlib import Path

ECHO = """
import asyncio
from bench.child import Parent
async def main():
    parent = await Parent.meet()
    parent.say_ready(told=parent.settings["word"])
    await parent.wait_for_end()
    if parent.settings["word"] == "fail":
        raise SystemExit(3)
asyncio.run(main())
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "bench_echo_child.py").write_text(ECHO)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return "bench_echo_child"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_child_is_told_and_tells(module: str) -> None:
    child = await Child.start(module, {"word": "chào"})
    assert child.ready == {"told": "chào"}
    assert alive(child.pid)
    await child.stop()
    assert not alive(child.pid)


async def test_a_child_that_fails_at_its_end_is_an_error(module: str) -> None:
    child = await Child.start(module, {"word": "fail"})
    with pytest.raises(ChildError, match="exit status 3"):
        await child.stop()


async def test_a_child_that_does_not_start_is_an_error() -> None:
    with pytest.raises(ChildError, match="did not start: exit status 1"):
        await Child.start("bench.no_such_module", {})


def test_a_child_ends_when_its_parent_is_killed(module: str) -> None:
    program = (
        "import asyncio; from bench.child import Child\n"
        "async def main():\n"
        f"    child = await Child.start({module!r}, {{'word': 'x'}})\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 20
    while running(pid):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.02)


def running(pid: int) -> bool:
    """Alive and not merely waiting to be reaped by whoever inherited it."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - one read, in a loop
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_our_own_time_is_not_that_of_others() -> None:
    before = ProcessorTimes.now({"me": os.getpid()})
    burn(0.3)
    after = ProcessorTimes.now({"me": os.getpid()})
    assert after.of_since(before)["me"] >= 0.25
    assert after.ours_s - before.ours_s >= 0.25
    assert after.busy_s - before.busy_s >= 0.2
    assert 0 <= after.others_share_since(before) <= 1


def test_the_time_of_ended_children_is_ours() -> None:
    before = ProcessorTimes.now({})
    program = "import time\nwhile time.process_time() < 0.4: pass"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert ProcessorTimes.now({}).ours_s - before.ours_s >= 0.35


def test_shares() -> None:
    cores = os.cpu_count() or 1
    before = ProcessorTimes(at_s=100, ours_s=1.0, busy_s=50.0, of_s={})
    after = ProcessorTimes(at_s=110, ours_s=1.0 + 4 * cores, busy_s=50.0 + 7 * cores, of_s={})
    assert after.others_share_since(before) == pytest.approx(0.3)


def test_a_process_that_is_gone_has_used_nothing() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert ProcessorTimes.now({"gone": gone.pid}).of_s == {"gone": 0.0}


def test_the_machine_and_the_commit_are_one_line() -> None:
    assert re.search(r", \d+ cores, \d+ GiB, \w+ .+, Python 3\.", machine())
    assert re.fullmatch(r"unknown|[0-9a-f]{12}(\+changes)?", commit())
    assert "\n" not in machine()


async def test_a_load_that_meets_nobody_is_an_error() -> None:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(LoadError, match=str(port)):
        await run_load_process(port, RequestPlan("GET", "/"), CLOSED_16, 0.1, 0.0)
