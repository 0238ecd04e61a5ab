"""Routes that read strictly: bodies, types, parameters, and the order in which they look."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Request
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from ngsp.api import problems
from ngsp.api.strict import AUTHENTICATES, MAX_BODY_BYTES, StrictRoute
from ngsp.errors import Unauthenticated
from tests.support.effort import examples

JSON = {"Content-Type": "application/json"}
MARK = "900123456789"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    code: Annotated[str, Field(pattern="^[a-z]+$", max_length=5)]


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: str
    count: Annotated[int, Field(ge=1)] = 1
    inner: list[Inner] = []
    labels: dict[str, int] = {}


class Filters(BaseModel):
    since: str = ""
    words: list[str] = []


class Small(StrictRoute):
    max_body_bytes = 20


async def _knock(request: Request) -> None:
    if request.headers.get("knock") != "knock":
        raise Unauthenticated


async def _door(request: Request) -> None:
    await _knock(request)


setattr(_door, AUTHENTICATES, _knock)

router = APIRouter(prefix="/v1", route_class=StrictRoute)
small = APIRouter(prefix="/small", route_class=Small)


@router.put("/documents")
async def put_document(document: Document) -> Document:
    return document


@router.post("/optional")
async def post_optional(document: Document | None = None) -> bool:
    return document is not None


@router.post("/by-hand")
async def post_by_hand(request: Request) -> Any:
    return await request.json()


@router.post("/guarded")
async def post_guarded(document: Document, _: Annotated[None, Depends(_door)]) -> None: ...


@router.get("/list")
async def read_list(
    limit: Annotated[int, Query(ge=1, le=500)] = 50, kind: Annotated[list[str] | None, Query()] = None
) -> Any:
    return {"limit": limit, "kind": kind}


@router.get("/filtered")
async def read_filtered(filters: Annotated[Filters, Query()]) -> Filters:
    return filters


@router.get("/own", openapi_extra={"parameters": [{"name": "x", "in": "query", "schema": {"type": "string"}}]})
async def read_own(request: Request) -> Any:
    return dict(request.query_params)


@router.get("/things/{name}")
async def read_thing(name: str) -> str:
    return name


@small.post("/body")
async def post_small(document: dict[str, Any]) -> Any:
    return document


def application() -> FastAPI:
    app = FastAPI()
    problems.install(app)
    outer = APIRouter(prefix="/outer")
    outer.include_router(small)
    for each in (router, small, outer):
        app.include_router(each)
    return app


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application()), base_url="http://t") as client:
        yield client


async def put(http: httpx.AsyncClient, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, str]:
    answer = await http.put("/v1/documents", content=body, headers=JSON if headers is None else headers)
    assert MARK not in answer.text, "input is never echoed"
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"name": "x"}', 200, ""),
        (b"", 400, "malformed-json"),
        (b'{"name": "x", "name": "900123456789"}', 400, "malformed-json"),
        (b'{"name": NaN}', 400, "malformed-json"),
        (b'{"count": 1e400, "name": ""}', 400, "malformed-json"),
        (b'{"count": ' + b"9" * 5000 + b"}", 400, "malformed-json"),
        ('{"name": "x"}'.encode("utf-16"), 400, "malformed-json"),
        (b'{"name": "\xff"}', 400, "malformed-json"),
        (b"\xef\xbb\xbf{}", 400, "malformed-json"),
        (b'{"inner": ' + b"[" * 40 + b"]" * 40 + b"}", 400, "malformed-json"),
        (b'{"labels": {' + b",".join(b'"%d": 1' % n for n in range(10_001)) + b"}}", 413, "body-too-large"),
        (b'{"name": "' + b"x" * MAX_BODY_BYTES + b'"}', 413, "body-too-large"),
        (b'{"count": 9007199254740993, "name": ""}', 422, "schema-mismatch"),
        (b'{"name": "a\\u0000b"}', 422, "schema-mismatch"),
        (b'{"name": "x", "labels": {"\\u0000": 1}}', 422, "schema-mismatch"),
        (b'{"name": "\\\\u0000"}', 200, ""),
        (b'{"name": 900123456789}', 422, "schema-mismatch"),
        (b'{"count": "900123456789"}', 422, "schema-mismatch"),
        (b"[]", 422, "schema-mismatch"),
        (b"null", 422, "schema-mismatch"),
        (b"{}", 422, "schema-mismatch"),
    ],
)
async def test_bodies(http: httpx.AsyncClient, body: bytes, status: int, code: str) -> None:
    assert await put(http, body) == (status, code)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/json"}, 200),
        ({"Content-Type": "Application/JSON; Charset=UTF-8"}, 200),
        ({"Content-Type": 'application/json;charset="utf-8"'}, 200),
        ({"Content-Type": "application/json", "Content-Encoding": "identity"}, 200),
        ({}, 415),
        ({"Content-Type": ""}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/problem+json"}, 415),
        ({"Content-Type": "application/json; charset=utf-16"}, 415),
        ({"Content-Type": "application/json; charset=utf-8; x=1"}, 415),
        ({"Content-Type": "application/json, text/plain"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
        ({"Content-Type": "application/json", "Content-Encoding": "identity, br"}, 415),
    ],
)
async def test_types(http: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    assert (await put(http, b'{"name": "x"}', headers))[0] == status


async def test_pointers_name_what_the_model_knows_and_nothing_the_sender_made_up(http: httpx.AsyncClient) -> None:
    body = {
        MARK: 1,
        "name": None,
        "count": 0,
        "inner": [{"code": "ok"}, {"code": "UPPER"}, {"code": "toolong"}, {MARK: 1, "code": "x"}],
        "labels": {MARK: MARK},
    }
    answer = await http.put("/v1/documents", json=body, headers={"Accept-Language": "en"})
    assert MARK not in answer.text
    faults = {fault["pointer"]: fault["detail"] for fault in answer.json()["errors"]}
    assert faults == {
        "/name": "Wrong type.",
        "/count": "Below the minimum.",
        "/inner/1/code": "Not of the required form.",
        "/inner/2/code": "Too long.",
        "/inner/3/*": "There is a field that is not known here.",
        "/labels/*": "Wrong type.",
        "/*": "There is a field that is not known here.",
    }


async def test_at_most_twenty_faults(http: httpx.AsyncClient) -> None:
    answer = await http.put("/v1/documents", json={"name": "x", "inner": [{}] * 500})
    assert len(answer.json()["errors"]) == 20


async def test_a_body_is_cut_off_while_it_is_read(http: httpx.AsyncClient) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100:
            sent += 1
            yield b" " * 65_536

    answer = await http.put("/v1/documents", content=endless(), headers=JSON)
    assert answer.status_code == 413
    # 16 blocks make the limit; the transport may have taken one more.
    assert sent <= 18


@pytest.mark.parametrize("path", ["/small/body", "/outer/small/body"])
async def test_a_route_class_sets_its_own_limit_wherever_it_is_included(http: httpx.AsyncClient, path: str) -> None:
    assert (await http.post(path, content=b'{"a": 1}', headers=JSON)).status_code == 200
    assert (await http.post(path, content=b'{"a": 1}            ', headers=JSON)).status_code == 200
    assert (await http.post(path, content=b'{"a": 1}             ', headers=JSON)).status_code == 413
    assert (await http.post(path, content=b'{"a":1,"a":2}', headers=JSON)).status_code == 400


async def test_a_body_that_may_be_absent_is_strict_when_it_is_there(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/optional")).json() is False
    assert (await http.post("/v1/optional", json={"name": "x"})).json() is True
    assert (await http.post("/v1/optional", content=b"{", headers=JSON)).status_code == 400
    assert (await http.post("/v1/optional", content=b"{}")).status_code == 415


async def test_a_function_that_reads_the_request_itself_is_strict_too(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/by-hand", json={"a": [1]})).json() == {"a": [1]}
    for body, status in ((b'{"a":1,"a":2}', 400), (b"", 400), (b" " * 2_000_000, 413)):
        assert (await http.post("/v1/by-hand", content=body, headers=JSON)).status_code == status


async def test_who_calls_is_asked_before_anything_is_read(http: httpx.AsyncClient) -> None:
    for path, body in (("/v1/guarded", b"\xff"), ("/v1/guarded?unknown=1", b""), ("/v1/guarded", b" " * 2_000_000)):
        assert (await http.post(path, content=body)).status_code == 401
    knock = {"knock": "knock"}
    assert (await http.post("/v1/guarded", content=b"\xff", headers=knock)).status_code == 415
    assert (await http.post("/v1/guarded", json={"name": "x"}, headers=knock)).status_code == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/list", 200),
        ("/v1/list?limit=500&kind=a&kind=b", 200),
        ("/v1/list?limit=501", 400),
        ("/v1/list?limit=0", 400),
        ("/v1/list?limit=", 400),
        ("/v1/list?limit=x", 400),
        ("/v1/list?limit=1e2", 400),
        ("/v1/list?limit=" + "9" * 5000, 400),
        ("/v1/list?limit=1&limit=2", 400),
        ("/v1/list?Limit=1", 400),
        ("/v1/list?unknown=1", 400),
        ("/v1/list?kind=%ff", 400),
        ("/v1/list?kind=%00", 400),
        ("/v1/list?kind=a%0d%0ab", 400),
        ("/v1/list?%00=1", 400),
        ("/v1/list?kind=Ngh%E1%BB%87+An", 200),
        ("/v1/filtered?since=x&words=a&words=b", 200),
        ("/v1/filtered?since=x&since=y", 400),
        ("/v1/filtered?other=x", 400),
        ("/v1/own?x=1", 200),
        ("/v1/own?y=1", 400),
        ("/v1/things/a", 200),
        ("/v1/things/a?x=1", 400),
        ("/v1/things/%ff", 400),
        ("/v1/things/%00", 400),
        ("/v1/things/a%0Ab", 400),
    ],
)
async def test_addresses(http: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await http.get(path)
    assert answer.status_code == status, answer.text
    if status == 400:
        assert answer.json()["code"] == "malformed-parameter"


async def test_an_unknown_parameter_is_not_echoed(http: httpx.AsyncClient) -> None:
    answer = await http.get(f"/v1/list?{MARK}={MARK}")
    assert answer.status_code == 400
    assert MARK not in answer.text


_app = application()


@settings(max_examples=examples(200), deadline=None)
@given(
    body=st.binary(max_size=80)
    | st.recursive(st.none() | st.text(max_size=5) | st.integers(), lambda b: st.dictionaries(st.text(max_size=5), b))
    .map(lambda value: json.dumps(value).encode()),
    query=st.binary(max_size=30),
)  # fmt: skip
async def test_whatever_comes_is_answered_by_the_caller_s_own_fault(body: bytes, query: bytes) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "method": "PUT",
        "path": "/v1/documents",
        "raw_path": b"/v1/documents",
        "query_string": query,
        "headers": [(b"content-type", b"application/json")],
    }
    await _app(scope, receive, send)
    assert sent[0]["status"] in (200, 400, 413, 422)
