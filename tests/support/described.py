"""Every answer of a gateway in the tests is held against its OpenAPI document: what it answers must stand there."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import httpx
import jsonschema_rs
import orjson
from openapi_spec_validator import OpenAPIV31SpecValidator

from ngsp.api.routes import described
from ngsp.registry.pointers import resolve

ANYWHERE = frozenset((405, 406, 408, 414, 431, 500))
"""Refusals that any operation may answer with, whatever it is: `default` stands for them."""


@cache
def document() -> dict[str, Any]:
    """The OpenAPI document of every gateway."""
    return described()


@cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    """Address → template, those without places first, so that `/v1/transactions/stream` is no transaction's id."""
    templates = sorted(document()["paths"], key=lambda template: template.count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", template)), template) for template in templates]


def operation(method: str, path: str) -> tuple[str, dict[str, Any]] | None:
    """The operation at an address and its place in the document; None where there is none."""
    for form, template in _paths():
        if form.fullmatch(path) and method.lower() in document()["paths"][template]:
            place = f"#/paths/{_escaped(template)}/{method.lower()}"
            found: dict[str, Any] = document()["paths"][template][method.lower()]
            return place, found
    return None


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")


@cache
def validator(place: str) -> jsonschema_rs.Draft202012Validator:
    """Of the schema at `place`, a JSON pointer into the document."""
    components = {"components": {"schemas": document()["components"]["schemas"]}}
    return jsonschema_rs.Draft202012Validator(resolve(document(), place) | components, validate_formats=True)


def wrong(value: object, place: str) -> str:
    """What is wrong with `value` by the schema at `place`; empty where nothing is."""
    errors = validator(place).iter_errors(value)
    return "; ".join(f"/{'/'.join(map(str, error.instance_path))}: {error.message}" for error in errors)


async def hold(answer: httpx.Response) -> None:
    """A hook for `httpx.AsyncClient`: AssertionError where `answer` is not what the document says."""
    asked = answer.request
    found = operation(asked.method, asked.url.path)
    if found is None or answer.headers.get("content-type", "").startswith("text/event-stream"):
        return
    place, described = found
    what = f"{asked.method} {asked.url.path} answers {answer.status_code}"
    responses = described["responses"]
    status = str(answer.status_code)
    if status not in responses:
        assert answer.status_code in ANYWHERE, f"{what}, which /openapi.json does not say (see ngsp/api/interface.py)"
        status = "default"
    response, place = responses[status], f"{place}/responses/{status}"
    if "$ref" in response:
        place = response["$ref"]
        response = document()["components"]["responses"][place.rpartition("/")[2]]
    await answer.aread()
    _headers(answer, response, what)
    _content(answer, response, place, what)


def _headers(answer: httpx.Response, response: dict[str, Any], what: str) -> None:
    for name, header in response.get("headers", {}).items():
        value = answer.headers.get(name)
        assert value is not None or not header.get("required"), f"{what} without {name}"
        if value is not None and (pattern := header["schema"].get("pattern")):
            assert re.search(pattern, value), f"{what} with {name}: {value}"


def _content(answer: httpx.Response, response: dict[str, Any], place: str, what: str) -> None:
    content = response.get("content", {})
    if not answer.content:
        return
    media = answer.headers["content-type"].partition(";")[0]
    assert media in content, f"{what} with {media}"
    if media.endswith("json") and "schema" in content[media]:
        fault = wrong(orjson.loads(answer.content), f"{place}/content/{_escaped(media)}/schema")
        assert not fault, f"{what}: {fault}"


def validate(openapi: dict[str, Any]) -> None:
    """By OpenAPI's own validator. It tries patterns with Python's `re`, which lacks `\\p{…}` of ECMA-262; only there
    is a class of letters put in its place."""
    text = re.sub(r"\\\\p\{\w+\}", r"\\\\w", orjson.dumps(openapi).decode())
    OpenAPIV31SpecValidator(orjson.loads(text)).validate()
