"""Whoever has a service's OpenAPI document and nothing else can call it: every example of the demo's services works."""

from __future__ import annotations

import re
import uuid
from typing import Any

import httpx
import jsonschema_rs
import pytest

from tests.docs.conftest import Demo
from tests.support.described import validate


class Described:
    """A caller made from the document alone; `known` are values of headers that the document cannot know."""

    def __init__(self, document: dict[str, Any], token: str, known: dict[str, str]) -> None:
        validate(document)
        ((self.path, item),) = document["paths"].items()
        self.document, self.operation, self.token, self.known = document, item["post"], token, known

    @property
    def requests(self) -> dict[str, Any]:
        found: dict[str, Any] = self.operation["requestBody"]["content"]["application/json"].get("examples", {})
        return {name: example["value"] for name, example in found.items()}

    def validator(self, name: str) -> jsonschema_rs.Draft202012Validator:
        return jsonschema_rs.Draft202012Validator({**self.document, "$ref": f"#/components/schemas/{name}"})

    async def call(self, body: object, **others: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        for parameter in self.operation["parameters"]:
            name: str = parameter["name"]
            if parameter["required"] or name in self.known:
                headers[name] = self.known.get(name, parameter["example"])
                assert re.search(parameter["schema"]["pattern"], headers[name])
        base_url = self.document["servers"][0]["url"]
        async with httpx.AsyncClient(base_url=base_url, timeout=30) as http:
            return await http.post(self.path, json=body, headers=headers | others)

    def hold(self, answer: httpx.Response) -> None:
        """AssertionError where the answer is none that the document says."""
        described = self.operation["responses"][str(answer.status_code)]
        if "$ref" in described:
            described = self.document["components"]["responses"][described["$ref"].rpartition("/")[2]]
        for name, header in described.get("headers", {}).items():
            assert name in answer.headers or not header.get("required"), name
        if answer.content:
            media = described["content"][answer.headers["content-type"]]
            assert self.validator(media["schema"]["$ref"].rpartition("/")[2]).is_valid(answer.json()), answer.text


async def described(demo: Demo, service: dict[str, Any], **known: str) -> Described:
    secret = demo.secret("g22-portal")
    async with httpx.AsyncClient(base_url=demo.base_url) as http:
        answer = await http.post(
            "/oauth2/token", data={"grant_type": "client_credentials"}, auth=("g22-portal", secret)
        )
        token = answer.json()["access_token"]
        answer = await http.get(f"{service['path']}/openapi.json", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
    return Described(answer.json(), token, {"Ngsp-Purpose": service["purpose"], **known})


async def test_every_example_works_as_it_is_described(demo: Demo) -> None:
    called = 0
    for service in demo.described["services"]:
        caller = await described(demo, service, **{"Idempotency-Key": str(uuid.uuid4())})
        assert caller.requests, service["path"]
        for body in caller.requests.values():
            assert caller.validator("Request").is_valid(body)
            if service["mode"] == "submission":
                body = body | {"maGCS": f"OPENAPI-{uuid.uuid4().hex[:12].upper()}"}
            answer = await caller.call(body, **{"Idempotency-Key": str(uuid.uuid4())})
            wanted = (202,) if service["mode"] == "submission" else (200, 404)
            assert answer.status_code in wanted, answer.text
            caller.hold(answer)
            called += 1
    assert called >= 4


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Ngsp-Purpose": "marketing"}, {}, 403),
        ({"Authorization": "Bearer none"}, {}, 401),
        ({"Content-Type": "text/plain"}, {}, 415),
        ({"Ngsp-Officer": "a b"}, {}, 400),
        ({}, {"code": "not a code"}, 422),
        ({}, {"code": "17920", "more": 1}, 422),
        ({"Accept": "text/html"}, {}, 406),
    ],
)
async def test_refusals_are_as_they_are_described(
    demo: Demo, headers: dict[str, str], body: dict[str, Any], status: int
) -> None:
    caller = await described(demo, demo.described["services"][0])
    answer = await caller.call(body, **headers)
    assert answer.status_code == status
    caller.hold(answer)
