"""The test run itself: shared out to other processes, it still counts what met a real server and what was skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.spreading import LONGEST, TOGETHER, piece_of, place_of

PROJECT = Path(__file__).parents[1]
NEEDS_KAFKA = "tests/bus/test_bus_contract.py::test_sending_makes_no_topic"
NEEDS_NOTHING = "tests/test_spreading.py::test_what_shares_a_server_is_one_piece_and_the_longest_come_first"


@pytest.mark.parametrize(("ci", "outcome"), [("", 0), ("true", 1)])
def test_kafka_tests_without_kafka_are_skipped_loudly_and_fail_in_ci(ci: str, outcome: int, tmp_path: Path) -> None:
    """On a machine without Java and Docker."""
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "CI": ci, "TMPDIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-p", "no:cacheprovider", NEEDS_KAFKA, NEEDS_NOTHING],
        cwd=PROJECT,
        env=environment | {name: os.environ[name] for name in ("LANG",) if name in os.environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == outcome, run.stdout + run.stderr
    assert ("KAFKA TESTS WERE SKIPPED" in run.stdout) == (not ci)
    assert f"kafka tests: 0 run, {0 if ci else 1} skipped" in run.stdout
    assert "2 passed" in run.stdout  # the same test over the bus inside the process, and the one that needs nothing


def test_what_shares_a_server_is_one_piece_and_the_longest_come_first() -> None:
    one, other = "tests/bus/test_bus_order.py::test_a", "tests/adapter/test_process.py::test_b[x]"
    assert piece_of(one) == piece_of(other) == "the broker"
    quota, kills, demo = "tests/test_quota.py::test_a", "tests/faults/test_kills.py::test_b", "tests/docs/test_a.py::c"
    assert piece_of(quota) == "tests/test_quota.py"
    assert sorted([quota, one, demo, kills, other], key=place_of) == [kills, one, other, demo, quota]


def test_the_pieces_are_those_of_files_that_are_there() -> None:
    for path in (*TOGETHER, *LONGEST):
        assert path in TOGETHER.values() or (PROJECT / path).exists(), path
