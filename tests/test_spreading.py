"""The test run itself: shared out to other processes, it still counts what met a real server and what was skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.spreading import piece_of, place_of

PROJECT = Path(__file__).parents[1]
NEEDS_KAFKA = "tests/bus/test_bus_contract.py::test_sending_makes_no_topic"
NEEDS_NOTHING = "tests/test_spreading.py::test_a_folder_that_shares_servers_is_one_piece"


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


def test_a_folder_that_shares_servers_is_one_piece() -> None:
    one, other = "tests/faults/test_kills.py::test_a", "tests/faults/test_drain.py::test_b[x]"
    assert piece_of(one) == piece_of(other)
    assert piece_of("tests/test_quota.py::test_a") == "tests/test_quota.py"
    found = sorted(["tests/test_quota.py::test_a", "tests/docs/test_readme.py::test_c", one, other], key=place_of)
    assert found == [one, other, "tests/docs/test_readme.py::test_c", "tests/test_quota.py::test_a"]
