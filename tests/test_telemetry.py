"""The program's log shows what may be shown and nothing else."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import structlog

from ngsp.errors import LogUnavailable
from ngsp.messages import uuid7
from ngsp.redaction import mask, shown
from ngsp.telemetry import configure_logging, current_transaction

MARKERS = {
    "identity number": "900123456789",
    "identity number in groups": "900 123 456 789",
    "telephone": "0912345678",
    "old identity card": "012345678",
    "name": "Nguyễn Thị Hồng Nhung",
    "access token": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
    "client's secret": "ngsp_Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmE",
    "bearer": "Bearer c29tZS1vcGFxdWUtdG9rZW4",
    "password in an address": "postgresql://ngsp:hunter2butlonger@db/ngsp",
}
SECRET_PARTS = {"password in an address": "hunter2butlonger", "bearer": "c29tZS1vcGFxdWUtdG9rZW4"}
PLAIN_NAME = "Nguyen Thi Hong Nhung"
TRANSACTION = "019a2b3c-4d5e-7f60-8123-123456789012"

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """Configures logging, gives what was logged since the last time, and puts everything back."""
    root = logging.getLogger()
    kept = (root.handlers[:], root.level, sys.excepthook, threading.excepthook, sys.unraisablehook)
    shows = warnings.showwarning
    threading.excepthook, sys.unraisablehook = threading.__excepthook__, sys.__unraisablehook__
    configure_logging("INFO")

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().err.splitlines()]

    yield read
    root.handlers[:], root.level = kept[0], kept[1]
    sys.excepthook, threading.excepthook, sys.unraisablehook = kept[2:]
    warnings.showwarning = shows
    structlog.reset_defaults()


def logger() -> Any:
    return structlog.get_logger("ngsp.test")


@dataclass
class Citizen:
    name: str

    def __str__(self) -> str:
        return self.name


def fail_with(text: str) -> None:
    citizen = Citizen(text)
    raise ValueError(f"no such citizen: {citizen}")


def bridge() -> logging.Handler:
    """Ours, asked past the handlers of the test runner, which complain of arguments that do not fit."""
    (found,) = [handler for handler in logging.getLogger().handlers if type(handler).__module__ == "ngsp.telemetry"]
    return found


def record(text: str, *arguments: object) -> logging.LogRecord:
    return logging.getLogger("some.package").makeRecord("some.package", 40, __file__, 1, text, arguments, None)


def by_values_of_structlog(marker: str) -> None:
    logger().info(
        "found", name=marker, transaction=marker, reason=marker, citizen=Citizen(marker), body=marker.encode()
    )


def by_nested_values(marker: str) -> None:
    nested = {"name": marker, marker: 1, "reason": [marker, {"reason": marker, "citizen": marker}], "code": (marker,)}
    logger().info("found", causes=[nested], citizen=nested, parts=nested)


def by_members_named_by_data(marker: str) -> None:
    logger().info("found", **{marker: 1, "reason": "x" + marker + "x"})


def by_the_event_itself(marker: str) -> None:
    logger().info(f"found {marker}")
    logger().info("found %s", marker)
    logger().info(marker)


def by_arguments_of_the_standard_library(marker: str) -> None:
    found = logging.getLogger("some.package")
    found.error("found %s and %r", marker, Citizen(marker))
    found.error("found %(name)s", {"name": marker})
    found.error("found %s and %d", marker, 900123456789)
    found.error("found %d%d", 900123, 456789)
    found.error("found %s", [marker])
    found.error("found %s", ValueError(marker))
    logging.getLogger("aiokafka").error("found %s", marker)


def by_a_text_of_the_standard_library(marker: str) -> None:
    found = logging.getLogger("some.package")
    found.error(f"found {marker}")
    found.error(marker, extra={"reason": marker, "name_of_citizen": marker, marker: marker})
    found.error("%s", marker, stack_info=True)
    bridge().handle(record("wrong number of arguments: %s %s", marker))


def by_exceptions(marker: str) -> None:
    local_of_the_caller = Citizen(marker)
    try:
        try:
            fail_with(marker)
        except ValueError as error:
            error.add_note(marker)
            raise RuntimeError(marker) from error
    except RuntimeError as error:
        logger().exception("it failed", error=error)
        logger().error("it failed", exc_info=error)
        logger().error("it failed", exc_info=(type(error), error, error.__traceback__))
        logging.getLogger("some.package").exception("it failed")
        logging.getLogger("some.package").error("it failed: %s", error, exc_info=True)
        group = ExceptionGroup(marker, [error, KeyError(marker)])
        logger().error("it failed", exc_info=group)
        sys.excepthook(type(error), error, error.__traceback__)
    assert local_of_the_caller


def by_exceptions_nobody_waits_for(marker: str) -> None:
    thread = threading.Thread(target=fail_with, args=(marker,))
    thread.start()
    thread.join()

    class Broken:
        def __del__(self) -> None:
            fail_with(marker)

    Broken()


def by_warnings(marker: str) -> None:
    warnings.showwarning(f"old: {marker}", DeprecationWarning, f"{__file__}", 7)


def by_the_context(marker: str) -> None:
    token = current_transaction.set(marker)
    logger().info("at work")
    logging.getLogger("some.package").error("at work")
    current_transaction.reset(token)


WAYS: list[Callable[[str], None]] = [
    by_values_of_structlog,
    by_nested_values,
    by_members_named_by_data,
    by_the_event_itself,
    by_arguments_of_the_standard_library,
    by_a_text_of_the_standard_library,
    by_exceptions,
    by_exceptions_nobody_waits_for,
    by_warnings,
    by_the_context,
]


@pytest.mark.parametrize("kind", MARKERS)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_marker_gets_into_the_log(
    lines: Lines, capsys: pytest.CaptureFixture[str], way: Callable[[str], None], kind: str
) -> None:
    way(MARKERS[kind])
    written = capsys.readouterr().err
    for line in written.splitlines():
        assert json.loads(line)["event"]
    assert written
    assert SECRET_PARTS.get(kind, MARKERS[kind]) not in json.dumps([json.loads(x) for x in written.splitlines()])
    assert SECRET_PARTS.get(kind, MARKERS[kind]) not in written


@pytest.mark.parametrize(
    "way",
    [way for way in WAYS if way not in (by_values_of_structlog, by_nested_values, by_members_named_by_data)],
    ids=lambda way: way.__name__,
)
def test_a_name_without_accents_gets_in_only_where_a_code_is_expected(
    lines: Lines, capsys: pytest.CaptureFixture[str], way: Callable[[str], None]
) -> None:
    """A plain word under a listed name cannot be told from a code; by every other way it stays out."""
    if way is by_a_text_of_the_standard_library:
        logging.getLogger("some.package").error(f"found {PLAIN_NAME}")
    elif way is by_arguments_of_the_standard_library:
        logging.getLogger("some.package").error("found %s", PLAIN_NAME)
    elif way is by_the_context:
        logger().info("found", citizen=PLAIN_NAME, causes=[{"name": PLAIN_NAME}])
    else:
        way(PLAIN_NAME)
    written = capsys.readouterr().err
    assert written
    assert PLAIN_NAME not in written


async def test_a_task_nobody_waits_for_tells_where_it_failed_and_nothing_more(
    lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(citizen: str) -> None:
        fail_with(citizen)

    task = asyncio.create_task(work(MARKERS["name"]), name=MARKERS["name"])
    await asyncio.wait([task])
    del task
    gc.collect()
    message = f"Exception in callback {MARKERS['name']}"
    asyncio.get_running_loop().call_exception_handler({"message": message})
    told = lines()
    # Others may have something to tell in this moment: the loop, and the garbage, are those of all the tests before.
    (first,) = [line for line in told if "fail_with" in str(line.get("exception"))]
    assert (first["logger"], first["event"]) == ("asyncio", "Task exception was never retrieved")
    assert first["exception"]["type"] == "ValueError"
    assert "fail_with" in first["exception"]["frames"][-1]
    (second,) = [line for line in told if line["event"] == f"<str {len(message)}>"]
    assert second["logger"] == "asyncio"
    assert MARKERS["name"] not in json.dumps(told, ensure_ascii=False)


def test_a_line_says_when_how_bad_who_what_and_in_which_transaction(lines: Lines) -> None:
    token = current_transaction.set(TRANSACTION)
    logger().warning("a reply came late", adapter="g01", attempt=2, services=["a/b/v1"], count=None, status=True)
    logging.getLogger("ngsp.http").info("stopping on a signal", extra={"signal": "SIGTERM"})
    current_transaction.reset(token)
    logger().info("outside", transaction=TRANSACTION)
    first, second, third = lines()
    at = datetime.fromisoformat(first.pop("timestamp"))
    assert at.tzinfo is not None
    assert abs((datetime.now(UTC) - at).total_seconds()) < 60
    assert first == {
        "level": "warning",
        "logger": "ngsp.test",
        "event": "a reply came late",
        "transaction": TRANSACTION,
        "adapter": "g01",
        "attempt": 2,
        "services": ["a/b/v1"],
        "count": None,
        "status": True,
    }
    assert (second["logger"], second["signal"], second["transaction"]) == ("ngsp.http", "SIGTERM", TRANSACTION)
    assert third["transaction"] == TRANSACTION


async def test_each_task_has_its_own_transaction(lines: Lines) -> None:
    async def work(transaction: str) -> None:
        current_transaction.set(transaction)
        await asyncio.sleep(0)
        logger().info("at work")

    ids = [uuid7() for _ in range(5)]
    await asyncio.gather(*(work(id) for id in ids))
    assert sorted(line["transaction"] for line in lines()) == sorted(ids)


def test_what_is_hidden_says_type_length_and_place(lines: Lines) -> None:
    logger().info(f"computed {1 + 1}", citizen="abc", body=b"1234", found=[1, 2], who=Citizen("A"), reason="y" * 201)
    (line,) = lines()
    assert line["event"] == "<str 10>"
    assert "tests/test_telemetry.py:" in line["place"]
    assert line["citizen"] == "<str 3>"
    assert line["body"] == "<bytes 4>"
    assert line["found"] == "<list 2>"
    assert line["who"] == "<Citizen>"
    assert line["reason"] == "<str 201>"


def test_an_exception_is_its_types_and_places_and_the_reason_of_our_own(lines: Lines) -> None:
    try:
        try:
            fail_with("x")
        except ValueError as error:
            raise LogUnavailable(reason="queue is full") from error
    except LogUnavailable:
        logger().exception("it failed")
    (line,) = lines()
    found = line["exception"]
    assert line["level"] == "error"
    assert (found["type"], found["reason"]) == ("LogUnavailable", "queue is full")
    assert found["caused_by"]["type"] == "ValueError"
    assert "tests/test_telemetry.py:" in found["caused_by"]["frames"][-1]
    assert not any(frame.startswith("/") for frame in found["frames"])


def test_line_breaks_cannot_make_a_line(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    forged = 'x\r\n{"level":"info","event":"forged"}\n'
    logger().info("found", reason=forged, citizen=forged, **{forged: 1})
    logging.getLogger("aiokafka").error("found %s", forged)
    written = capsys.readouterr().err
    assert written.count("\n") == 2
    assert "\r" not in written
    assert json.loads(written.splitlines()[0])["reason"] == forged


def test_below_the_level_nothing_is_done(lines: Lines) -> None:
    class Loud:
        def __repr__(self) -> str:
            raise AssertionError("looked at")

        __str__ = __repr__

    logger().debug("found", reason=Loud())
    logging.getLogger("some.package").debug("found %s", Loud())
    logging.getLogger("aiokafka.conn").info("found %s", Loud())
    logging.getLogger("uvicorn.access").info("GET /v1/members?name=x")
    assert lines() == []
    configure_logging("ERROR")
    logger().warning("found")
    assert lines() == []


def test_what_cannot_be_logged_is_said_and_does_no_harm(lines: Lines) -> None:
    class Hostile(dict[str, int]):
        def __len__(self) -> int:
            raise RuntimeError(MARKERS["name"])

    logger().info("found", citizen=Hostile())
    bridge().handle(record("found %s %s", 1))
    bridge().handle(record("found %d", "text"))
    logger().info("found", reason="\ud800", others=10**50, seconds=float("nan"))
    first, second, third, fourth = lines()
    assert first["event"] == "a line of the log could not be made"
    assert first["exception"]["type"] == "RuntimeError"
    assert second["event"] == "found %s %s"
    assert third["event"] == "found %d"
    assert (fourth["reason"], fourth["others"]) == ("<str 1>", "<int of many digits>")


def test_libraries_that_name_topics_and_hosts_are_readable(lines: Lines) -> None:
    logging.getLogger("aiokafka.cluster").error("Topic %s not found, node %d: %s", "ngsp.outcomes", 1, OSError("h"))
    logging.getLogger("some.package").error("Took %.1f of %d", 1.25, 3)
    assert [line["event"] for line in lines()] == ["Topic ngsp.outcomes not found, node 1: OSError", "Took 1.2 of 3"]


@pytest.mark.parametrize("kept", [TRANSACTION, f"urn:uuid:{TRANSACTION}", "4bf92f3577b34da6a3ce929d0e0e4736", "H41.12"])
def test_identifiers_of_transactions_and_traces_stay_whole(kept: str) -> None:
    assert mask(kept) == kept
    assert shown({"instance": kept}) == {"instance": kept}


def test_times_and_ids_are_shown_by_their_text() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    assert shown([at, UUID(TRANSACTION), ValueError]) == ["2026-03-01T00:00:00+00:00", TRANSACTION, "ValueError"]
    assert shown(list(range(25)))[-1] == "and 5 more"
