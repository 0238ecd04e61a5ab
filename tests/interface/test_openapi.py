"""The OpenAPI document of the gateway: valid, whole, true to the front door, and its examples work."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from ngsp.api import front, routes
from ngsp.api.examples import EXAMPLES
from ngsp.errors import ERRORS
from ngsp.local.postgres import LocalPostgres
from ngsp.registry.model import SCOPES
from ngsp.registry.openapi import CALL_HEADERS, CALL_STATUSES
from tests.support.described import document, hold, operation, validate, wrong
from tests.support.registry import Rig, running_rig

TOKENS = {"/oauth2/token", "/token"}
OPEN = TOKENS | {"/.well-known/oauth-authorization-server", "/.well-known/jwks.json", "/livez", "/readyz"}
OPEN |= {"/metrics", "/errors", "/errors/{code}"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for method, found in item.items():
            yield method, path, found


def test_the_document_is_valid() -> None:
    validate(document())


def test_every_route_stands_in_it() -> None:
    hidden = {"/docs", "/docs/{name}", "/openapi.json"}
    named = {path for _, path, _ in operations()}
    for router in routes.ROUTERS:
        for route in router.routes:
            assert isinstance(route, Route)
            path = re.sub(r":path\}", "}", route.path)
            assert path in named | hidden, path
    assert not named & hidden


def test_every_operation_says_what_it_is_in_both_languages() -> None:
    ids = [found["operationId"] for *_, found in operations()]
    assert len(set(ids)) == len(ids)
    for id in ids:
        assert re.fullmatch(r"[a-z]+(?:-[a-z]+)*", id), id
    tags = {tag["name"] for tag in document()["tags"]}
    for method, path, found in operations():
        said = f"{found['summary']} {found.get('description', '')}"
        assert " / " in said or re.search("[ăâđêôơưạảấầậắặẹẻếềểệịọốồộớờợụủứừựỳ]", said), f"{method} {path}: {said}"
        assert set(found["tags"]) <= tags, path
        assert any(name["name"] == "Accept-Language" for name in found["parameters"]), path


def test_every_operation_says_who_may() -> None:
    for method, path, found in operations():
        scopes = [scope for way in found.get("security", []) for scope in way.get("oauth2", [])]
        assert set(scopes) <= set(SCOPES)
        assert ("security" in found) == (path in TOKENS or path not in OPEN), f"{method} {path}"
        if path not in OPEN:
            assert {"401", "default"} <= found["responses"].keys(), path


def test_every_error_stands_in_it_with_an_example_of_its_form() -> None:
    told: dict[str, int] = {}
    for name, response in document()["components"]["responses"].items():
        for code, example in response["content"]["application/problem+json"].get("examples", {}).items():
            assert wrong(example["value"], "#/components/schemas/Problem") == ""
            assert (example["value"]["code"], f"Problem{example['value']['status']}") == (code, name)
            told[code] = example["value"]["status"]
    assert told == {code: error.status for code, error in ERRORS.items()}
    assert set(CALL_STATUSES) <= set(told.values())


def _media(found: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind, media in found.get("content", {}).items():
        yield f"{place}/content/{kind.replace('/', '~1')}/schema", media


def test_examples_are_of_their_schemas() -> None:
    count = 0
    for method, path, found in operations():
        place = f"#/paths/{path.replace('/', '~1')}/{method}"
        medias = list(_media(found.get("requestBody", {}), f"{place}/requestBody"))
        for status, response in found["responses"].items():
            medias += _media(response, f"{place}/responses/{status}")
        for schema, media in medias:
            values = [example["value"] for example in media.get("examples", {}).values()]
            for value in values + ([media["example"]] if "example" in media else []):
                count += 1
                assert "schema" not in media or wrong(value, schema) == "", schema
        for index, parameter in enumerate(found["parameters"]):
            if "example" in parameter:
                count += 1
                assert wrong(parameter["example"], f"{place}/parameters/{index}/schema") == ""
    for name, example in EXAMPLES.items():
        assert wrong(example, f"#/components/schemas/{name}") == "", name
        count += 1
    assert count > 20


def test_the_headers_of_a_call_have_the_forms_that_the_front_door_takes() -> None:
    described = {header.name.lower(): header.pattern for header in CALL_HEADERS if header.pattern}
    assert described == {name.decode(): form.pattern.decode() for name, (_, form) in front.FORMS.items()}


async def test_an_answer_that_is_not_described_is_found() -> None:
    """The hook that every gateway in the tests has."""
    asked = httpx.Request("GET", "http://gateway/v1/services")
    good: dict[str, Any] = {"items": [], "next": None}
    await hold(httpx.Response(200, json=good, request=asked))
    for answer in (
        httpx.Response(202, json=good, request=asked),
        httpx.Response(200, json={"items": [{}], "next": None}, request=asked),
        httpx.Response(200, text="[]", request=asked),
        httpx.Response(401, json={"code": "unauthenticated"}, request=asked),
    ):
        with pytest.raises(AssertionError):
            await hold(answer)
    assert operation("GET", "/v1/transactions/stream") != operation("GET", "/v1/transactions/1")
    assert operation("GET", "/nowhere") is None


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_rig(postgres) as found:
        yield found


async def test_the_examples_of_the_registry_are_taken_by_a_gateway(rig: Rig) -> None:
    """In the order of a member that joins: member, client, key, adapter, sign of life, agreement and its answers."""
    e = EXAMPLES

    async def call(method: str, path: str, name: str | None, status: int, by: str = "operator-1") -> dict[str, Any]:
        answer = await rig.call(method, path, by=by, **({"json": e[name]} if name else {}))
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    await call("PUT", "/v1/members/H41", "MemberDocument", 200)
    await call("PUT", "/v1/clients/h41-onestop", "ClientDocument", 201)
    await call("POST", "/v1/clients/h41-onestop/keys", "KeyDocument", 201)
    await call("PUT", "/v1/adapters/h41-units", "ManifestDocument", 201)
    beat = await call("POST", "/v1/adapters/h41-units/heartbeat", "HeartbeatDocument", 200)
    assert beat["differing"] == ["H41/unit-lookup/v1"]
    proposed = EXAMPLES["ProposalDocument"] | {"fields": ["/name"]}
    for answered, document_name in (("accept", None), ("refuse", "RefusalDocument")):
        answer = await rig.call("POST", "/v1/agreements", json=proposed | {"reference": f"tt-{answered}"})
        assert answer.status_code == 201, answer.text
        path = f"/v1/agreements/{answer.json()['id']}"
        state = (await call("POST", f"{path}/{answered}", document_name, 200, "h41-registry"))["state"]
        assert state == {"accept": "accepted", "refuse": "refused"}[answered]
    for step in ("suspend", "resume", "revoke"):
        accepted = (await rig.call("GET", "/v1/agreements?limit=1")).json()["items"][0]["id"]
        await call("POST", f"/v1/agreements/{accepted}/{step}", "ReasonDocument", 200)
