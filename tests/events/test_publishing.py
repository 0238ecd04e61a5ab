"""Publishing: what is taken, what is refused and why, and that the same event is one event."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from ngsp.local.postgres import LocalPostgres
from tests.support.events import CHANGED, CHANGES, CLOSED, NAME, Events, Subscriber, changes, event
from tests.support.gateway import Rig, running_gateway
from tests.support.problems import problem


@pytest.fixture(scope="module")
async def module_events(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Events]:
    whole: dict[str, Any] = {"fields": [""]}
    subscriber = Subscriber(
        services=[changes(), changes("small", max_body_bytes=400)], terms={"changes": whole, "small": whole}
    )
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), subscriber) as rig:
        yield Events(rig, subscriber)


@pytest.fixture
async def events(module_events: Events) -> Events:
    module_events.subscriber.taken.clear()
    return module_events


async def stored(rig: Rig) -> int:
    found: int = await rig.rows.fetchval("SELECT count(*) FROM events")
    return found


async def test_an_event_is_durable_with_its_two_entries_when_it_is_answered(events: Events) -> None:
    sent = event()
    answer = await events.publish(sent)
    assert answer.status_code == 202, answer.text
    (item,) = answer.json()["items"]
    tx = item["transaction"]
    assert item == {"id": sent["id"], "transaction": tx, "repeated": False}
    assert (answer.headers["Ngsp-Transaction"], answer.headers["Location"]) == (tx, f"/v1/transactions/{tx}")
    accepted, succeeded = await events.rig.entries(tx)
    assert (accepted["kind"], succeeded["kind"]) == ("accepted", "succeeded")
    grant = accepted["grant"]
    assert (grant["mode"], grant["agreement"], grant["agreement_version"]) == ("publication", "own", 0)
    assert (grant["provider"], grant["consumer"], grant["service"]) == ("H41", "H41", "changes")
    assert accepted["call"] == {"client": "provider", "member": "H41"}
    row = await events.rig.rows.fetchrow("SELECT * FROM events WHERE tx = $1", tx)
    assert (row["service"], row["type"]) == (CHANGES, CHANGED)


async def test_its_publisher_and_operators_see_the_publication_and_nobody_else(events: Events) -> None:
    (tx,) = await events.published(event())
    for client, status in (("provider", 200), ("operator", 200), ("caller", 404), ("stranger", 404)):
        answer = await events.rig.get(f"/v1/transactions/{tx}", by=client)
        assert answer.status_code == status, client
        if status == 200:
            assert answer.json()["mode"] == "publication"
            assert answer.json()["agreement"] is None


async def test_nothing_of_an_event_stands_in_plain(events: Events) -> None:
    (tx,) = await events.published(event(subject="Trần Văn Chủ Thể", partitionkey="khóa riêng"))
    for table in ("events", "entries", "outbox", "replies", "idempotency_keys", "subjects", "deliveries"):
        dump = await events.rig.rows.fetchval(f"SELECT string_agg(t::text, ' ') FROM {table} t")
        for secret in (NAME, "900123456789", "Chủ Thể", "khóa riêng"):
            assert secret not in (dump or ""), table
            assert secret.encode().hex() not in (dump or ""), table
    assert tx


async def test_a_batch_is_one_answer_in_its_order(events: Events) -> None:
    sent = [event({"state": number}, type=CLOSED if number == 2 else CHANGED) for number in (1, 2, 3)]
    answer = await events.publish(*sent)
    assert answer.status_code == 202, answer.text
    assert [item["id"] for item in answer.json()["items"]] == [one["id"] for one in sent]
    assert len({item["transaction"] for item in answer.json()["items"]}) == 3
    rows = await events.rig.rows.fetch(
        "SELECT type FROM events WHERE tx = ANY($1::uuid[]) ORDER BY xid, seq",
        [item["transaction"] for item in answer.json()["items"]],
    )
    assert [row["type"] for row in rows] == [CHANGED, CLOSED, CHANGED]


async def test_binary_mode_has_the_attributes_in_headers(events: Events) -> None:
    sent = event(subject="Hồ sơ 1")
    headers = {
        "ce-specversion": "1.0",
        "ce-id": sent["id"],
        "ce-source": sent["source"],
        "ce-type": sent["type"],
        "ce-subject": "H%E1%BB%93%20s%C6%A1%201",
    }
    answer = await events.publish(sent["data"], kind="application/json", **headers)
    assert answer.status_code == 202, answer.text
    assert answer.json()["items"][0]["id"] == sent["id"]
    # The same in another form is the same event.
    quoted = headers | {"ce-subject": f'"{headers["ce-subject"]}"', "ce-id": f'"\\{sent["id"]}"'}
    again = await events.publish(sent["data"], kind="application/json", **quoted)
    assert again.json()["items"][0] | {"repeated": False} == answer.json()["items"][0]
    again = await events.publish(sent | {"datacontenttype": "application/json"})
    assert again.json()["items"][0] | {"repeated": False} == answer.json()["items"][0]
    assert again.json()["items"][0]["repeated"] is True


async def test_source_and_id_are_one_event_and_another_under_them_is_refused(events: Events) -> None:
    sent = event()
    (tx,) = await events.published(sent)
    before = await stored(events.rig)
    again = await events.publish(sent)
    assert again.status_code == 202
    assert again.json()["items"] == [{"id": sent["id"], "transaction": tx, "repeated": True}]
    other = await events.publish(sent | {"data": sent["data"] | {"state": 9}})
    found = problem(other, 422, "idempotency-mismatch")
    assert [fault["pointer"] for fault in found["errors"]] == ["/id"]
    assert "source" in found["detail"]
    (entry,) = await events.rig.entries(other.headers["Ngsp-Transaction"])
    assert (entry["kind"], entry["outcome"]["code"]) == ("refused", "idempotency-mismatch")
    elsewhere = await events.publish(sent | {"source": "/h41/elsewhere"})
    assert elsewhere.json()["items"][0]["repeated"] is False
    assert await stored(events.rig) == before + 1


async def test_the_same_twice_in_one_batch_is_one(events: Events) -> None:
    sent = event()
    answer = await events.publish(sent, sent)
    first, second = answer.json()["items"]
    assert (first["transaction"], first["repeated"], second["repeated"]) == (second["transaction"], False, True)


BAD: dict[str, tuple[Any, int, str, str]] = {
    "no event": ([], 422, "schema-mismatch", ""),
    "no data": (event(data=None) | {"data": 1}, 422, "schema-mismatch", "/data"),
    "data off its schema": (event({"state": 99}), 422, "schema-mismatch", "/data/state"),
    "more than the schema knows": (event({"bí mật": 1}), 422, "schema-mismatch", "/data"),
    "type that the service has not": (event(type="vn.h41.other"), 422, "schema-mismatch", "/type"),
    "another version": (event(specversion="0.3"), 422, "schema-mismatch", "/specversion"),
    "no id": (event(id=""), 422, "schema-mismatch", "/id"),
    "no source": (event(source=None), 422, "schema-mismatch", ""),
    "time that is none": (event(time="hôm qua"), 422, "schema-mismatch", "/time"),
    "no JSON inside": (event(datacontenttype="text/xml"), 422, "schema-mismatch", "/datacontenttype"),
    "binary data": (event(data_base64="AAAA"), 422, "schema-mismatch", ""),
    "an attribute that is none": (event(Bad_Name="x"), 422, "schema-mismatch", ""),
    "a structured attribute": (event(extra={"a": 1}), 422, "schema-mismatch", "/*"),
    "a text": ("event", 422, "schema-mismatch", ""),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_is_no_event_is_refused_with_its_place_and_logged(events: Events, name: str) -> None:
    sent, status, code, pointer = BAD[name]
    before = await stored(events.rig)
    answer = await events.publish(sent, kind="application/cloudevents+json")
    found = problem(answer, status, code)
    pointers = [fault["pointer"] for fault in found.get("errors", [])]
    assert any(one.startswith(pointer) if pointer else True for one in pointers), pointers
    assert NAME not in answer.text
    assert "bí mật" not in answer.text
    (entry,) = await events.rig.entries(answer.headers["Ngsp-Transaction"])
    assert (entry["kind"], entry["outcome"]["code"], entry["asked"]) == ("refused", code, {"service": CHANGES})
    assert await stored(events.rig) == before


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", "application/cloudevents+json", 400, "malformed-json"),
        (b'{"id":1,"id":2}', "application/cloudevents+json", 400, "malformed-json"),
        (b"\xff", "application/cloudevents+json", 400, "malformed-json"),
        (b"[]", "application/cloudevents-batch+json", 422, "schema-mismatch"),
        (b"{}", "application/cloudevents-batch+json", 422, "schema-mismatch"),
        (b"{}", "text/plain", 415, "unsupported-type"),
        (b"{}", "application/cloudevents+json; charset=latin1", 415, "unsupported-type"),
        (b"<a/>", "application/cloudevents+xml", 415, "unsupported-type"),
    ],
)
async def test_what_cannot_be_read_is_refused(events: Events, body: bytes, kind: str, status: int, code: str) -> None:
    headers = {"Authorization": f"Bearer {await events.rig.token('provider')}", "Content-Type": kind}
    answer = await events.rig.http.post(f"/v1/events/{CHANGES}", content=body, headers=headers)
    problem(answer, status, code)


async def test_a_batch_with_one_that_is_wrong_stores_none(events: Events) -> None:
    before = await stored(events.rig)
    answer = await events.publish(event(), event({"state": 0}), event())
    found = problem(answer, 422, "schema-mismatch")
    assert [fault["pointer"] for fault in found["errors"]] == ["/1/data/state"]
    known = event()
    await events.published(known)
    again = event()
    answer = await events.publish(event(), known | {"subject": "x"}, known, again, again | {"subject": "x"}, event())
    found = problem(answer, 422, "idempotency-mismatch")
    assert [fault["pointer"] for fault in found["errors"]] == ["/1/id", "/4/id"]
    before += 1
    many = await events.publish(*(event() for _ in range(101)))
    problem(many, 422, "schema-mismatch")
    assert await stored(events.rig) == before


async def test_an_event_beyond_its_services_limit_is_refused(events: Events) -> None:
    answer = await events.publish(event({"note": "n" * 400}), path="H41/small/v1")
    problem(answer, 413, "body-too-large")
    assert (await events.publish(event(), path="H41/small/v1")).status_code == 202


@pytest.mark.parametrize(
    ("by", "path", "code"),
    [
        ("caller", CHANGES, "scope-missing"),
        ("operator", CHANGES, "scope-missing"),
        ("provider", "H41/none/v1", "access-denied"),
        ("provider", "G22/changes-received/v1", "access-denied"),
    ],
)
async def test_only_its_provider_publishes(events: Events, by: str, path: str, code: str) -> None:
    before = await stored(events.rig)
    answer = await events.publish(event(), by=by, path=path)
    problem(answer, 403, code)
    assert await stored(events.rig) == before


async def test_headers_that_are_no_attributes_are_refused(events: Events) -> None:
    data = event()["data"]
    token = f"Bearer {await events.rig.token('provider')}".encode()
    for name, value in (
        (b"ce-Bad_Name", b"x"),
        (b"ce-id", b"%FF"),
        (b"ce-datacontenttype", b"text/xml"),
        (b"ce-note", "Điều 7, chưa mã hóa".encode()),
    ):
        headers = {b"Authorization": token, b"Content-Type": b"application/json", name: value}
        answer = await events.rig.http.post(f"/v1/events/{CHANGES}", json=data, headers=headers)
        problem(answer, 400, "malformed-header")


async def test_the_event_comes_back_in_no_log_line(events: Events, capfd: pytest.CaptureFixture[str]) -> None:
    await events.published(event())
    await events.publish(event({"state": 99}))
    written = capfd.readouterr()
    assert NAME not in written.out + written.err
    assert orjson.dumps(NAME).decode() not in written.out + written.err


async def test_while_the_gateway_has_no_room_publishers_are_refused_as_callers_are(events: Events) -> None:
    gate, before = events.rig.parts.gate, await stored(events.rig)
    for _ in range(512):
        gate.enter("others")
    try:
        answers = [await events.publish(event()), await events.publish(event(), event())]
        lines = (
            f"POST /v1/events/{CHANGES} HTTP/1.1",
            "Host: gateway",
            f"Authorization: Bearer {await events.rig.token('provider')}",
            "Content-Type: application/cloudevents+json",
            "Content-Length: 9\r\n\r\n",
        )
        turn_away = events.rig.door.turn_away
        assert turn_away.is_asked
        assert turn_away.answer("\r\n".join(lines).encode(), "127.0.0.1", []) is not None, "it would be parsed"
    finally:
        for _ in range(512):
            gate.leave("others")
    for answer in answers:
        problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "1"
    assert await stored(events.rig) == before
    assert (await events.publish(event())).status_code == 202
    assert gate.in_flight == 0
