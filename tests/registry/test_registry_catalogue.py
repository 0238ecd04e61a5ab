"""The catalogue, and each service's OpenAPI document: valid, and true to the schemas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from ngsp.registry.pointers import resolve
from tests.support.described import validate
from tests.support.registry import manifest, running_rig, service_document, text

if TYPE_CHECKING:
    from ngsp.local.postgres import LocalPostgres
    from tests.support.registry import Rig

PATH = "/v1/services/G01.01/population-lookup/v1"
TREE: dict[str, Any] = {
    "$id": "https://example.org/tree",
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "$ref": {"type": "string", "description": "a property with an odd name"},
        "left": {"$ref": "#"},
        "value": {"$ref": "#/$defs/a~1b"},
    },
    "$defs": {"a/b": {"type": "integer"}},
}


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_rig(postgres) as running:
        tree = service_document(
            service="tree",
            mode="submission",
            request_schema=TREE,
            reply_schema=TREE,
            officer_required=True,
            subjects=[],
            examples=[{"title": text("Cây"), "request": {"left": {"value": 1}}}],
        )
        many = [service_document(service=f"many-{number}") for number in range(5)]
        await running.call("PUT", "/v1/adapters/g01-population", json=manifest(service_document(), tree, *many))
        yield running


async def test_catalogue_shows_active_services_to_every_client(rig: Rig) -> None:
    page = (await rig.call("GET", "/v1/services?limit=500", by="h14-registry")).json()
    paths = [service["path"] for service in page["items"]]
    assert paths == sorted(paths)
    assert len(paths) == 7
    one = (await rig.call("GET", PATH, by="h14-registry")).json()
    assert one in page["items"]
    assert (one["mode"], one["deadline_s"], one["officer_required"]) == ("query", 5, False)
    assert one["request_schema"]["properties"]["id"]["pattern"] == "^[0-9]{12}$"
    assert one["title"] == {"vi": "Tra cứu", "en": "Tra cứu"}
    assert (await rig.http.get(PATH)).status_code == 401


async def test_catalogue_by_cursor(rig: Rig) -> None:
    first = (await rig.call("GET", "/v1/services?limit=4")).json()
    second = (await rig.call("GET", "/v1/services", params={"limit": "4", "cursor": first["next"]})).json()
    assert (len(first["items"]), len(second["items"]), second["next"]) == (4, 3, None)
    assert first["items"][-1]["path"] < second["items"][0]["path"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("G01.01/no-such/v1", 404),
        ("G01.01/population-lookup/v2", 404),
        ("G01.01/Population/v1", 422),
        ("G01..01/population-lookup/v1", 422),
        ("G01.01/population-lookup/v01", 422),
        ("G%D9%A0%D9%A1/population-lookup/v1", 422),
    ],
)
async def test_services_that_are_not_there(rig: Rig, path: str, status: int) -> None:
    for suffix in ("", "/openapi.json"):
        assert (await rig.call("GET", f"/v1/services/{path}{suffix}")).status_code == status


@pytest.mark.parametrize("name", ["population-lookup", "tree"])
@pytest.mark.parametrize("language", ["vi", "en"])
async def test_openapi_document_is_valid(rig: Rig, name: str, language: str) -> None:
    path = f"/v1/services/G01.01/{name}/v1"
    found = await rig.call("GET", f"{path}/openapi.json", headers={"Accept-Language": language})
    document = found.json()
    validate(document)
    operation = document["paths"][path]["post"]
    assert document["openapi"].startswith("3.1")
    required = {parameter["name"] for parameter in operation["parameters"] if parameter["required"]}
    assert required == ({"Ngsp-Purpose", "Idempotency-Key", "Ngsp-Officer"} if name == "tree" else {"Ngsp-Purpose"})
    assert set(operation["responses"]) >= {"202", "400", "401", "403", "422", "429", "503", "504"}
    assert "200" in operation["responses"], "of a submission: a repeat gets its stored outcome"


async def test_openapi_document_carries_the_schemas_with_their_references(rig: Rig) -> None:
    document = (await rig.call("GET", "/v1/services/G01.01/tree/v1/openapi.json")).json()
    embedded = document["components"]["schemas"]["Request"]
    assert embedded["properties"]["left"]["$ref"] == "#/components/schemas/Request"
    assert embedded["properties"]["$ref"]["type"] == "string", "a property's name is no reference"
    assert resolve(document, embedded["properties"]["value"]["$ref"]) == {"type": "integer"}
    check = jsonschema_rs.Draft202012Validator({**document, "$ref": "#/components/schemas/Request"})
    assert check.is_valid({"left": {"left": {"value": 1}}})
    assert not check.is_valid({"left": {"left": {"value": "x"}}})
    example = document["paths"]["/v1/services/G01.01/tree/v1"]["post"]["requestBody"]["content"]["application/json"]
    assert example["examples"]["example-1"] == {"summary": "Cây", "value": {"left": {"value": 1}}}
