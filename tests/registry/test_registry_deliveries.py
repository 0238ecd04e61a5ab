"""What was delivered to a subscription, over REST: states from wherever they are known first, pages, attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text as sql

from ngsp.api.paging import encode
from ngsp.messages import uuid7
from ngsp.registry.deliveries import list_deliveries
from tests.support.registry import CHANGED, event_service, manifest, proposal, running_rig

if TYPE_CHECKING:
    from ngsp.local.postgres import LocalPostgres
    from tests.support.registry import Rig

SERVICE = "G01.01/population-events/v1"
AT = "2026-11-01T01:02:03Z"
DAY = "CAST('2026-11-01T01:02:03Z' AS timestamptz)"

_DELIVERY = f"""
INSERT INTO deliveries (subscription, xid, seq, run, tx, publication, type, at)
VALUES (:subscription, CAST(CAST(:xid AS text) AS xid8), 0, 1, CAST(:tx AS uuid), CAST(:publication AS uuid),
    '{CHANGED}', {DAY})"""
_OUTBOX = f"""
INSERT INTO outbox (tx, service, agreement, agreement_version, purpose, client, officer, dossier, traceparent,
    accepted_at, deadline, state, attempts, next_at, body, subscription)
VALUES (CAST(:tx AS uuid), '{SERVICE}', '', 1, '', '', '', '', '', {DAY}, {DAY}, :state, :attempts, {DAY}, '',
    :subscription)"""
_PROJECTED = f"""
INSERT INTO transactions (tx, place, accepted_at, ended_at, state, mode, client, consumer, provider, service, version,
    adapter, agreement, agreement_version, purpose, gateway, epoch, code)
VALUES (CAST(:tx AS uuid), (SELECT coalesce(max(place), 0) + 1 FROM transactions), {DAY},
    CASE WHEN CAST(:ended AS boolean) THEN {DAY} END, :state, 'delivery', '', '', '', '', '', '', '', 1, '', '', 1,
    CAST(:code AS text))"""
_ATTEMPT = f"""
INSERT INTO delivery_attempts (tx, attempt, at, status, problem, duration_us)
VALUES (CAST(:tx AS uuid), :attempt, {DAY}, CAST(:status AS smallint), :problem, 1500)"""


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres) -> AsyncIterator[Rig]:
    async with running_rig(postgres) as running:
        await running.call("PUT", "/v1/adapters/g01-population", json=manifest(event_service()), by="g01-registry")
        proposed = await running.call("POST", "/v1/agreements", json=proposal(service=SERVICE, fields=[""]))
        await running.call("POST", f"/v1/agreements/{proposed.json()['id']}/accept", by="g01-registry")
        yield running


async def subscribed(rig: Rig, id: str) -> str:
    document = {"service": SERVICE, "purpose": "birth-registration", "url": "https://motcua.example.vn/"}
    made = await rig.call("PUT", f"/v1/subscriptions/{id}", json=document, by="h41-registry")
    assert made.status_code == 201, made.text
    return id


async def write(rig: Rig, statement: str, **values: Any) -> None:
    async with rig.engine.begin() as connection:
        await connection.execute(sql(statement), values)


async def delivered(rig: Rig, subscription: str, xid: int) -> str:
    """A delivery as the dispatcher makes it, without the rest of it; its transaction."""
    tx = uuid7()
    await write(rig, _DELIVERY, subscription=subscription, xid=str(xid), tx=tx, publication=uuid7())
    return tx


async def listed(rig: Rig, id: str, query: str = "", by: str = "h41-registry") -> dict[str, Any]:
    answer = await rig.call("GET", f"/v1/subscriptions/{id}/deliveries{query}", by=by)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_each_is_shown_with_its_state_wherever_that_is_known(rig: Rig) -> None:
    id = await subscribed(rig, "states")
    made, sent, lagging, done, failed, old = [await delivered(rig, id, 100 + number) for number in range(6)]
    for tx, state, attempts in ((made, "open", 0), (sent, "held", 2), (lagging, "closed", 1), (failed, "closed", 3)):
        await write(rig, _OUTBOX, tx=tx, state=state, attempts=attempts, subscription=id)
    await write(rig, _PROJECTED, tx=made, ended=False, state="accepted", code=None)
    await write(rig, _PROJECTED, tx=done, ended=True, state="succeeded", code=None)
    await write(rig, _PROJECTED, tx=failed, ended=True, state="failed", code="provider-failed")
    await write(rig, _PROJECTED, tx=old, ended=False, state="delivered", code=None)
    for attempt, status, problem in ((1, None, "connect"), (2, 500, "status"), (3, 503, "status")):
        await write(rig, _ATTEMPT, tx=failed, attempt=attempt, status=status, problem=problem)
    await write(rig, _ATTEMPT, tx=done, attempt=1, status=204, problem="")
    page = await listed(rig, id)
    assert page["next"] is None
    found = {item["transaction"]: item for item in page["items"]}
    assert list(found) == [old, failed, done, lagging, sent, made], "newest first"
    assert {tx: item["state"] for tx, item in found.items()} == {
        made: "accepted",
        sent: "delivered",
        lagging: "delivered",
        done: "succeeded",
        failed: "failed",
        old: "delivered",
    }
    assert [found[tx]["attempts"] for tx in (made, sent, lagging, done, failed, old)] == [0, 2, 1, 1, 3, 0]
    assert [tx for tx, item in found.items() if item["next_attempt_at"]] == [sent, made]
    assert found[failed]["code"] == "provider-failed"
    assert found[failed]["last"] == {
        "attempt": 3, "at": AT, "status": 503, "problem": "status", "duration_ms": 1.5,
    }  # fmt: skip
    assert (found[done]["last"]["problem"], found[made]["last"]) == (None, None)
    assert (found[made]["cursor"], found[made]["run"], found[made]["type"]) == ("100-0", 1, CHANGED)
    shown = (await rig.call("GET", f"/v1/subscriptions/{id}", by="h41-registry")).json()
    assert shown["open"] == 2
    for state, these in (("failed", [failed]), ("delivered", [old, lagging, sent]), ("expired", [])):
        filtered = await listed(rig, id, f"?state={state}")
        assert [item["transaction"] for item in filtered["items"]] == these
    path = f"/v1/subscriptions/{id}/deliveries/{failed}/attempts"
    attempts = (await rig.call("GET", path, by="h41-registry")).json()["items"]
    assert [(one["attempt"], one["status"], one["problem"]) for one in attempts] == [
        (3, 503, "status"), (2, 500, "status"), (1, None, "connect"),
    ]  # fmt: skip
    assert (await rig.call("GET", path, by="auditor-1")).status_code == 200


async def test_pages_lead_to_the_end(rig: Rig) -> None:
    id = await subscribed(rig, "pages")
    made = [await delivered(rig, id, 200 + number) for number in range(5)]
    seen: list[str] = []
    query = "?limit=2"
    while query:
        page = await listed(rig, id, query)
        assert len(page["items"]) <= 2
        seen += [item["transaction"] for item in page["items"]]
        query = f"?limit=2&cursor={page['next']}" if page["next"] else ""
    assert seen == made[::-1]
    first = await listed(rig, id, "?limit=2")
    beyond = f"?cursor={encode(f'deliveries {id}', str(2**63))}"
    for wrong in (f"?cursor={first['next']}&state=failed", "?cursor=abc", beyond, "?state=odd", "?limit=0", "?odd=1"):
        refused = await rig.call("GET", f"/v1/subscriptions/{id}/deliveries{wrong}", by="h41-registry")
        assert refused.status_code == 400, wrong
    other = await subscribed(rig, "pages-2")
    elsewhere = f"/v1/subscriptions/{other}/deliveries?cursor={first['next']}"
    assert (await rig.call("GET", elsewhere, by="h41-registry")).status_code == 400


async def test_a_page_looks_at_so_many_and_leads_on(rig: Rig) -> None:
    id = await subscribed(rig, "short")
    failed = await delivered(rig, id, 300)
    await write(rig, _PROJECTED, tx=failed, ended=True, state="failed", code=None)
    for number in range(4):
        await delivered(rig, id, 301 + number)
    async with rig.registry.reading() as connection:
        found, further = await list_deliveries(connection, id, "failed", 2**62, 10, scanned=2)
        assert found == []
        looked = 0
        while further is not None:
            found, further = await list_deliveries(connection, id, "failed", further, 10, scanned=2)
            looked += 1
            if found:
                break
        assert [delivery.transaction for delivery in found] == [failed]
        assert looked == 2


async def test_an_attempt_belongs_to_its_subscription(rig: Rig) -> None:
    id, other = await subscribed(rig, "mine"), await subscribed(rig, "other")
    tx = await delivered(rig, id, 400)
    await rig.add_client("h41-trial", "H41", "exchange", sandbox=True)
    for path in (f"{id}/deliveries", f"{id}/deliveries/{tx}/attempts"):
        hidden = await rig.call("GET", f"/v1/subscriptions/{path}", by="h41-trial")
        assert hidden.status_code == 404, "a client of the sandbox sees nothing real"
    for path, status in (
        (f"{id}/deliveries/{tx}/attempts", 200),
        (f"{other}/deliveries/{tx}/attempts", 404),
        (f"{id}/deliveries/{uuid7()}/attempts", 404),
        (f"{id}/deliveries/odd/attempts", 422),
        ("nobody/deliveries", 404),
    ):
        answer = await rig.call("GET", f"/v1/subscriptions/{path}", by="h41-registry")
        assert answer.status_code == status, path
