"""The bench of slow clients: what they send, and the command."""

from __future__ import annotations

import asyncio

import pytest

from bench.__main__ import main
from bench.plan import RequestPlan
from bench.slow import beginnings, slow_clients
from tests.support.waiting import until

PLAN = RequestPlan("POST", "/v1/services/G12/echo/v1", {"Authorization": "Bearer x"}, ("{}",))


async def test_they_go_on_a_byte_at_a_time_and_come_again_when_they_are_cut_off() -> None:
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(b"")
        mine = len(got) - 1
        while part := await reader.read(1_000):
            got[mine] += part
            if mine == 0 and got[mine].endswith(b"aa"):
                break
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        async with slow_clients(server.sockets[0].getsockname()[1], PLAN, 2) as crowd:
            await until(lambda: crowd.cut_off == 1 and crowd.open == 2, "the one cut off to be there again")
            await until(lambda: got[2].endswith(b"a"), "its first byte")
        assert crowd.open == 0
    unended, bodiless = beginnings(PLAN)
    assert unended.startswith(b"POST /v1/services/G12/echo/v1 HTTP/1.1\r\n")
    assert b"\r\n\r\n" not in unended
    assert bodiless.endswith(b"\r\n\r\n")
    assert {each.rstrip(b"a") for each in got} == {unended.rstrip(b"a"), bodiless}
    assert got[0] == got[2][: len(got[2].rstrip(b"a"))] + b"aa"


@pytest.mark.long
@pytest.mark.usefixtures("kafka_programs_present")
def test_the_calls_of_others_are_measured_without_and_with_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slow", "--quick", "--clients", "20"]) == 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert last.startswith("S7 slow p99_ratio=")
