"""Subscriptions over REST: who may, what is refused and where, lost updates, who sees what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from ngsp.messages import uuid7
from ngsp.registry.change import Actor
from ngsp.registry.subscription_documents import SubscriptionDocument
from ngsp.registry.subscriptions import put_subscription
from tests.registry.subscribing import (
    ENDED,
    OTHER,
    RECEIVER,
    SERVICE,
    URL,
    agreed,
    made,
    new_id,
    put,
    running_with_events,
    view,
    wanted,
)
from tests.support.registry import CHANGED, client_document, event_service, manifest, running_rig

if TYPE_CHECKING:
    from ngsp.local.postgres import LocalPostgres
    from tests.support.registry import Rig


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_with_events(postgres) as running:
        yield running


async def test_a_subscription_is_made_replaced_and_read(rig: Rig) -> None:
    created = await put(rig, "first", types=[CHANGED])
    assert (created.status_code, created.headers["etag"]) == (201, '"1"'), created.text
    assert created.headers["cache-control"] == "no-store"
    again = await put(rig, "first", types=[CHANGED])
    assert (again.status_code, again.headers["etag"]) == (200, '"1"'), "nothing changed, so nothing moved"
    assert again.json()["secret"] is None
    replaced = await put(rig, "first", types=[ENDED, CHANGED], active=False)
    assert (replaced.status_code, replaced.headers["etag"]) == (200, '"2"')
    lost = await put(rig, "first", headers={"If-Match": '"1"'})
    assert (lost.status_code, lost.json()["code"]) == (412, "precondition-failed")
    read = await rig.call("GET", "/v1/subscriptions/first", by="h41-registry")
    assert read.headers["etag"] == '"2"'
    shown = read.json()
    assert (shown["types"], shown["url"], shown["receiver"]) == (sorted([ENDED, CHANGED]), URL, None)
    assert (shown["state"], shown["run"], shown["open"], shown["client"]) == ("inactive", 1, 0, "h41-registry")
    known = rig.registry.snapshot.subscriptions["first"]
    assert (known.member, known.active, known.wants(CHANGED), known.wants("x")) == ("H41", False, True, False)
    assert await put(rig, "first", headers={"If-None-Match": "*"}) is not None


@pytest.mark.parametrize(
    ("change", "places"),
    [
        ({"service": "G01.01/nothing/v1"}, ["/service"]),
        ({"service": "G01.01/population-lookup/v1"}, ["/service"]),
        ({"service": "\u0430"}, ["/service"]),
        ({"types": ["vn.nothing"]}, ["/types/0"]),
        ({"types": [CHANGED, CHANGED]}, [""]),
        ({"types": ["Bad"]}, ["/types/0"]),
        ({"purpose": "other"}, ["/agreement"]),
        ({"purpose": "other", "agreement": "tt-1"}, ["/purpose"]),
        ({"agreement": "tt-2"}, ["/agreement"]),
        ({"agreement": uuid7()}, ["/agreement"]),
        ({"url": ...}, [""]),
        ({"receiver": RECEIVER}, [""]),
        ({"url": ..., "receiver": "H41/nothing/v1"}, ["/receiver"]),
        ({"url": ..., "receiver": "H41/asked/v1"}, ["/receiver"]),
        ({"url": ..., "receiver": "H41/officers/v1"}, ["/receiver"]),
        ({"url": ..., "receiver": "H41/closed/v1"}, ["/receiver"]),
        ({"url": ..., "receiver": SERVICE}, ["/receiver"]),
        ({"client": "g01-registry"}, ["/client"]),
        ({"client": "nobody"}, ["/client"]),
        ({"member": "H14"}, ["/member"]),
        ({"from": "yesterday"}, ["/from"]),
        ({"from": "2026-13-01T00:00:00Z"}, ["/from"]),
        ({"from": "1-99999999999"}, ["/from"]),
        ({"from": "9223372036854775807-0"}, ["/from"]),
        ({"active": "yes"}, ["/active"]),
        ({"more": 1}, ["/*"]),
        ({"url": "http://motcua.example.vn/"}, ["/url"]),
        ({"url": "ftp://motcua.example.vn/"}, ["/url"]),
        ({"url": "https://"}, ["/url"]),
        ({"url": "https://user@motcua.example.vn/"}, ["/url"]),
        ({"url": "https://user:word@motcua.example.vn/"}, ["/url"]),
        ({"url": "https://@motcua.example.vn/"}, ["/url"]),
        ({"url": "https://motcua.example.vn/#part"}, ["/url"]),
        ({"url": "https://motcua.example.vn/a b"}, ["/url"]),
        ({"url": "https://motcua.example.vn\\@evil/"}, ["/url"]),
        ({"url": "https://một.vn/"}, ["/url"]),
        ({"url": "https://motcua.example.vn:99999/"}, ["/url"]),
        ({"url": "https://-bad-.vn/"}, ["/url"]),
        ({"url": "https://127.0.0.1/"}, ["/url"]),
        ({"url": "https://127.1/"}, ["/url"]),
        ({"url": "https://0x7f000001/"}, ["/url"]),
        ({"url": "https://2130706433/"}, ["/url"]),
        ({"url": "https://localhost/"}, ["/url"]),
        ({"url": "https://a.localhost/"}, ["/url"]),
        ({"url": "https://10.1.2.3/"}, ["/url"]),
        ({"url": "https://169.254.169.254/latest"}, ["/url"]),
        ({"url": "https://[::1]/"}, ["/url"]),
        ({"url": "https://[::ffff:10.0.0.1]/"}, ["/url"]),
        ({"url": "http://8.8.8.8/"}, ["/url"]),
        ({"url": "https://a.vn/" + "x" * 2000}, ["/url"]),
    ],
)
async def test_what_is_wrong_is_told_where(rig: Rig, change: dict[str, Any], places: list[str]) -> None:
    refused = await put(rig, "wrong", **change)
    assert refused.status_code == 422, refused.text
    assert [fault["pointer"] for fault in refused.json()["errors"]] == places
    assert "wrong" not in rig.registry.snapshot.subscriptions


@pytest.mark.parametrize(
    "url", ["https://8.8.8.8/x?y=1", "https://[2001:4860:4860::8888]:8443/", "https://a-b.vn:8443"]
)
async def test_a_public_address_is_taken(rig: Rig, url: str) -> None:
    assert (await view(rig, await made(rig, url=url)))["url"] == url


async def test_networks_that_the_operator_allows(postgres: LocalPostgres) -> None:
    async with running_rig(postgres, webhook_allowed_networks="127.0.0.0/8, 10.1.0.0/16") as rig:
        await rig.call("PUT", "/v1/adapters/g01-population", json=manifest(event_service()), by="g01-registry")
        await agreed(rig, SERVICE)
        for url, status in (
            ("http://127.0.0.1:8080/hook", 201),
            ("http://localhost:8080/hook", 201),
            ("https://10.1.2.3/", 201),
            ("https://10.2.2.3/", 422),
            ("http://8.8.8.8/", 422),
            ("http://intern.example.vn/", 422),
        ):
            answer = await put(rig, new_id(), url=url)
            assert answer.status_code == status, url


async def test_others_see_nothing_and_the_provider_sees_who(rig: Rig) -> None:
    id = await made(rig, types=[CHANGED])
    for method, path, body in (
        ("GET", "", None),
        ("PUT", "", wanted()),
        ("GET", "/deliveries", None),
        ("POST", "/secret", {}),
        ("POST", "/replay", {"from": "now"}),
        ("POST", "/resume", None),
    ):
        hidden = await rig.call(method, f"/v1/subscriptions/{id}{path}", json=body, by="h14-registry")
        assert (hidden.status_code, hidden.json()["code"]) == (404, "not-found"), path
    shown = await view(rig, id, by="g01-registry")
    assert (shown["member"], shown["types"], shown["state"]) == ("H41", [CHANGED], "active")
    assert [shown[name] for name in ("url", "receiver", "client", "agreement")] == [None] * 4
    for method, path, body in (
        ("PUT", "", wanted()),
        ("GET", "/deliveries", None),
        ("GET", f"/deliveries/{uuid7()}/attempts", None),
        ("POST", "/secret", {}),
        ("POST", "/replay", {"from": "now"}),
        ("POST", "/resume", None),
    ):
        hidden = await rig.call(method, f"/v1/subscriptions/{id}{path}", json=body, by="g01-registry")
        assert (hidden.status_code, hidden.json()["code"]) == (404, "not-found"), path
    assert (await view(rig, id, by="auditor-1"))["url"] == URL
    denied = await rig.call("PUT", f"/v1/subscriptions/{id}", json=wanted(), by="auditor-1")
    assert (denied.status_code, denied.json()["code"]) == (403, "scope-missing")
    assert (await rig.http.get(f"/v1/subscriptions/{id}")).status_code == 401


async def test_lists_show_what_each_may_see_page_by_page(rig: Rig) -> None:
    own = {await made(rig) for _ in range(3)}
    seen: set[str] = set()
    path = "/v1/subscriptions?limit=2"
    while path:
        page = (await rig.call("GET", path, by="h41-registry")).json()
        assert len(page["items"]) <= 2
        seen |= {item["id"] for item in page["items"]}
        path = f"/v1/subscriptions?limit=2&cursor={page['next']}" if page["next"] else ""
    assert own <= seen
    provider = (await rig.call("GET", "/v1/subscriptions?limit=500", by="g01-registry")).json()["items"]
    assert own <= {item["id"] for item in provider}
    assert {item["url"] for item in provider} == {None}
    assert (await rig.call("GET", "/v1/subscriptions", by="h14-registry")).json() == {"items": [], "next": None}
    every = (await rig.call("GET", "/v1/subscriptions?limit=500", by="auditor-1")).json()["items"]
    assert own <= {item["id"] for item in every}


async def test_an_operator_says_whose_it_is(rig: Rig) -> None:
    unsaid = await put(rig, "operated", by="operator-1")
    assert [fault["pointer"] for fault in unsaid.json()["errors"]] == ["/member"]
    whose = await put(rig, "operated", by="operator-1", member="H41")
    assert [fault["pointer"] for fault in whose.json()["errors"]] == ["/client"]
    answer = await put(rig, "operated", by="operator-1", member="H41", client="h41-desk")
    assert (answer.status_code, answer.json()["client"]) == (201, "h41-desk")
    assert (await put(rig, "operated", by="h41-registry")).json()["client"] == "h41-desk", "stays whose it was"
    moved = await put(rig, "operated", by="operator-1", member="H14", client="h14-registry")
    assert [fault["pointer"] for fault in moved.json()["errors"]] == ["/member"]


async def test_a_client_of_the_sandbox_gets_no_real_events(rig: Rig) -> None:
    await rig.call("PUT", "/v1/clients/h41-trial", json=client_document("H41", "exchange", sandbox=True))
    refused = await put(rig, "trial", client="h41-trial")
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/client"]


async def test_a_subscription_stays_with_its_service(rig: Rig) -> None:
    id = await made(rig)
    await agreed(rig, OTHER)
    refused = await put(rig, id, service=OTHER)
    assert (refused.status_code, refused.json()["code"]) == (409, "state-conflict")


async def test_which_agreement_where_several_fit(rig: Rig) -> None:
    first = await agreed(rig, SERVICE, consumer="H14", reference="a-1")
    by = "h14-registry"
    alone = await put(rig, "chosen", by=by)
    assert alone.json()["agreement"] == first
    second = await agreed(rig, SERVICE, consumer="H14", reference="a-2")
    several = await put(rig, "chosen-2", by=by)
    assert [fault["pointer"] for fault in several.json()["errors"]] == ["/agreement"]
    assert (await put(rig, "chosen-2", by=by, agreement="a-2")).json()["agreement"] == second
    assert (await put(rig, "chosen-3", by=by, agreement=first)).json()["agreement"] == first
    kept = await put(rig, "chosen", by=by)
    assert (kept.status_code, kept.json()["agreement"]) == (200, first), "what holds is kept"


async def test_an_agreement_that_asks_for_consent_to_each(rig: Rig) -> None:
    asked = await agreed(rig, SERVICE, consumer="H14", purposes=["asked"], consent_required=True)
    for agreement in (asked, ...):
        refused = await put(rig, "asked", by="h14-registry", purpose="asked", agreement=agreement)
        assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/agreement"]


async def test_a_dry_run_leaves_nothing(rig: Rig) -> None:
    actor = Actor("h41-registry", "H41", frozenset(("registry",)))
    async with rig.registry.change(actor, dry_run=True) as change:
        document = SubscriptionDocument.model_validate(wanted())
        stored, secret = await put_subscription(change, "dry", document, rig.registry.given)
        assert stored.created
        assert secret is not None
        assert "secrets" not in stored.changes
    assert (await rig.call("GET", "/v1/subscriptions/dry", by="h41-registry")).status_code == 404
