"""What all tests share: the servers, and the count of tests that really met them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import kafka, kafka_programs_present, postgres

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter

__all__ = ["kafka", "kafka_programs_present", "postgres"]

_MARK_BY_FIXTURE = {"kafka": "kafka", "kafka_programs_present": "kafka", "postgres": "postgres"}
_marks: dict[str, set[str]] = {}
_counts: Counter[tuple[str, str]] = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in _MARK_BY_FIXTURE:
                item.add_marker(_MARK_BY_FIXTURE[fixture])
        _marks[item.nodeid] = {name for name in set(_MARK_BY_FIXTURE.values()) if item.get_closest_marker(name)}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome = "skipped" if report.skipped else "run" if report.when == "call" else None
    if outcome:
        for mark in _marks.get(report.nodeid, ()):
            _counts[mark, outcome] += 1


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    skipped = _counts["kafka", "skipped"]
    if skipped:
        terminalreporter.section("KAFKA TESTS WERE SKIPPED", sep="!", red=True, bold=True)
        terminalreporter.line("They need Java 17 and Maven, or Docker: see scripts/ensure-java.", red=True)
    kafka_run, postgres_run = _counts["kafka", "run"], _counts["postgres", "run"]
    terminalreporter.line(f"kafka tests: {kafka_run} run, {skipped} skipped; postgres tests: {postgres_run} run")
