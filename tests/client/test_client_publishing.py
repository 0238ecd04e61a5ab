"""Publishing through the client: what is sent, what is sent again, and what the bus says of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from ngsp.client import ClientSecret, NewEvent, Published, Retry, errors
from ngsp.client.errors import ConnectionLost, Unreachable
from tests.backends.scripted import Asked, Scripted, json_answer, scripted
from tests.client.hands import KIND, Hands, Noted
from tests.client.script import Play, answer, play, problem, token
from tests.support.problems import MARKER

SERVICE = "H41/changes/v1"
PATH = f"/v1/events/{SERVICE}"
EVENT = NewEvent(
    "/h41/civil-status",
    "vn.gov.h41.birth",
    {"name": "Nguyễn Thị Thử"},
    subject="Điều 7",
    partition_key="k-7",
    id="e-1",
    time=datetime(2026, 11, 28, 17, 0, tzinfo=timezone(timedelta(hours=7))),
)


def items(*ids: str, repeated: bool = False) -> dict[str, Any]:
    return {"items": [{"id": id, "transaction": f"tx-{id}", "repeated": repeated} for id in ids]}


def published(scene: Play, *events: NewEvent, **options: Any) -> list[Published]:
    given = {"traceparent": "", "deadline_s": None} | options
    found: list[Published] = scene.run(scene.core(Retry(first_s=0.01)).publish(SERVICE, list(events), **given))
    return found


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    """A bus that takes everything, but for the first `lost` requests, to which it never answers."""

    async def answered(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/oauth2/token":
            writer.write(json_answer({"access_token": "t", "expires_in": 600}))
            return
        sent = json.loads(asked.body)
        seen = [one["id"] for one in (sent if isinstance(sent, list) else [sent])]
        if not any(before.path == PATH for before in found.asked[:-1]):
            writer.close()  # it was taken, and nobody hears of it
        else:
            writer.write(json_answer(items(*seen, repeated=True), "202 Accepted"))

    async with scripted() as found:
        found.answer = answered
        yield found


@pytest.fixture
async def bus(server: Scripted, kind: KIND) -> AsyncIterator[Hands]:
    async with Noted(kind, server.url, ClientSecret("h41", "secret")) as found:
        yield found


async def test_one_event_and_several_over_http(server: Scripted, bus: Hands) -> None:
    """The first answer is lost: the same bytes are sent once more."""
    assert await bus.do("publish", SERVICE, EVENT) == [Published("e-1", "tx-e-1", repeated=True)]
    others = [replace(EVENT, id=f"e-{number}") for number in (2, 3)]
    assert [one.id for one in await bus.do("publish", SERVICE, tuple(others))] == ["e-2", "e-3"]
    assert len(await bus.do("publish", SERVICE, others[:1])) == 1
    first, again, several, alone = (asked for asked in server.asked if asked.path == PATH)
    assert (first.method, first.body) == ("POST", again.body)
    assert [asked.headers["content-type"] for asked in (again, several, alone)] == [
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/cloudevents+json",
    ]
    assert again.headers["authorization"] == "Bearer t"
    assert "ngsp-purpose" not in again.headers
    assert [one["id"] for one in json.loads(several.body)] == ["e-2", "e-3"]


def test_an_event_as_it_is_written() -> None:
    scene = play(token(), answer(202, items("e-1")))
    assert published(scene, EVENT) == [Published("e-1", "tx-e-1", repeated=False)]
    assert scene.sent[1].body.decode() == (
        '{"specversion":"1.0","id":"e-1","source":"/h41/civil-status","type":"vn.gov.h41.birth",'
        '"time":"2026-11-28T17:00:00+07:00","subject":"Điều 7","partitionkey":"k-7",'
        '"datacontenttype":"application/json","data":{"name":"Nguyễn Thị Thử"}}'
    )


def test_an_event_whose_time_is_not_known() -> None:
    assert "time" not in NewEvent("/s", "t", None, time=None).document()


def test_what_is_not_said_of_an_event() -> None:
    before = datetime.now(UTC)
    first, second = NewEvent("/s", "t", None), NewEvent("/s", "t", None)
    assert first.id != second.id
    assert first.time is not None
    assert before <= first.time <= datetime.now(UTC)
    found = first.document()
    assert found["time"].endswith("Z")
    assert (found["data"], set(found)) == (
        None,
        {"specversion", "id", "source", "type", "time", "datacontenttype", "data"},
    )
    with pytest.raises(ValueError, match="zone"):
        NewEvent("/s", "t", 7, time=before.replace(tzinfo=None))


@pytest.mark.parametrize(
    "trouble",
    [
        ConnectionLost(),
        Unreachable(),
        problem("log-unavailable", 503, outcome_unknown=True, safe_to_repeat=False),
        problem("overloaded", 503, 1),
        problem("too-many-requests", 429, 1),
        problem("key-in-flight", 409, 1),
        answer(502, "a page of a proxy's"),
    ],
    ids=repr,
)
def test_what_is_repeated(trouble: Any) -> None:
    scene = play(token(), trouble, answer(202, items("e-1", repeated=True)))
    assert published(scene, EVENT)[0].repeated
    first, again = scene.sent[1:]
    assert first.body == again.body
    assert len(scene.pauses_s) == 1


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("schema-mismatch", 422, errors.SchemaMismatch),
        ("idempotency-mismatch", 422, errors.IdempotencyMismatch),
        ("access-denied", 403, errors.AccessDenied),
        ("not-found", 404, errors.NotFound),
        ("body-too-large", 413, errors.BodyTooLarge),
        ("key-expired", 410, errors.KeyExpired),
    ],
)
def test_what_is_not_repeated(code: str, status: int, kind: type[errors.Problem]) -> None:
    scene = play(token(), problem(code, status))
    with pytest.raises(kind):
        published(scene, EVENT)
    assert scene.pauses_s == []


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"items": 7},
        {"items": [{"id": "e-1"}]},
        items(),
        items("e-2"),
        items("e-1", "e-2"),
    ],
)
def test_an_answer_that_says_something_else(document: object) -> None:
    with pytest.raises(errors.NotUnderstood):
        published(play(token(), answer(202, document)), EVENT)


def test_what_cannot_be_published_is_not_sent() -> None:
    for events in (
        [],
        [replace(EVENT, id=str(number)) for number in range(101)],
        [EVENT, EVENT],
        [replace(EVENT, data=float("nan"))],
        [replace(EVENT, data={"a": {1, 2}})],
    ):
        scene = play()
        with pytest.raises((TypeError, ValueError)):
            published(scene, *events)
        assert scene.sent == []
    with pytest.raises(ValueError, match="provider/name/version"):
        play().run(play().core().publish("changes", EVENT, "", None))
    several = [replace(EVENT, id=str(number)) for number in range(100)]
    assert len(published(play(token(), answer(202, items(*(one.id for one in several)))), *several)) == 100
    elsewhere = [EVENT, replace(EVENT, source="/h41/other")]
    assert len(published(play(token(), answer(202, items("e-1", "e-1"))), *elsewhere)) == 2


def test_trace_and_deadline() -> None:
    trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    scene = play(token(), answer(202, items("e-1")))
    core = scene.core().having({"traceparent": trace, "deadline_s": 7.0})
    scene.run(core.publish(SERVICE, EVENT, "", None))
    assert scene.sent[1].headers["traceparent"] == trace
    assert scene.sent[1].timeout_s == 7.0
    scene = play(token(), *[ConnectionLost()] * 9, each_s=1.0)
    with pytest.raises(ConnectionLost):
        published(scene, EVENT, deadline_s=2.5, traceparent=trace[:-1] + "0")
    assert scene.sent[1].headers["traceparent"].endswith("00")
    assert len(scene.sent) < 5


def test_nothing_of_an_event_is_shown() -> None:
    marked = NewEvent("/s", "t", MARKER, subject=MARKER, partition_key=MARKER)
    assert MARKER not in repr(marked)
    scene = play(token(), problem("schema-mismatch", 422))
    with pytest.raises(errors.SchemaMismatch) as told:
        published(scene, marked)
    assert MARKER not in repr(told.value) + str(told.value)
