"""Compatible routes over REST: who may, what is refused and why, lost updates, pages, and what the snapshot finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text as sql

from ngsp.api.routes import ROUTERS
from ngsp.local.postgres import LocalPostgres
from ngsp.registry.routes import RESERVED
from tests.support.registry import Rig, manifest, proposal, running_rig, service_document, text

ROUTE: dict[str, Any] = {
    "title": text("Tra cứu dân cư"),
    "methods": ["GET"],
    "path": "/apiDanCu/1.0/traCuu",
    "service": "G01.01/population-lookup/v1",
    "purpose": "birth-registration",
    "query": ["so"],
    "request": {"id": "query.so"},
}
SERVICES = (
    service_document(),
    service_document(service="officers-only", officer_required=True),
    service_document(service="birth", mode="submission", effect="transactional"),
)


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_rig(postgres) as running:
        answer = await running.call("PUT", "/v1/adapters/g01-population", json=manifest(*SERVICES), by="g01-registry")
        assert answer.status_code == 201, answer.text
        yield running


def route(**others: Any) -> dict[str, Any]:
    return {name: value for name, value in (ROUTE | others).items() if value is not ...}


async def put(rig: Rig, id: str, *, by: str = "operator-1", match: str = "", **others: Any) -> httpx.Response:
    headers = {"If-Match": match} if match else {}
    return await rig.call("PUT", f"/v1/compatible-routes/{id}", json=route(**others), by=by, headers=headers)


async def test_a_route_is_created_replaced_and_read(rig: Rig) -> None:
    created = await put(rig, "first", path="/first/1.0/a")
    assert (created.status_code, created.headers["etag"]) == (201, '"1"'), created.text
    again = await put(rig, "first", path="/first/1.0/a")
    assert (again.status_code, again.headers["etag"]) == (200, '"1"'), "nothing changed, so nothing moved"
    replaced = await put(rig, "first", path="/first/1.0/a", reply={"SO": "body.id"}, tables={"t": {"a": 1}})
    assert (replaced.status_code, replaced.headers["etag"]) == (200, '"2"')
    lost = await put(rig, "first", path="/first/1.0/b", match='"1"')
    assert (lost.status_code, lost.json()["code"]) == (412, "precondition-failed")
    read = await rig.call("GET", "/v1/compatible-routes/first", by="h14-registry")
    assert read.headers["etag"] == '"2"'
    expressions = ("purpose_from", "officer", "dossier", "procedure", "consent", "key", "accepted", "error")
    assert read.json() == dict.fromkeys(expressions) | route(
        id="first",
        path="/first/1.0/a",
        agreements=[],
        active=True,
        headers=[],
        reply={"SO": "body.id"},
        tables={"t": {"a": 1}},
    )
    found = rig.registry.snapshot.routes.find(b"/first/1.0/a")
    assert found is not None, "seen at once where it was written"
    assert found[0]["GET"].id == "first"


async def test_a_route_that_is_switched_off_is_found_no_more(rig: Rig) -> None:
    await put(rig, "off", path="/off/1.0/a")
    assert rig.registry.routes.find(b"/off/1.0/a") is not None
    await put(rig, "off", path="/off/1.0/a", active=False)
    assert rig.registry.routes.find(b"/off/1.0/a") is None
    assert (await put(rig, "takes-its-place", path="/off/1.0/a")).status_code == 201
    back = await put(rig, "off", path="/off/1.0/a")
    assert (back.status_code, back.json()["route"]) == (409, "takes-its-place")


async def test_only_operators_set_routes_up(rig: Rig) -> None:
    for client in ("g01-registry", "h41-registry", "auditor-1"):
        answer = await put(rig, "theirs", by=client)
        assert (answer.status_code, answer.json()["code"]) == (403, "scope-missing")
    assert (await rig.http.put("/v1/compatible-routes/theirs", json=ROUTE)).status_code == 401
    assert (await rig.call("GET", "/v1/compatible-routes/theirs")).status_code == 404


@pytest.mark.parametrize(
    ("first", "second", "meet"),
    [
        (("GET", "/c1/a"), ("GET", "/c1/a"), True),
        (("GET", "/c2/a"), ("POST", "/c2/a"), False),
        (("GET", "/c3/a"), ("GET", "/c3/b"), False),
        (("GET", "/c4/{x}"), ("GET", "/c4/a"), True),
        (("GET", "/c5/{x}"), ("POST", "/c5/a"), True),
        (("GET", "/c6/{x}"), ("GET", "/c6/{y}"), True),
        (("GET", "/c7/{x}"), ("POST", "/c7/{y}"), False),
        (("GET", "/c8/{x}/b"), ("GET", "/c8/a/{y}"), True),
        (("GET", "/c9/{x}/b"), ("GET", "/c9/a/c"), False),
        (("GET", "/ca/{x}"), ("GET", "/ca/{x}/b"), False),
        (("GET", "/cb/a"), ("GET", "/CB/a"), False),
    ],
)
async def test_no_request_is_for_two_routes(
    rig: Rig, first: tuple[str, str], second: tuple[str, str], meet: bool
) -> None:
    head = first[1].split("/")[1]
    assert (await put(rig, f"{head}-1", methods=[first[0]], path=first[1])).status_code == 201
    answer = await put(rig, f"{head}-2", methods=[second[0]], path=second[1])
    assert answer.status_code == (409 if meet else 201), answer.text
    if meet:
        assert (answer.json()["code"], answer.json()["route"]) == ("state-conflict", f"{head}-1")


@pytest.mark.parametrize(
    "path",
    ["", "a", "/", "//a", "/a/", "/a//b", "/a/../b", "/a/.", "/..", "/{x}", "/{x}/a", "/a/{x", "/a/x}", "/a/{}",
     "/a/{1}", "/a/{x}{y}", "/a/b{x}", "/a/{x}/{x}", "/a/%41", "/a b", "/a;b", "/a?b", "/a#b", "/á", "/a\\b",
     "/http://a", "/a/*", "/" + "/".join("a" * 13), "/a/" + "b" * 300, "/v1/x", "/v2/x", "/V1/x", "/oauth2/x", "/token",
     "/.well-known/x", "/openapi.json", "/docs/x", "/console/x", "/livez", "/metrics", "/r1/x", "/vxp/x", "/errors/x"],
)  # fmt: skip
async def test_paths_that_are_none(rig: Rig, path: str) -> None:
    answer = await put(rig, "odd", path=path)
    assert answer.status_code == 422, answer.text
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/path"]


def test_every_path_of_the_gateway_is_reserved() -> None:
    """So that no route can stand before one of ours, and none is taken away by a later version."""
    ours = {route.path.split("/")[1] for router in ROUTERS for route in router.routes}  # type: ignore[attr-defined]
    assert ours <= RESERVED
    assert {"v1", "token"} <= ours


@pytest.mark.parametrize(
    ("others", "pointer"),
    [
        ({"service": "G01.01/nothing/v1"}, "/service"),
        ({"service": "http://elsewhere.example"}, "/service"),
        ({"methods": []}, "/methods"),
        ({"methods": ["PUT"]}, "/methods/0"),
        ({"methods": ["GET", "GET"]}, ""),
        ({"purpose": ...}, ""),
        ({"purpose_from": "query.so"}, ""),
        ({"purpose": "Not A Purpose"}, "/purpose"),
        ({"query": ["so", "so"]}, ""),
        ({"query": ["sô"]}, "/query/0"),
        ({"headers": ["X-Officer"]}, "/headers/0"),
        ({"headers": ["authorization"]}, "/headers/0"),
        ({"headers": ["lgspaccesstoken"]}, "/headers/0"),
        ({"headers": ["cookie"]}, "/headers/0"),
        ({"request": ...}, "/request"),
        ({"request": {"id": "body.so"}}, "/request"),
        ({"request": {"id": "query.so ||"}}, "/request/id"),
        ({"request": {"id": "payload.so"}}, "/request/id"),
        ({"request": {"id": "open('/etc/passwd')"}}, "/request/id"),
        ({"request": {"id": ["query.so"]}}, "/request/id"),
        ({"request": {"id": "lookup('no-such', query.so)"}}, "/request/id"),
        ({"request": {"id": "iso_date(query.so, 'ngày')"}}, "/request/id"),
        ({"request": "x" * 9_000}, "/request"),
        ({"officer": "answer.officer"}, "/officer"),
        ({"reply": {"a": "query.so"}}, "/reply/a"),
        ({"reply": {"a": "body.id + 1"}}, "/reply/a"),
        ({"reply": {"a": "join('-', body.nothing)"}}, "/reply"),
        ({"reply": {"a": "to_number(body.id, body.id)"}}, "/reply/a"),
        ({"error": {"a": "body.code"}}, "/error/a"),
        ({"error": {"a": "length(errors)"}}, "/error"),
        ({"accepted": {"a": "abs(location)"}}, "/accepted"),
        ({"methods": ["POST"], "service": "G01.01/officers-only/v1"}, "/officer"),
        ({"methods": ["POST"], "service": "G01.01/birth/v1"}, "/key"),
        ({"service": "G01.01/birth/v1", "key": "query.so"}, "/methods"),
        ({"agreements": ["H41/nothing"]}, "/agreements/0"),
        ({"agreements": ["01920000-0000-7000-8000-000000000000"]}, "/agreements/0"),
        ({"agreements": ["nothing"]}, "/agreements/0"),
        ({"agreements": ["../x/y"]}, "/agreements/0"),
        ({"title": {"vi": "x"}}, "/title/en"),
        ({"url": "http://elsewhere.example"}, "/*"),
        ({"tables": {"t": 1}}, "/tables/*"),
    ],
)
async def test_documents_that_are_refused(rig: Rig, others: dict[str, Any], pointer: str) -> None:
    answer = await put(rig, "refused", **others)
    assert answer.status_code == 422, answer.text
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    assert (await rig.call("GET", "/v1/compatible-routes/refused")).status_code == 404


async def test_agreements_by_their_own_number_or_by_id(rig: Rig) -> None:
    ids = []
    for consumer, reference in (("H41", "one"), ("H41", "two"), ("H14", "one")):
        document = proposal(consumer=consumer, reference=reference)
        answer = await rig.call("POST", "/v1/agreements", json=document, by=f"{consumer.lower()}-registry")
        ids.append(answer.json()["id"])
    answer = await put(rig, "agreed", path="/agreed/a", agreements=["H41/two", ids[2]])
    assert answer.status_code == 201, answer.text
    assert answer.json()["agreements"] == sorted(ids[1:])
    both = await put(rig, "agreed", path="/agreed/a", agreements=["H41/one", "H41/two"])
    assert [fault["pointer"] for fault in both.json()["errors"]] == ["/agreements/1"]
    for client, seen in (("h41-registry", [ids[1]]), ("g01-registry", []), ("auditor-1", sorted(ids[1:]))):
        shown = await rig.call("GET", "/v1/compatible-routes/agreed", by=client)
        assert shown.json()["agreements"] == seen, "nobody sees the agreements of others"
    other = await put(rig, "other", path="/agreed/b", service="G01.01/birth/v1", methods=["POST"], key="body.so",
                      agreements=["H41/one"])  # fmt: skip
    assert [fault["pointer"] for fault in other.json()["errors"]] == ["/agreements/0"], "of another service"
    snapshot = rig.registry.snapshot
    kept = snapshot.routes.by_id["agreed"]
    assert kept.agreement_of("H41", snapshot.agreements) == ids[1]
    assert kept.agreement_of("H14", snapshot.agreements) == ids[2]
    assert kept.agreement_of("G22", snapshot.agreements) == ""


@pytest.mark.parametrize("id", ["..%2Fx", "A", "a/b", "a b", "%E2%80%8B", "x" * 65])
async def test_odd_ids_are_refused(rig: Rig, id: str) -> None:
    answer = await put(rig, id)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-identifier")


async def test_pages(rig: Rig) -> None:
    for number in range(7):
        assert (await put(rig, f"page-{number}", path=f"/page/{number}")).status_code in (200, 201)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        parameters = {"limit": "3", **({"cursor": cursor} if cursor else {})}
        page = (await rig.call("GET", "/v1/compatible-routes", params=parameters, by="h41-registry")).json()
        assert len(page["items"]) <= 3
        seen += [found["id"] for found in page["items"]]
        cursor = page["next"]
    assert seen == sorted(set(seen))
    assert {f"page-{number}" for number in range(7)} <= set(seen)
    wrong = await rig.call("GET", "/v1/compatible-routes?cursor=WyJjbGllbnRzIiwiYSJd")
    assert (wrong.status_code, wrong.json()["code"]) == (400, "malformed-parameter")


async def test_one_bad_row_does_not_stop_the_others(rig: Rig) -> None:
    """Only a hand in the database can make one: it is left out, and said loudly."""
    await put(rig, "broken", path="/broken/a")
    async with rig.engine.begin() as connection:
        for statement in (
            "UPDATE registry_revision SET revision = revision + 1",
            """UPDATE compatible_routes SET terms = jsonb_set(terms, '{key}', '"(("'),
                revision = (SELECT revision FROM registry_revision) WHERE id = 'broken'""",
        ):
            await connection.execute(sql(statement))
    assert (await put(rig, "after-it", path="/broken/b")).status_code == 201
    routes = rig.registry.snapshot.routes
    assert routes.find(b"/broken/a") is None
    assert routes.find(b"/broken/b") is not None
