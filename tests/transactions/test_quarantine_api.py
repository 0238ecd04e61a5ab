"""`/v1/quarantine` of a whole gateway, over HTTP."""

from __future__ import annotations

import asyncio

import httpx

from ngsp.adapter import Request
from ngsp.api.quarantine import QuarantineItem
from ngsp.messages import uuid7
from tests.support.gateway import Rig
from tests.transactions.hands import submit


async def put_aside(rig: Rig, what: str, tx: str) -> int:
    found: int = await rig.rows.fetchval(
        "INSERT INTO quarantine (tx, service, what, reason, wrapped, body)"
        " VALUES ($1, 'H41/send/v1', $2, 'off its schema at /did', '\\x01', '\\x02') RETURNING id",
        tx,
        what,
    )
    return found


async def decide(rig: Rig, id: int, decision: str, reason: str = "đã xem xét", by: str = "operator") -> httpx.Response:
    headers = await rig.headers(by)
    return await rig.http.post(f"/v1/quarantine/{id}/{decision}", json={"reason": reason}, headers=headers)


async def test_quarantine_is_shown_with_reasons_and_without_payloads(rig: Rig) -> None:
    made = [await put_aside(rig, "reply", uuid7()) for _ in range(3)]
    first = (await rig.get("/v1/quarantine?limit=2", by="operator")).json()
    second = (await rig.get(f"/v1/quarantine?limit=2&cursor={first['next']}", by="operator")).json()
    found = [item["id"] for item in (*first["items"], *second["items"])]
    assert found[:3] == made[::-1]
    for item in first["items"]:
        QuarantineItem.model_validate(item)
        assert set(item) == set(QuarantineItem.model_fields)
    assert (await rig.get("/v1/quarantine")).status_code == 403
    for query in ("state=lost", "cursor=x", "what=reply", f"state=released&cursor={first['next']}"):
        assert (await rig.get(f"/v1/quarantine?{query}", by="operator")).status_code == 400


async def test_what_is_discarded_is_gone_but_for_the_decision(rig: Rig) -> None:
    id = await put_aside(rig, "reply", uuid7())
    assert (await decide(rig, id, "discard", by="caller")).status_code == 403
    for wrong in ("", "ab", "x" * 501, "two\nlines"):
        assert (await decide(rig, id, "discard", wrong)).status_code == 422
    answer = await decide(rig, id, "discard")
    assert answer.status_code == 200
    item = answer.json()
    assert (item["state"], item["decided_by"], item["decision_reason"]) == ("discarded", "operator", "đã xem xét")
    row = await rig.rows.fetchrow("SELECT body, wrapped FROM quarantine WHERE id = $1", id)
    assert (row["body"], row["wrapped"]) == (None, None)
    again = await decide(rig, id, "discard")
    assert (again.status_code, again.json()["code"]) == (409, "state-conflict")
    assert id in [
        found["id"] for found in (await rig.get("/v1/quarantine?state=discarded", by="operator")).json()["items"]
    ]
    assert (await decide(rig, 10**15, "discard")).status_code == 404


async def test_only_a_submission_that_waits_can_be_released(rig: Rig) -> None:
    reply = await put_aside(rig, "reply", uuid7())
    assert (await decide(rig, reply, "release")).status_code == 409
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    tx = await submit(rig)
    await rig.rows.execute("UPDATE outbox SET state = 'held', next_at = next_at + interval '1 day' WHERE tx = $1", tx)
    held = await put_aside(rig, "submission", tx)
    answer = await decide(rig, held, "release")
    assert answer.status_code == 200 and answer.json()["state"] == "released"
    release.set()
    ended = await rig.get(f"/v1/transactions/{tx}", Prefer="wait=20")
    assert ended.json()["state"] == "succeeded"
    late = await put_aside(rig, "submission", tx)
    assert (await decide(rig, late, "release")).status_code == 409
    assert await rig.rows.fetchval("SELECT state FROM quarantine WHERE id = $1", late) == "held"
