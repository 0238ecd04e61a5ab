"""Services of events over REST: what is taken and refused, what a version keeps, and that everything else copes."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema_rs
import pytest

from ngsp.access import authorise, try_out
from ngsp.errors import AccessDenied
from ngsp.registry.event_schemas import event_faults, event_schema_version
from ngsp.topics import all_topics, working_groups
from ngsp.transactions.entry import now
from tests.support.described import validate
from tests.support.registry import (
    CHANGED,
    EVENT_SCHEMA,
    event,
    event_service,
    manifest,
    proposal,
    running_rig,
    service_document,
    settings_for,
    text,
)

if TYPE_CHECKING:
    from ngsp.local.postgres import LocalPostgres
    from tests.support.registry import Rig

PATH = "G01.01/population-events/v1"
ENDED = "vn.gov.example.record.ended"
_numbers = itertools.count(100)
AT = f"/services/0/events/{CHANGED}/schema"


def published(id: str = "g01-events", **others: Any) -> dict[str, Any]:
    return manifest(event_service(**others), id=id)


async def put(rig: Rig, document: dict[str, Any], by: str = "g01-registry") -> httpx.Response:
    return await rig.call("PUT", f"/v1/adapters/{document['id']}", json=document, by=by)


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_rig(postgres) as running:
        answer = await put(running, published())
        assert answer.status_code == 201, answer.text
        yield running


def types(**schemas: Any) -> dict[str, Any]:
    """`events` of a service: the usual type, with the schema of the same name `changed` where it is given."""
    found = {CHANGED: {"title": text("Đã thay đổi"), "schema": schemas.pop("changed", EVENT_SCHEMA)}}
    return found | {name: {"title": text(name), "schema": schema} for name, schema in schemas.items()}


async def test_it_is_registered_known_and_shown(rig: Rig) -> None:
    service = rig.registry.snapshot.services[PATH]
    assert (service.mode, service.effect, service.order, service.officer_required) == (
        "event", "idempotent", "none", False,
    )  # fmt: skip
    assert service.subjects == ("/id",)
    assert service.events[CHANGED].title.vi == "Đã thay đổi"
    schemas = {name: found.schema for name, found in service.events.items()}
    assert event_faults(event(), service.request_schema, schemas) == ()
    assert service.schema_version == event_schema_version({CHANGED: EVENT_SCHEMA})
    view = (await rig.call("GET", f"/v1/services/{PATH}", by="h14-registry")).json()
    assert view["events"] == {CHANGED: {"title": text("Đã thay đổi"), "schema": EVENT_SCHEMA}}
    assert (view["mode"], view["examples"], view["deadline_s"]) == ("event", [{"request": event()}], 86_400)
    again = await put(rig, published())
    assert (again.status_code, again.headers["etag"]) == (200, '"1"')


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"specversion": "0.3"}, "/specversion"),
        ({"id": ""}, "/id"),
        ({"id": "a\u0007b"}, "/id"),
        ({"source": "not a reference"}, "/source"),
        ({"type": ENDED}, "/type"),
        ({"time": "yesterday"}, "/time"),
        ({"datacontenttype": "text/xml"}, "/datacontenttype"),
        ({"traceparent": "x"}, "/traceparent"),
        ({"ngsp-odd": "x"}, ""),
        ({"data_base64": "AA=="}, ""),
        ({"extension": {"a": 1}}, "/*"),
        ({"extension": 1.5}, "/*"),
        ({"data": {"id": "900123456789"}}, "/data"),
        ({"data": {"id": "x", "what": "name"}}, "/data/id"),
        ({"data": {"id": "900123456789", "what": "name", "more": 1}}, "/data"),
    ],
)
async def test_an_event_that_is_none_is_told_where(rig: Rig, change: dict[str, Any], place: str) -> None:
    service = rig.registry.snapshot.services[PATH]
    schemas = {name: found.schema for name, found in service.events.items()}
    found = event_faults(event(**change), service.request_schema, schemas)
    assert {fault.pointer for fault in found} == {place}
    refused = await put(rig, published("g01-others", examples=[{"request": event()}, {"request": event(**change)}]))
    assert refused.status_code == 422
    assert {fault["pointer"] for fault in refused.json()["errors"]} == {f"/services/0/examples/1/request{place}"}


@pytest.mark.parametrize("missing", ["specversion", "id", "source", "type", "data"])
async def test_an_event_says_what_it_is(rig: Rig, missing: str) -> None:
    service = rig.registry.snapshot.services[PATH]
    without = {name: value for name, value in event().items() if name != missing}
    assert [fault.pointer for fault in event_faults(without, service.request_schema, {})] == [""]


async def test_extension_attributes_travel_along(rig: Rig) -> None:
    service = rig.registry.snapshot.services[PATH]
    schemas = {name: found.schema for name, found in service.events.items()}
    more = {"partitionkey": "A-1", "sequence": "7", "urgent": True, "count": 3, "subject": "A", "dataschema": "urn:a:b"}
    traced = {"traceparent": "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01", "time": "2026-11-01T00:00:00Z"}
    plain = {"datacontenttype": "application/json"}
    assert event_faults(event(**more, **traced, **plain), service.request_schema, schemas) == ()


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"effect": "idempotent"}, {"/services/0/effect"}),
        ({"order": "none"}, {"/services/0/order"}),
        ({"officer_required": False}, {"/services/0/officer_required"}),
        ({"request_schema": {}, "reply_schema": {}}, {"/services/0/request_schema", "/services/0/reply_schema"}),
        ({"events": ...}, {"/services/0/events"}),
        ({"deadline_s": ...}, {"/services/0/deadline_s"}),
        ({"events": {}}, {"/services/0/events"}),
        ({"events": types(**{f"vn.t{number}": {} for number in range(50)})}, {"/services/0/events"}),
        ({"events": types(**{"Vn.gov": {}})}, {"/services/0/events/*/*"}),
        ({"events": types(**{"a" * 129: {}})}, {"/services/0/events/*/*"}),
        ({"events": {CHANGED: {"title": text("x")}}}, {"/services/0/events/*/schema"}),
        ({"events": {CHANGED: {"schema": {}}}}, {"/services/0/events/*/title"}),
        ({"events": types(changed={"type": "odd"}), "examples": []}, {f"{AT}/type"}),
        ({"events": types(changed={"$ref": "https://elsewhere"}), "examples": []}, {f"{AT}/$ref"}),
        ({"subjects": ["/nobody"]}, {"/services/0/subjects/0"}),
        ({"deadline_s": 31 * 86_400}, {"/services/0/deadline_s"}),
        ({"max_body_bytes": 1 << 29}, {"/services/0/max_body_bytes"}),
        ({"examples": [{"request": event(), "reply": {}}]}, {"/services/0/examples/0/reply"}),
        ({"mode": "events"}, {"/services/0/mode"}),
    ],
)
async def test_what_has_no_meaning_is_refused(rig: Rig, change: dict[str, Any], pointers: set[str]) -> None:
    service = {name: value for name, value in event_service(**change).items() if value is not ...}
    refused = await put(rig, manifest(service, id="g01-others"))
    assert refused.status_code == 422, refused.text
    assert pointers <= {fault["pointer"] for fault in refused.json()["errors"]}


async def test_a_service_that_is_called_has_no_events(rig: Rig) -> None:
    refused = await put(rig, manifest(service_document(events=types()), id="g01-others"))
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/services/0/events"]


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"events": types(other={})}, []),
        ({"events": types(changed={**EVENT_SCHEMA, "title": "Thay đổi"})}, []),
        (
            {"events": types(changed={**EVENT_SCHEMA, "required": ["id", "what", "since"],
                                      "properties": {**EVENT_SCHEMA["properties"], "since": True}})},
            [f"{AT}/additionalProperties"],
        ),
        ({"events": types(changed={**EVENT_SCHEMA, "required": ["id"]})}, [f"{AT}/required"]),
        (
            {"events": types(changed={**EVENT_SCHEMA, "properties": {
                **EVENT_SCHEMA["properties"], "what": {"enum": ["name", "address", "sex"]}}})},
            [f"{AT}/properties/what/enum"],
        ),
        (
            {"events": types(changed={**EVENT_SCHEMA, "properties": {
                **EVENT_SCHEMA["properties"], "what": {"enum": ["name"]}}})},
            [],
        ),
        ({"events": {ENDED: {"title": text("Hết"), "schema": {}}}, "subjects": ["/id"]}, ["/services/0/events"]),
        ({"deadline_s": 60}, ["/services/0/deadline_s"]),
        ({"subjects": []}, ["/services/0/subjects"]),
    ],
)  # fmt: skip
async def test_a_version_keeps_what_subscribers_read(rig: Rig, change: dict[str, Any], pointers: list[str]) -> None:
    # Of a version of its own: what was widened stays.
    number = next(_numbers)
    service = event_service(version=f"v{number}", examples=[])
    first = await put(rig, manifest(service, id=f"g01-promise-{number}"))
    assert first.status_code == 201, first.text
    tried = await put(rig, manifest(service | change, id=f"g01-promise-{number}"))
    assert tried.status_code == (409 if pointers else 200), tried.text
    assert [fault["pointer"] for fault in tried.json().get("errors", [])] == pointers


async def test_what_is_called_never_becomes_events_nor_the_reverse(rig: Rig) -> None:
    id = "g01-turning"
    await put(rig, manifest(service_document(service="turning"), id=id))
    refused = await put(rig, manifest(event_service(service="turning"), id=id))
    assert (refused.status_code, refused.json()["code"]) == (409, "version-conflict")
    assert "/services/0/mode" in {fault["pointer"] for fault in refused.json()["errors"]}


async def test_a_call_is_denied_with_its_reason_in_the_log(rig: Rig) -> None:
    snapshot = rig.registry.snapshot
    client = snapshot.clients["h41-registry"]
    for ask in (authorise, try_out):
        with pytest.raises(AccessDenied) as denied:
            ask(snapshot, client, PATH, purpose="x", agreement_id="", officer="", consent="", now=now())
        assert denied.value.reason == "a service of events is not called"


async def test_it_has_no_topic(rig: Rig) -> None:
    snapshot = rig.registry.snapshot
    topics = {topic.name for topic in all_topics(snapshot, settings_for(rig.url))}
    assert not any("population-events" in name for name in topics | working_groups(snapshot).keys())


async def test_an_agreement_is_about_the_data_of_any_type(rig: Rig) -> None:
    wanted = proposal(service=PATH, fields=["/id", "/what"])
    assert (await rig.call("POST", "/v1/agreements", json=wanted, by="h41-registry")).status_code == 201
    refused = await rig.call(
        "POST", "/v1/agreements", json=proposal(service=PATH, fields=["/id", "/data/id"]), by="h41-registry"
    )
    assert refused.status_code == 422
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/fields/1"]


async def test_no_old_address_leads_to_it(rig: Rig) -> None:
    route = {"title": text("x"), "methods": ["POST"], "path": "/old/1.0/x", "service": PATH, "purpose": "x"}
    refused = await rig.call("PUT", "/v1/compatible-routes/events", json=route)
    assert refused.status_code == 422
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/service"]


@pytest.mark.parametrize("language", ["vi", "en"])
async def test_its_openapi_document_tells_of_publishing_and_of_webhooks(rig: Rig, language: str) -> None:
    path = f"/v1/services/{PATH}/openapi.json"
    document = (await rig.call("GET", path, by="h14-registry", headers={"Accept-Language": language})).json()
    validate(document)
    publish = document["paths"][f"/v1/events/{PATH}"]["post"]
    content = publish["requestBody"]["content"]
    assert set(content) == {"application/cloudevents+json", "application/cloudevents-batch+json", "application/json"}
    assert {"202", "403", "422", "503"} <= publish["responses"].keys()
    webhook = document["webhooks"][CHANGED]["post"]
    assert {"webhook-id", "webhook-timestamp", "webhook-signature", "Ngsp-Transaction"} == {
        header["name"] for header in webhook["parameters"]
    }

    def takes(place: dict[str, Any], value: Any) -> bool:
        return jsonschema_rs.Draft202012Validator({**document, **place["schema"]}).is_valid(value)

    structured = content["application/cloudevents+json"]
    assert structured["examples"]["example-1"]["value"] == event()
    batch, binary = content["application/cloudevents-batch+json"], content["application/json"]
    sent = webhook["requestBody"]["content"]["application/cloudevents+json"]
    assert takes(structured, event())
    assert not takes(structured, event(data={"id": "900123456789"}))
    assert not takes(structured, event(type=ENDED))
    assert takes(batch, [event(), event(id="e-2")])
    assert not takes(batch, [])
    assert takes(binary, event()["data"])
    assert takes(sent, event(data={"id": "900123456789"})), "what the agreement grants of it"
    assert not takes(sent, event(data={"id": "x"}))


async def test_an_adapter_need_not_serve_it(rig: Rig) -> None:
    view = (await rig.call("GET", "/v1/adapters/g01-events")).json()
    assert view["state"] == "online", "nothing is waited for where nothing is served"
    both = manifest(service_document(service="beside"), event_service(service="beside-events"), id="g01-both")
    assert (await put(rig, both)).status_code == 201
    assert (await rig.call("GET", "/v1/adapters/g01-both")).json()["state"] == "silent"
    served = rig.registry.snapshot.services["G01.01/beside/v1"]
    events = rig.registry.snapshot.services["G01.01/beside-events/v1"]
    told = {served.path: served.schema_version}
    for schemas, differing in (
        (told, []),
        (told | {events.path: events.schema_version}, []),
        (told | {events.path: served.schema_version}, [events.path]),
        ({events.path: events.schema_version}, [served.path]),
    ):
        beaten = await rig.call(
            "POST", "/v1/adapters/g01-both/heartbeat", json={"build": "1", "schemas": schemas}, by="g01-registry"
        )
        assert beaten.json()["differing"] == differing
