"""What all tests share: the servers, how tests are shared out, and the count of those that really met the servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import structlog

from tests.support.effort import be_quick
from tests.support.providers import on_mariadb, on_postgresql, on_sqlite, provider
from tests.support.servers import kafka, kafka_programs_present, mariadb, postgres
from tests.support.spreading import ByPiece, place_of

if TYPE_CHECKING:
    from _pytest.terminal import TerminalReporter
    from xdist.remote import Producer

__all__ = [
    "kafka",
    "kafka_programs_present",
    "mariadb",
    "on_mariadb",
    "on_postgresql",
    "on_sqlite",
    "postgres",
    "provider",
]

_MARK_BY_FIXTURE = {"kafka": "kafka", "kafka_programs_present": "kafka", "mariadb": "mariadb", "postgres": "postgres"}
_REMEDIES = {
    "kafka": "They need Java 17 and Maven, or Docker: see scripts/ensure-java.",
    "mariadb": "They need Debian's mariadb-server-core: see scripts/ensure-mariadb.",
}
"""Servers that a machine may lack."""
_NEEDS = "needs"
_counts: Counter[tuple[str, str]] = Counter()


@pytest.fixture
def own_logging() -> Iterator[None]:
    """For tests that type commands in this process: those make the log quieter, and others read it."""
    logging = structlog.get_config()
    yield
    structlog.configure(**logging)


def pytest_configure(config: pytest.Config) -> None:
    be_quick(config.getoption("markexpr") == "not long")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in _MARK_BY_FIXTURE:
                item.add_marker(_MARK_BY_FIXTURE[fixture])
        for mark in sorted(set(_MARK_BY_FIXTURE.values())):
            if item.get_closest_marker(mark):
                # Travels with the report from the process that ran the test to the one that counts.
                item.user_properties.append((_NEEDS, mark))
    items.sort(key=lambda item: place_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByPiece:
    config.option.loadscopereorder = False  # else by number of tests, which says nothing of how long they take
    return ByPiece(config, log)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    outcome = "skipped" if report.skipped else "run" if report.when == "call" else None
    if outcome:
        for name, mark in report.user_properties:
            if name == _NEEDS:
                _counts[str(mark), outcome] += 1


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    for mark, remedy in _REMEDIES.items():
        if _counts[mark, "skipped"]:
            terminalreporter.section(f"{mark.upper()} TESTS WERE SKIPPED", sep="!", red=True, bold=True)
            terminalreporter.line(remedy, red=True)
    counts = (f"{_counts[mark, 'run']} run, {_counts[mark, 'skipped']} skipped" for mark in _REMEDIES)
    told = "; ".join(f"{mark} tests: {count}" for mark, count in zip(_REMEDIES, counts, strict=True))
    terminalreporter.line(f"{told}; postgres tests: {_counts['postgres', 'run']} run")
