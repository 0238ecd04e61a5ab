"""Subscriptions over REST: who may, what is refused and where, lost updates, secrets, where one begins, replay."""

from __future__ import annotations

import base64
import itertools
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text as sql
from structlog.testing import capture_logs

from ngsp.messages import uuid7
from ngsp.registry.model import webhook_secret_name
from ngsp.vault import Vault
from tests.support.registry import (
    CHANGED,
    EVENT_SCHEMA,
    client_document,
    event_service,
    manifest,
    proposal,
    running_rig,
    service_document,
    text,
)

if TYPE_CHECKING:
    import httpx

    from ngsp.local.postgres import LocalPostgres
    from tests.support.registry import Rig

SERVICE = "G01.01/population-events/v1"
OTHER = "G01.01/other-events/v1"
RECEIVER = "H41/take-events/v1"
URL = "https://motcua.example.vn/ngsp"
ENDED = "vn.gov.example.record.ended"
CLOUD_EVENT = {"type": "object", "required": ["id", "type"]}
_ids = itertools.count()


def submission(name: str, **others: Any) -> dict[str, Any]:
    taken = {"mode": "submission", "request_schema": CLOUD_EVENT, "subjects": [], "examples": []}
    return service_document(service=name, **(taken | others))


async def agreed(rig: Rig, service: str, *, consumer: str = "H41", **others: Any) -> str:
    by = f"{consumer.lower()}-registry"
    wanted = proposal(service=service, consumer=consumer, fields=[""], **others)
    made = await rig.call("POST", "/v1/agreements", json=wanted, by=by)
    assert made.status_code == 201, made.text
    id = str(made.json()["id"])
    assert (await rig.call("POST", f"/v1/agreements/{id}/accept", by="g01-registry")).status_code == 200
    return id


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_rig(postgres) as running:
        await running.add_client("h41-desk", "H41", "exchange", "registry")
        await running.add_client("h41-adapter", "H41", "adapter")
        types = {name: {"title": text(name), "schema": EVENT_SCHEMA} for name in (CHANGED, ENDED)}
        both = (event_service(events=types), event_service(service="other-events"), service_document())
        taking = (
            submission("take-events"),
            submission("officers", officer_required=True),
            submission("closed", request_schema={"type": "object", "properties": {"id": {}}}),
            service_document(service="asked"),
        )
        for document, by in (
            (manifest(*both), "g01-registry"),
            (manifest(*taking, id="h41-taking", provider="H41"), "h41-adapter"),
        ):
            answer = await running.call("PUT", f"/v1/adapters/{document['id']}", json=document, by=by)
            assert answer.status_code == 201, answer.text
        await agreed(running, SERVICE, reference="tt-1")
        yield running


def wanted(**others: Any) -> dict[str, Any]:
    found = {"service": SERVICE, "purpose": "birth-registration", "url": URL, **others}
    return {name: value for name, value in found.items() if value is not ...}


async def put(
    rig: Rig, id: str, *, by: str = "h41-registry", headers: dict[str, str] | None = None, **others: Any
) -> httpx.Response:
    return await rig.call("PUT", f"/v1/subscriptions/{id}", json=wanted(**others), by=by, headers=headers or {})


async def made(rig: Rig, **others: Any) -> str:
    """A new one's id."""
    id = f"s-{next(_ids)}"
    answer = await put(rig, id, **others)
    assert answer.status_code == 201, answer.text
    return id


async def view(rig: Rig, id: str, by: str = "h41-registry") -> dict[str, Any]:
    answer = await rig.call("GET", f"/v1/subscriptions/{id}", by=by)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


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


async def test_the_secret_is_shown_once_and_kept_sealed(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    secret = (await put(rig, "secretive")).json()["secret"]
    raw = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    assert secret.startswith("whsec_")
    assert len(raw) == 32
    (sealed,) = rig.registry.snapshot.subscriptions["secretive"].secrets
    settings = rig.settings
    vault = Vault(settings.key_encryption_keys())
    assert vault.open_secret(webhook_secret_name("secretive"), sealed.sealed) == raw
    for answer in (
        await put(rig, "secretive", active=False),
        await rig.call("GET", "/v1/subscriptions/secretive", by="h41-registry"),
        await rig.call("GET", "/v1/subscriptions?limit=500", by="auditor-1"),
    ):
        assert "whsec_" not in answer.text
        assert base64.b64encode(raw).decode() not in answer.text
    assert "whsec_" not in capsys.readouterr().out


async def test_a_new_secret_leaves_the_one_before_valid_for_a_while(rig: Rig) -> None:
    id = await made(rig)
    (first,) = rig.registry.snapshot.subscriptions[id].secrets

    async def renew(**document: Any) -> httpx.Response:
        return await rig.call("POST", f"/v1/subscriptions/{id}/secret", json=document, by="h41-registry")

    answer = await renew(overlap_s=3600)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["secret"].startswith("whsec_")
    newest, older = rig.registry.snapshot.subscriptions[id].secrets
    assert (older.sealed, newest.valid_to) == (first.sealed, None)
    assert older.valid_to is not None
    await renew()
    latest, before = rig.registry.snapshot.subscriptions[id].secrets
    assert before.sealed == newest.sealed, "two at most: the first one is gone"
    await renew(overlap_s=0)
    (only,) = rig.registry.snapshot.subscriptions[id].secrets
    assert only.sealed not in (latest.sealed, before.sealed)
    assert (await renew(overlap_s=7 * 86_400 + 1)).status_code == 422
    received = await made(rig, url=..., receiver=RECEIVER)
    refused = await rig.call("POST", f"/v1/subscriptions/{received}/secret", json={}, by="h41-registry")
    assert (refused.status_code, refused.json()["code"]) == (409, "state-conflict")


async def test_a_receiver_takes_the_place_of_a_webhook_and_back(rig: Rig) -> None:
    id = await made(rig)
    answer = await put(rig, id, url=..., receiver=RECEIVER)
    assert (answer.json()["receiver"], answer.json()["url"], answer.json()["secret"]) == (RECEIVER, None, None)
    assert rig.registry.snapshot.subscriptions[id].secrets == ()
    back = await put(rig, id)
    assert back.json()["secret"].startswith("whsec_"), "a new one"


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
            answer = await put(rig, f"s-{next(_ids)}", url=url)
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


async def test_it_waits_for_what_is_not_in_force_and_says_for_what(rig: Rig) -> None:
    agreement = await agreed(rig, SERVICE, consumer="H14", purposes=["waiting"], reference="w-1")
    answer = await put(rig, "waiting", by="h14-registry", purpose="waiting")
    assert (answer.status_code, answer.json()["state"]) == (201, "active"), answer.text

    async def now() -> tuple[str, str | None]:
        shown = await view(rig, "waiting", by="h14-registry")
        return shown["state"], shown["reason"]

    async def step(action: str, by: str) -> None:
        done = await rig.call("POST", f"/v1/agreements/{agreement}/{action}", json={"reason": "x"}, by=by)
        assert done.status_code == 200, done.text

    await step("suspend", "g01-registry")
    assert await now() == ("waiting", "agreement-suspended")
    await step("resume", "g01-registry")
    assert await now() == ("active", None)
    for state in ("disabled", "active"):
        decided = await rig.call("PUT", f"/v1/services/{SERVICE}/state", json={"state": state, "reason": "x"})
        assert decided.status_code == 200
        assert await now() == (("waiting", "service-disabled") if state == "disabled" else ("active", None))
    refused = await rig.call("POST", f"/v1/agreements/{agreement}/revoke", json={"reason": "x", "legal_basis": "x"},
                             by="g01-registry")  # fmt: skip
    assert refused.status_code == 200, refused.text
    assert await now() == ("waiting", "agreement-not-in-force")
    kept = await put(rig, "waiting", by="h14-registry", purpose="waiting", active=False)
    assert kept.status_code == 200, "what rests on it already can be switched off"
    anew = await put(rig, "waiting-2", by="h14-registry", purpose="waiting", agreement=agreement)
    assert [fault["pointer"] for fault in anew.json()["errors"]] == ["/agreement"]


async def test_an_agreement_that_asks_for_consent_to_each(rig: Rig) -> None:
    asked = await agreed(rig, SERVICE, consumer="H14", purposes=["asked"], consent_required=True)
    for agreement in (asked, ...):
        refused = await put(rig, "asked", by="h14-registry", purpose="asked", agreement=agreement)
        assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/agreement"]


async def test_a_receiver_that_is_not_active(rig: Rig) -> None:
    id = await made(rig, url=..., receiver=RECEIVER)
    path = f"/v1/services/{RECEIVER}/state"
    await rig.call("PUT", path, json={"state": "disabled", "reason": "x"})
    shown = await view(rig, id)
    assert (shown["state"], shown["reason"]) == ("waiting", "receiver-disabled")
    refused = await put(rig, "received", url=..., receiver=RECEIVER)
    assert [fault["pointer"] for fault in refused.json()["errors"]] == ["/receiver"]
    assert (await put(rig, id, url=..., receiver=RECEIVER)).status_code == 200
    await rig.call("PUT", path, json={"state": "active", "reason": "x"})
    assert (await view(rig, id))["state"] == "active"


async def publish(rig: Rig, service: str, at: str, seq: int = 0) -> str:
    """A row of the log of events, as a publication leaves it; its cursor."""
    async with rig.engine.begin() as connection:
        found = await connection.execute(
            sql("""INSERT INTO events (service, seq, type, tx, at, body)
                VALUES (:service, :seq, :type, CAST(:tx AS uuid), CAST(CAST(:at AS text) AS timestamptz), '')
                RETURNING CAST(xid AS text)"""),
            {"service": service, "seq": seq, "type": CHANGED, "tx": uuid7(), "at": at},
        )
        return f"{found.scalar_one()}-{seq}"


def place(cursor: str) -> tuple[int, int]:
    xid, seq = cursor.split("-")
    return int(xid), int(seq)


async def test_where_it_begins(rig: Rig) -> None:
    days = ["2026-10-01", "2026-10-02", "2026-10-03"]
    first, second, third = [await publish(rig, SERVICE, f"{day}T01:00:00Z", seq=int(day == days[2])) for day in days]
    await publish(rig, OTHER, "2026-10-02T02:00:00Z")
    assert (await view(rig, await made(rig, **{"from": "earliest"})))["cursor"] == "0-0"
    assert (await view(rig, await made(rig, **{"from": second})))["cursor"] == second
    begun = (await view(rig, await made(rig, **{"from": "2026-10-02T01:00:00Z"})))["cursor"]
    assert place(first) < place(begun) < place(second)
    begun = (await view(rig, await made(rig, **{"from": "2026-10-03"})))["cursor"]
    assert place(second) < place(begun) < place(third), "a day begins at its midnight in Viet Nam"
    now = (await view(rig, await made(rig)))["cursor"]
    later = (await view(rig, await made(rig, **{"from": "2027-01-01"})))["cursor"]
    after = await publish(rig, SERVICE, "2026-10-04T01:00:00Z")
    for begun in (now, later):
        assert place(third) < place(begun) < place(after)


async def test_now_is_below_what_is_not_over(rig: Rig) -> None:
    """A publication that is not committed when the subscription is made is not missed."""
    async with rig.engine.connect() as connection:
        xid = (await connection.execute(sql("SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)"))).scalar_one()
        begun = (await view(rig, await made(rig)))["cursor"]
        assert place(begun) < (xid, 0)
        later = await publish(rig, SERVICE, "2026-10-05T01:00:00Z")
        begun = (await view(rig, await made(rig, **{"from": "2026-10-05"})))["cursor"]
        assert place(begun) < (xid, 0) < place(later), "nor by whoever begins at a moment"


async def progress(rig: Rig, id: str, **values: Any) -> None:
    """What the dispatcher may have left."""
    named = ", ".join(f"{name} = :{name}" for name in values)
    async with rig.engine.begin() as connection:
        await connection.execute(
            sql(f"UPDATE subscription_progress SET {named} WHERE subscription = :id"),
            values | {"id": id},
        )


async def test_what_was_stopped_goes_on(rig: Rig) -> None:
    id = await made(rig)
    await progress(rig, id, stopped="webhook-gone")
    shown = await view(rig, id)
    assert (shown["state"], shown["reason"]) == ("stopped", "webhook-gone")
    await put(rig, id)
    assert (await view(rig, id))["state"] == "stopped", "nothing changed"
    await put(rig, id, url=f"{URL}/new")
    assert (await view(rig, id))["state"] == "active", "another address is another try"
    await progress(rig, id, stopped="webhook-gone")
    resumed = await rig.call("POST", f"/v1/subscriptions/{id}/resume", by="h41-registry")
    assert (resumed.status_code, resumed.json()["state"]) == (200, "active")
    await progress(rig, id, stopped="gap")
    shown = await view(rig, id)
    assert (shown["state"], shown["reason"]) == ("gap", "gap")
    await put(rig, id, url=f"{URL}/newer")
    assert (await view(rig, id))["state"] == "gap", "what is missing is not passed over by the way"
    resumed = await rig.call("POST", f"/v1/subscriptions/{id}/resume", by="h41-registry")
    assert resumed.json()["state"] == "active"


async def test_a_replay_sets_the_cursor_back_in_a_new_run(rig: Rig) -> None:
    at = await publish(rig, SERVICE, "2026-09-01T00:00:00Z")
    id = await made(rig)
    await progress(rig, id, stopped="webhook-gone")

    async def replay(start: str) -> dict[str, Any]:
        answer = await rig.call("POST", f"/v1/subscriptions/{id}/replay", json={"from": start}, by="h41-registry")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    replayed = await replay("earliest")
    assert (replayed["cursor"], replayed["run"], replayed["state"]) == ("0-0", 2, "active")
    assert await replay(at) | {"run": 3, "cursor": at} == await view(rig, id)
    assert place((await replay("2026-08-01"))["cursor"]) < place(at)
    for wrong in ({"from": "x"}, {}, {"from": "9223372036854775807-0"}, {"from": 1}, {"to": "now"}):
        refused = await rig.call("POST", f"/v1/subscriptions/{id}/replay", json=wrong, by="h41-registry")
        assert refused.status_code == 422, wrong
    for name in ("nobody", "Bad%20name"):
        missing = await rig.call("POST", f"/v1/subscriptions/{name}/resume", by="h41-registry")
        assert missing.status_code == (404 if name == "nobody" else 422)


async def test_replay_and_resume_say_who_and_heed_what_was_seen(rig: Rig) -> None:
    id = await made(rig)
    path, seen = f"/v1/subscriptions/{id}", {"If-Match": '"1"'}
    with capture_logs() as first:
        replayed = await rig.call("POST", f"{path}/replay", json={"from": "earliest"}, by="h41-registry", headers=seen)
    assert (replayed.status_code, replayed.headers["etag"]) == (200, '"2"'), replayed.text
    for action, document in (("replay", {"from": "now"}), ("resume", None)):
        lost = await rig.call("POST", f"{path}/{action}", json=document, by="h41-desk", headers=seen)
        assert (lost.status_code, lost.json()["code"]) == (412, "precondition-failed")
    shown = await view(rig, id)
    assert (shown["cursor"], shown["run"]) == ("0-0", 2)
    with capture_logs() as second:
        resumed = await rig.call("POST", f"{path}/resume", by="h41-desk", headers={"If-Match": '"2"'})
    assert (resumed.status_code, resumed.headers["etag"]) == (200, '"3"'), resumed.text
    told = [(line["event"], line["by"]) for line in first + second if line.get("subscription") == id]
    assert told == [("subscription.replayed", "h41-registry"), ("subscription.resumed", "h41-desk")]


async def test_a_dry_run_leaves_nothing(rig: Rig) -> None:
    from ngsp.registry.change import Actor
    from ngsp.registry.subscription_documents import SubscriptionDocument
    from ngsp.registry.subscriptions import put_subscription

    actor = Actor("h41-registry", "H41", frozenset(("registry",)))
    async with rig.registry.change(actor, dry_run=True) as change:
        document = SubscriptionDocument.model_validate(wanted())
        stored, secret = await put_subscription(change, "dry", document, rig.registry.given)
        assert stored.created
        assert secret is not None
        assert "secrets" not in stored.changes
    assert (await rig.call("GET", "/v1/subscriptions/dry", by="h41-registry")).status_code == 404
