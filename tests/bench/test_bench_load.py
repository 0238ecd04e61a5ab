"""The load generator against a server that counts: every request must be found again in the result, once."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from bench.figures import LoadResult
from bench.load import Due, LoadSettings, run_load
from bench.plan import RequestPlan
from tests.bench.tiny_server import BUSY, GOODBYE, OK, Answer, serving

PLAN = RequestPlan("POST", "/", {"Content-Type": "application/json"}, ('{"n":"{counter}"}',))
ROOT = Path(__file__).parents[2]


def settings(
    port: int, connections: int = 4, duration_s: float = 0.3, rate_per_s: float | None = None, grace_s: float = 10
) -> LoadSettings:
    return LoadSettings(port, connections, duration_s, 0.0, rate_per_s, grace_s=grace_s)


async def test_closed_loop_counts_what_the_server_answered() -> None:
    async with serving(lambda _: Answer()) as seen:
        result = await run_load(settings(seen.port, connections=8), PLAN)
        assert seen.connections == 8
        assert seen.pipelined == 0
        assert len(set(seen.requests)) == len(seen.requests)
        # an answer that comes when the window has closed is awaited, and not counted
        assert seen.answered - 8 <= result.answered <= seen.answered == len(seen.requests)
    assert result.answered > 8
    assert result.throughput_per_s == pytest.approx(result.answered / 0.3, abs=0.1)
    assert result.errors.total == 0
    assert result.errors.example is None
    assert result.schedule is None
    assert result.latency is not None
    assert 0 < result.latency.p50_ms <= result.latency.p95_ms <= result.latency.p99_ms <= result.latency.max_ms


async def test_the_warm_up_is_not_counted() -> None:
    async with serving(lambda _: Answer()) as seen:
        result = await run_load(LoadSettings(seen.port, 1, duration_s=0.1, warmup_s=0.1), PLAN)
        assert 0 < result.answered < result.answered_in_all == seen.answered


async def test_refusals_are_counted_apart_with_one_example() -> None:
    async with serving(lambda number: Answer((BUSY,)) if number % 3 == 1 else Answer()) as seen:
        result = await run_load(settings(seen.port), PLAN)
        refused = len(range(1, len(seen.requests), 3))
        assert result.errors.refused == {"503": refused}
        assert seen.answered - refused - 4 <= result.answered <= seen.answered - refused
    assert result.errors.example == BUSY.decode()
    assert result.refusal_latency is not None
    assert 0 < result.refusal_latency.p50_ms <= result.refusal_latency.max_ms


async def test_a_broken_connection_is_counted_and_made_again() -> None:
    async with serving(lambda number: Answer((), hang_up=True) if number == 5 else Answer()) as seen:
        result = await run_load(settings(seen.port), PLAN)
        assert seen.connections == 5
        assert len(seen.requests) > 10
    assert result.errors.broken == result.errors.total == 1
    assert result.errors.example == "connection broken: the connection was closed"


async def test_a_server_may_close_after_an_answer() -> None:
    async with serving(lambda _: Answer((GOODBYE,), hang_up=True)) as seen:
        result = await run_load(settings(seen.port, connections=2), PLAN)
        assert seen.connections >= 4
        assert result.answered >= 2
    assert result.errors.total == 0


async def test_what_is_never_answered_is_counted() -> None:
    async with serving(lambda number: Answer((), after_s=60) if number in (3, 4) else Answer()) as seen:
        result = await run_load(settings(seen.port, grace_s=0.05), PLAN)
    assert result.errors.unanswered == result.errors.total == 2


async def test_an_answer_may_come_in_any_pieces() -> None:
    cuts = [tuple(OK[at : at + size] for at in range(0, len(OK), size)) for size in (1, 3, 40)]
    async with serving(lambda number: Answer(cuts[number % 3])) as seen:
        result = await run_load(settings(seen.port), PLAN)
        assert seen.answered - 4 <= result.answered <= seen.answered
    assert result.answered > 6
    assert result.errors.total == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "no Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nok", "no number"),
        (OK + b"!", "beyond the Content-Length"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP/1.1 status line"),
        (b"x" * 70_000, "a head without end"),
    ],
)
async def test_what_is_not_understood_is_an_error(answer: bytes, reason: str) -> None:
    async with serving(lambda number: Answer((answer,)) if number == 0 else Answer()) as seen:
        result = await run_load(settings(seen.port), PLAN)
    assert result.errors.broken == result.errors.total == 1
    assert result.errors.example is not None
    assert reason in result.errors.example


async def test_a_status_without_a_body_needs_no_length() -> None:
    async with serving(lambda _: Answer((b"HTTP/1.1 204 No Content\r\n\r\n",))) as seen:
        result = await run_load(settings(seen.port), PLAN)
    assert result.answered > 0
    assert result.errors.total == 0


def test_requests_fall_due_evenly_and_once() -> None:
    due = Due(begin=100.0, end=101.0, rate_per_s=4)
    assert due.peek() == 100.0
    assert due.take(99.9) == []
    assert due.take(100.3) == [100.0, 100.25]
    assert due.take(100.3) == []
    assert due.peek() == 100.5
    assert due.take(1000.0) == [100.5, 100.75]
    assert due.peek() is None
    assert due.take(1000.0) == []


async def test_open_loop_sends_its_schedule() -> None:
    async with serving(lambda _: Answer()) as seen:
        result = await run_load(settings(seen.port, connections=8, duration_s=0.5, rate_per_s=200), PLAN)
        assert seen.pipelined == 0
        assert result.schedule is not None
        assert result.schedule.scheduled == 100
        assert result.answered == len(seen.requests) == 100 - result.schedule.behind_at_end
    assert result.errors.total == 0
    assert result.mode == "open"


async def test_open_loop_measures_its_window_alone() -> None:
    async with serving(lambda _: Answer()) as seen:
        result = await run_load(LoadSettings(seen.port, 8, duration_s=0.4, warmup_s=0.1, rate_per_s=100), PLAN)
        assert result.schedule is not None
        assert result.schedule.scheduled == 40
        assert len(seen.requests) == 50 - result.schedule.behind_at_end
        assert result.answered == 40 - result.schedule.behind_at_end


async def test_open_loop_counts_latency_from_the_schedule() -> None:
    """The only connection is held for half the run: what fell due meanwhile has waited, though it was answered fast."""
    async with serving(lambda number: Answer(after_s=0.3) if number == 0 else Answer()) as seen:
        result = await run_load(settings(seen.port, connections=1, duration_s=0.6, rate_per_s=200), PLAN)
        assert result.schedule is not None
        assert result.answered == len(seen.requests) == 120 - result.schedule.behind_at_end
    assert result.schedule.behind_max >= 50
    assert result.schedule.send_lag_p99_ms is not None
    assert result.schedule.send_lag_p99_ms >= 250
    assert result.latency is not None
    assert result.latency.max_ms >= 300
    assert result.latency.p95_ms >= 200


async def test_open_loop_says_when_it_could_not_keep_up() -> None:
    async with serving(lambda _: Answer(after_s=60)) as seen:
        result = await run_load(settings(seen.port, connections=3, duration_s=0.3, rate_per_s=100, grace_s=0.01), PLAN)
        assert len(seen.requests) == 3
    assert result.schedule is not None
    assert result.schedule.scheduled == 30
    assert result.schedule.behind_at_end == result.schedule.behind_max == 27
    assert not result.schedule.kept_up
    assert result.errors.unanswered == 3
    assert result.answered == 0
    assert result.latency is None


async def test_open_loop_outlives_lost_connections() -> None:
    """Every tenth request loses its connection; those that sit idle are closed after each answer by the server."""
    async with serving(lambda number: Answer((), hang_up=True) if number % 10 == 9 else Answer(hang_up=True)) as seen:
        result = await run_load(settings(seen.port, connections=6, duration_s=0.5, rate_per_s=60), PLAN)
        assert result.schedule is not None
        assert result.schedule.scheduled == 30
        assert result.answered + result.errors.total + result.schedule.behind_at_end == 30
        assert result.answered == seen.answered
        assert result.answered > 6


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def test_no_server_is_an_error_at_once(closed_port: int) -> None:
    with pytest.raises(OSError, match=str(closed_port)):
        await run_load(settings(closed_port), PLAN)


@pytest.mark.parametrize(
    "wrong",
    [
        {"connections": 0, "duration_s": 1.0, "warmup_s": 0.0},
        {"connections": 1, "duration_s": 0.0, "warmup_s": 0.0},
        {"connections": 1, "duration_s": 1.0, "warmup_s": -1.0},
        {"connections": 1, "duration_s": 1.0, "warmup_s": 0.0, "rate_per_s": 0.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        LoadSettings(port=1, **wrong)  # type: ignore[arg-type]


async def command(port: int, *more: str) -> tuple[int, str, str]:
    arguments = ["-m", "bench.load", "--port", str(port), "--connections", "2", "--duration", "0.2", "--warmup", "0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        *more,
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, errors = await process.communicate(PLAN.to_json().encode())
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def test_the_command_prints_its_result() -> None:
    async with serving(lambda _: Answer()) as seen:
        status, out, errors = await command(seen.port, "--rate", "50")
        assert (status, errors) == (0, "")
        result = LoadResult.from_json(out)
        assert (result.mode, result.connections, result.rate_per_s) == ("open", 2, 50)
        assert result.schedule is not None
        assert result.answered == len(seen.requests) == 10 - result.schedule.behind_at_end


async def test_the_command_says_when_there_is_no_server(closed_port: int) -> None:
    status, out, errors = await command(closed_port)
    assert (status, out) == (2, "")
    assert f"127.0.0.1:{closed_port}" in errors
    assert "Traceback" not in errors
