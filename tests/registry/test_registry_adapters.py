"""Adapters over REST: manifests that are taken and refused, versions that keep what they promise, heartbeats."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.registry import REPLY_SCHEMA, REQUEST_SCHEMA, manifest, service_document, text

if TYPE_CHECKING:
    import httpx

    from tests.support.registry import Rig

PATH = "G01.01/population-lookup/v1"
_NAME = REPLY_SCHEMA["$defs"]["name"]
_versions = itertools.count(100)


async def put(rig: Rig, document: dict[str, Any], by: str = "g01-registry", **options: Any) -> httpx.Response:
    return await rig.call("PUT", f"/v1/adapters/{document['id']}", json=document, by=by, **options)


def state_of(rig: Rig, path: str) -> str:
    return rig.registry.snapshot.services[path].state


async def test_adapter_registers_and_its_service_is_known(rig: Rig) -> None:
    created = await put(rig, manifest())
    assert (created.status_code, created.headers["etag"]) == (201, '"1"')
    assert created.json()["services"] == [{"path": PATH, "state": "active", "paused": False}]
    assert created.json()["state"] == "silent"
    service = rig.registry.snapshot.services[PATH]
    assert service.subjects == ("/id",)
    assert service.request_schema.faults({"id": "900123456789"}) == ()
    assert [fault.pointer for fault in service.request_schema.faults({"id": "x"})] == ["/id"]
    again = await put(rig, manifest())
    assert (again.status_code, again.headers["etag"]) == (200, '"1"')


async def test_annotations_may_change_under_the_same_version(rig: Rig) -> None:
    await put(rig, manifest())
    explained = {**REQUEST_SCHEMA, "title": "Yêu cầu", "$comment": "x"}
    explained["properties"] = {"id": {**REQUEST_SCHEMA["properties"]["id"], "description": "Số định danh"}}
    document = manifest(service_document(request_schema=explained, title=text("Tra cứu dân cư"), examples=[]))
    changed = await put(rig, document)
    assert changed.status_code == 200
    service = rig.registry.snapshot.services[PATH]
    assert service.title.vi == "Tra cứu dân cư"
    assert service.request_schema.document["title"] == "Yêu cầu"
    assert (await put(rig, manifest())).status_code == 200, "and back"


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        ({"mode": "submission"}, ["/services/0/mode"]),
        ({"effect": "uncertain"}, ["/services/0/effect"]),
        ({"deadline_s": 4.5}, ["/services/0/deadline_s"]),
        ({"max_body_bytes": 1024}, ["/services/0/max_body_bytes"]),
        ({"officer_required": True, "subjects": []}, ["/services/0/subjects", "/services/0/officer_required"]),
        (
            {"request_schema": {**REQUEST_SCHEMA, "properties": {"id": {"type": "integer"}}}, "examples": []},
            ["/services/0/request_schema/properties/id/type"],
        ),
        (
            # A property called «title» is data, not an annotation.
            {"reply_schema": {**REPLY_SCHEMA, "properties": {**REPLY_SCHEMA["properties"], "title": True}}},
            ["/services/0/reply_schema/additionalProperties"],
        ),
        (
            {"reply_schema": {**REPLY_SCHEMA, "additionalProperties": True}},
            ["/services/0/reply_schema/additionalProperties"],
        ),
        (
            {
                "reply_schema": {
                    **REPLY_SCHEMA,
                    "$defs": {"name": {**REPLY_SCHEMA["$defs"]["name"], "type": ["object", "null"]}},
                }
            },
            ["/services/0/reply_schema/$defs/name/type"],
        ),
    ],
)
async def test_a_version_keeps_what_it_promised(rig: Rig, change: dict[str, Any], pointers: list[str]) -> None:
    await put(rig, manifest())
    before = rig.registry.snapshot.services[PATH]
    found = await put(rig, manifest(service_document(**change)))
    assert (found.status_code, found.json()["code"]) == (409, "version-conflict")
    assert sorted(fault["pointer"] for fault in found.json()["errors"]) == sorted(pointers)
    assert rig.registry.snapshot.services[PATH] is before
    number = next(_versions)
    second = await put(rig, manifest(service_document(), service_document(**change, version=f"v{number}")))
    assert second.status_code == 200, "under another version it is welcome"
    await put(rig, manifest())


async def test_a_version_is_upgraded_where_requests_widen_and_replies_narrow(rig: Rig) -> None:
    await put(rig, manifest(service_document(version="v20")))
    path = "G01.01/population-lookup/v20"
    before = rig.registry.snapshot.services[path]
    wider = {**REQUEST_SCHEMA, "properties": {**REQUEST_SCHEMA["properties"], "name": {"type": "string"}}}
    narrower = {**REPLY_SCHEMA, "required": ["id"]}
    upgrade = service_document(
        version="v20", request_schema=wider, reply_schema=narrower, deadline_s=8, max_body_bytes=9000
    )
    upgraded = await put(rig, manifest(upgrade))
    assert upgraded.status_code == 200, upgraded.text
    after = rig.registry.snapshot.services[path]
    assert after.schema_version != before.schema_version and after.row_version == before.row_version + 1
    assert (after.deadline_s, after.max_body_bytes) == (8, 9000)
    assert after.request_schema.faults({"id": "900123456789", "name": "An"}) == ()
    back = await put(rig, manifest(service_document(version="v20")))
    assert (back.status_code, back.json()["code"]) == (409, "version-conflict"), "and there is no way back"
    places = {fault["pointer"].removeprefix("/services/0/") for fault in back.json()["errors"]}
    assert places == {
        "deadline_s", "max_body_bytes", "request_schema/additionalProperties", "reply_schema/required",
    }  # fmt: skip
    assert all(fault["detail"] for fault in back.json()["errors"])
    english = await put(rig, manifest(service_document(version="v20")), headers={"Accept-Language": "en"})
    assert "Fields that were taken have no place any more: name." in {
        fault["detail"] for fault in english.json()["errors"]
    }
    await put(rig, manifest())


async def test_a_conflict_stores_nothing_of_the_manifest(rig: Rig) -> None:
    await put(rig, manifest())
    fresh = service_document(service="enterprise-lookup")
    found = await put(rig, manifest(fresh, service_document(mode="submission")))
    assert found.status_code == 409
    assert "G01.01/enterprise-lookup/v1" not in rig.registry.snapshot.services


async def test_a_service_left_out_is_retired_and_comes_back(rig: Rig) -> None:
    second = service_document(version="v7")
    await put(rig, manifest(service_document(), second))
    await put(rig, manifest())
    assert state_of(rig, "G01.01/population-lookup/v7") == "retired"
    listed = (await rig.call("GET", "/v1/services?limit=500", by="h41-registry")).json()["items"]
    assert "G01.01/population-lookup/v7" not in {service["path"] for service in listed}
    await put(rig, manifest(service_document(), second))
    assert state_of(rig, "G01.01/population-lookup/v7") == "active"


async def test_only_the_provider_registers_its_adapter(rig: Rig) -> None:
    await put(rig, manifest())
    for document in (manifest(id="h14-thing"), manifest(), manifest(provider="H14")):
        found = await put(rig, document, by="h14-registry")
        assert (found.status_code, found.json()["code"]) == (403, "access-denied")
    lacking = await put(rig, manifest(), by="h41-registry")
    assert (lacking.status_code, lacking.json()["code"]) == (403, "scope-missing")
    other = await put(rig, manifest(id="g01-second"))
    assert (other.status_code, other.json()["code"]) == (409, "state-conflict"), "the service has its adapter already"


def _deep(levels: int) -> dict[str, Any]:
    """Every definition looks twice at the next: 2^levels looks at one value."""
    twice = {f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(levels)}
    return {"$ref": "#/$defs/d0", "$defs": {**twice, f"d{levels}": {"type": "string"}}}


REFUSED_SCHEMAS: list[tuple[Any, str]] = [
    ({"$ref": "http://127.0.0.1:1/x.json"}, "/$ref"),
    ({"$ref": "file:///etc/passwd"}, "/$ref"),
    ({"properties": {"a": {"$ref": "other.json#/x"}}}, "/properties/a/$ref"),
    ({"$ref": "#/$defs/missing"}, "/$ref"),
    ({"$ref": "#/x", "x": {"type": "string"}}, "/$ref"),
    ({"$dynamicRef": "#a"}, "/$dynamicRef"),
    ({"$anchor": "a"}, "/$anchor"),
    ({"$schema": "http://json-schema.org/draft-07/schema#"}, "/$schema"),
    ({"properties": {"a": {"$id": "http://x/y"}}}, "/properties/a/$id"),
    ({"$ref": "#"}, ""),
    ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "/$defs/a"),
    (_deep(40), ""),
    ({"type": "strange"}, "/type"),
    ({"properties": {"a": {"pattern": "("}}}, "/properties/a/pattern"),
    ({"pattern": "(?=look)ahead"}, "/pattern"),
    ({"pattern": "((a{1,200}){1,200}){1,200}"}, "/pattern"),
    ({"properties": {"a": 5}}, "/properties/a"),
    ({"minLength": -1}, "/minLength"),
    ({"description": "x" * 300_000}, ""),
    ({"description": "bell\x07 nul\x00"}, ""),
]


@pytest.mark.parametrize(("schema", "at"), REFUSED_SCHEMAS)
async def test_schemas_that_are_refused(rig: Rig, schema: dict[str, Any], at: str) -> None:
    began_s = time.monotonic()
    document = manifest(service_document(version="v9", reply_schema=schema, examples=[]), id="g01-refused")
    found = await put(rig, document)
    assert found.status_code == 422, found.text
    if "\x00" not in str(schema.get("description", "")):
        assert found.json()["code"] == "invalid-registration"
        assert [fault["pointer"] for fault in found.json()["errors"]] == [f"/services/0/reply_schema{at}"]
    assert time.monotonic() - began_s < 2
    assert (await rig.call("GET", "/v1/adapters/g01-refused")).status_code == 404


async def test_patterns_run_in_linear_time(rig: Rig) -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string", "pattern": "^(a+)+$"}}}
    document = manifest(service_document(version="v8", request_schema=schema, examples=[]), id="g01-linear")
    assert (await put(rig, document)).status_code == 201
    checked = rig.registry.snapshot.services["G01.01/population-lookup/v8"].request_schema
    began_s = time.monotonic()
    assert checked.faults({"id": "a" * 50_000 + "!"}) != ()
    assert time.monotonic() - began_s < 1


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"examples": [{"request": {"id": "12"}}]}, "/services/0/examples/0/request/id"),
        ({"examples": [{"request": {"id": "900123456789"}, "reply": {"no": 1}}]}, "/services/0/examples/0/reply"),
        ({"subjects": ["/nobody"]}, "/services/0/subjects/0"),
        ({"max_body_bytes": 2_000_000}, "/services/0/max_body_bytes"),
        ({"service": "Population"}, "/services/0/service"),
        ({"version": "1.0"}, "/services/0/version"),
        ({"deadline_s": 0}, "/services/0/deadline_s"),
        ({"subjects": ["id"]}, "/services/0/subjects/0"),
        ({"title": {"vi": "Tra\u200bcứu", "en": "x"}}, "/services/0/title/vi"),
        ({"url": "http://169.254.169.254/"}, "/services/0/*"),
    ],
)
async def test_services_that_are_refused(rig: Rig, change: dict[str, Any], pointer: str) -> None:
    found = await put(rig, manifest(service_document(**{"version": "v9", **change}), id="g01-refused"))
    assert found.status_code == 422
    assert pointer in [fault["pointer"] for fault in found.json()["errors"]]


async def test_manifest_is_for_the_adapter_of_the_path(rig: Rig) -> None:
    found = await rig.call("PUT", "/v1/adapters/g01-other", json=manifest(), by="g01-registry")
    assert found.json()["errors"][0]["pointer"] == "/id"
    twice = await put(rig, manifest(service_document(), service_document()))
    assert twice.status_code == 422
    for odd in ("..%2Fx", "a..b", "G01"):
        refused = await rig.call("PUT", f"/v1/adapters/{odd}", json=manifest(), by="g01-registry")
        assert refused.json()["code"] == "invalid-identifier"


async def test_lost_update_is_refused(rig: Rig) -> None:
    await put(rig, manifest())
    seen = (await rig.call("GET", "/v1/adapters/g01-population")).headers["etag"]
    first = manifest(service_document(title=text("Lần một")))
    assert (await put(rig, first, headers={"If-Match": seen})).status_code == 200
    second = await put(rig, manifest(service_document(title=text("Lần hai"))), headers={"If-Match": seen})
    assert second.status_code == 412
    assert rig.registry.snapshot.services[PATH].title.vi == "Lần một"
