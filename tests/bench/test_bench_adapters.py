"""The bench of adapters measures what it says, by the command that people give."""

from __future__ import annotations

import re

import orjson
import pytest

from bench.__main__ import main
from bench.adapters.figures import Figure, table
from bench.adapters.runner import request_body
from bench.adapters.server import BODY
from bench.full.adapter import adapter as echoing
from ngsp.registry.schemas import compiled


def test_a_part_is_printed_next_to_its_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "mapping", "--quick"]) == 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"mapping us=[0-9.]+ goal=60", last)


def test_the_rest_back_end_is_measured_against_a_server_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "rest", "--quick"]) == 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"rest per_s=[1-9][0-9]* goal=1500 to_aiohttp=[0-9.]+ per_core_s=[1-9][0-9]*", last)


def test_the_soap_back_end_is_measured_beside_zeeps_own_clients(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "soap", "--quick"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len([line for line in lines if "zeep" in line]) == 4
    wanted = r"soap per_s=[1-9][0-9]* to_aiohttp=[0-9.]+ per_core_s=[1-9][0-9]* write_us=[0-9]+ read_us=[0-9]+"
    assert re.fullmatch(wanted, lines[-1])


@pytest.mark.long
@pytest.mark.usefixtures("kafka_programs_present")
def test_the_runner_is_measured_beside_a_bare_loop(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapters", "runner", "--quick"]) == 0
    *_, last = capsys.readouterr().out.strip().splitlines()
    assert re.fullmatch(r"runner per_s=[1-9][0-9]* goal=3000 to_aiokafka=[0-9.]+ per_core_s=[1-9][0-9]*", last)


def test_the_requests_of_the_runner_are_of_one_kilobyte_and_by_its_schema() -> None:
    body = orjson.loads(request_body())
    assert 1_000 <= len(request_body()) <= 1_100
    (service,) = echoing.declared().values()
    assert compiled(service.request_schema).validator.is_valid(body)


def test_the_reply_is_of_one_kilobyte() -> None:
    assert 1_000 <= len(BODY) <= 1_100
    assert orjson.loads(BODY)["KET_QUA"] == "OK"


def test_each_figure_stands_next_to_the_first() -> None:
    lines = table([Figure("one", 10.0, 2000.0), Figure("two", 25.0)]).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["one", "2,000", "10.0", "1.00"]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["two", "–", "25.0", "2.50"]
