"""What is said seldom."""

from __future__ import annotations

import json
import logging

import pytest

from ngsp.seldom import MOST_KINDS, Seldom
from ngsp.telemetry import configure_logging


class Clock:
    at = 0.0

    def __call__(self) -> float:
        return self.at


def test_the_same_is_said_at_once_and_then_now_and_then_with_how_often_it_was_not() -> None:
    clock = Clock()
    seldom = Seldom(10, clock)
    assert seldom.held_back("away") == 0
    assert [seldom.held_back("away") for _ in range(3)] == [None] * 3
    assert seldom.held_back("other") == 0
    clock.at = 9.9
    assert seldom.held_back("away") is None
    clock.at = 10.0
    assert seldom.held_back("away") == 4
    clock.at = 30.0
    assert seldom.held_back("away") == 0


def test_what_was_said_is_not_kept_without_bound() -> None:
    seldom = Seldom()
    for number in range(MOST_KINDS * 3):
        assert seldom.held_back(str(number)) == 0
    assert len(seldom._said) <= MOST_KINDS


def test_the_client_library_of_kafka_says_the_same_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO")
    for node in range(50):
        logging.getLogger("aiokafka.client").error("Unable connect to node with id %s", node)
        logging.getLogger("ours").error("another library says each of its lines")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    said = [line["event"] for line in lines if line["logger"] == "aiokafka.client"]
    assert said == ["Unable connect to node with id 0"]
    assert len(lines) == 51
