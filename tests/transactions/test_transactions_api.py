"""`/v1/transactions` of a whole gateway, over HTTP: one, its reply, lists."""

from __future__ import annotations

import asyncio
import base64
import time

import orjson
import pytest

from ngsp.adapter import Refused, Request
from ngsp.api.transactions import TransactionDocument, TransactionItem
from ngsp.messages import uuid7
from tests.support.gateway import Rig
from tests.support.waiting import until
from tests.transactions.hands import call, items, listed, submit

# One transaction


async def test_one_transaction_for_its_two_ends_and_those_who_oversee(rig: Rig) -> None:
    tx = await call(rig, "whole", Ngsp_Dossier="H41.02-261121-0001", Ngsp_Officer="canbo-0017")
    for by in ("caller", "other", "provider", "operator"):
        answer = await rig.get(f"/v1/transactions/{tx}", by=by)
        assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
        document = answer.json()
        TransactionDocument.model_validate(document, strict=False)
        assert set(document) == set(TransactionDocument.model_fields)
        assert (document["id"], document["state"], document["mode"]) == (tx, "succeeded", "query")
        assert (document["consumer"], document["provider"], document["service"]) == ("G22", "H41", "H41/whole/v1")
        assert (document["dossier"], document["officer"]) == ("H41.02-261121-0001", "canbo-0017")
        assert document["agreement"]["version"] == 1 and document["code"] is None
        assert document["duration_ms"] > 0 and document["reply_bytes"] > 0
        stored = [
            bytes(row["body"])
            for row in await rig.rows.fetch("SELECT body FROM entries WHERE tx = $1 ORDER BY xid, seq", tx)
        ]
        assert [base64.b64decode(found.pop("canonical")) for found in document["entries"]] == stored
        assert document["entries"] == [orjson.loads(body) for body in stored]


async def test_a_transaction_of_others_is_not_there(rig: Rig) -> None:
    tx = await call(rig)
    answers = [
        await rig.get(f"/v1/transactions/{tx}", by="stranger"),
        await rig.get(f"/v1/transactions/{tx}/reply", by="stranger"),
        await rig.get(f"/v1/transactions/{uuid7()}"),
        await rig.get("/v1/transactions/nonsense"),
        await rig.get(f"/v1/transactions/{tx.upper()}"),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert (await rig.http.get(f"/v1/transactions/{tx}")).status_code == 401


async def test_the_reason_of_a_refusal_is_for_those_who_oversee(rig: Rig) -> None:
    tx = await call(rig, "look-up", by="stranger")
    seen = (await rig.get(f"/v1/transactions/{tx}", by="operator")).json()
    assert (seen["state"], seen["code"], seen["failure_class"]) == ("refused", "access-denied", "refused-call")
    (entry,) = seen["entries"]
    assert entry["outcome"]["reason"] and base64.b64decode(entry["canonical"])
    # The provider was never reached, so it is told nothing; nor is the caller's text for others.
    assert (await rig.get(f"/v1/transactions/{tx}", by="provider")).status_code == 404
    own = await rig.get(f"/v1/transactions/{tx}", by="stranger")
    assert own.status_code in (200, 404)
    assert entry["outcome"]["reason"] not in own.text
    for found in own.json().get("entries", ()):
        assert "canonical" not in found


# Waiting


async def test_prefer_wait_comes_back_with_the_outcome(rig: Rig) -> None:
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    tx = await submit(rig)
    began = time.monotonic()
    early = await rig.get(f"/v1/transactions/{tx}", Prefer="wait=1")
    assert 0.9 < time.monotonic() - began < 5
    assert early.json()["state"] in ("accepted", "delivered") and early.headers["retry-after"] == "1"
    assert early.headers["preference-applied"] == "wait=1"
    waiting = [asyncio.create_task(rig.get(f"/v1/transactions/{tx}", Prefer="wait=600")) for _ in range(20)]
    assert (await rig.get(f"/v1/transactions/{tx}")).json()["state"] in ("accepted", "delivered")
    assert not any(task.done() for task in waiting)
    release.set()
    for answer in await asyncio.wait_for(asyncio.gather(*waiting), 10):
        assert answer.json()["state"] == "succeeded" and "retry-after" not in answer.headers
        assert answer.headers["preference-applied"] == "wait=60"
    ended = await rig.get(f"/v1/transactions/{tx}", Prefer="handling=lenient, wait=30")
    assert ended.json()["state"] == "succeeded"


async def test_nobody_waits_for_a_caller_who_has_gone(rig: Rig) -> None:
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    tx = await submit(rig)
    waiting = rig.parts.finder.waiting
    asked = asyncio.create_task(rig.get(f"/v1/transactions/{tx}", Prefer="wait=60"))
    await until(lambda: waiting.count == 1, "the gateway waits for the outcome")
    asked.cancel()
    await until(lambda: waiting.count == 0, "the gateway waits no more")
    release.set()


# The reply


async def test_the_reply_of_a_submission_is_for_its_caller(rig: Rig) -> None:
    release, reply = asyncio.Event(), b'{  "did":"\\u0065",\n "people": [ ]  }'

    async def act(request: Request) -> object:
        await release.wait()
        return reply

    rig.provider.act = act  # type: ignore[method-assign]
    tx = await submit(rig)
    path = f"/v1/transactions/{tx}/reply"
    early = await rig.get(path)
    assert (early.status_code, early.json()["code"]) == (404, "not-found")
    assert early.headers["ngsp-transaction"] == tx and early.json()["instance"] == f"/v1/transactions/{tx}"
    release.set()
    await rig.get(f"/v1/transactions/{tx}", Prefer="wait=10")
    for by in ("caller", "other"):
        answer = await rig.get(path, by=by)
        assert (answer.status_code, answer.content) == (200, reply)
        assert answer.headers["content-type"] == "application/json" and answer.headers["ngsp-transaction"] == tx
    assert (await rig.get(path, by="provider")).status_code == 404
    assert (await rig.get(path, by="operator")).status_code == 403
    await rig.rows.execute("UPDATE entries SET wrapped = NULL WHERE tx = $1", tx)
    erased = await rig.get(path)
    assert (erased.status_code, erased.json()["code"]) == (410, "reply-erased")


async def test_the_reply_of_a_refusal_is_the_refusal(rig: Rig) -> None:
    async def act(request: Request) -> object:
        raise Refused("DUPLICATE")

    rig.provider.act = act  # type: ignore[method-assign]
    tx = await submit(rig)
    await rig.get(f"/v1/transactions/{tx}", Prefer="wait=10")
    answer = await rig.get(f"/v1/transactions/{tx}/reply", Accept_Language="en")
    assert answer.status_code == 409 and answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["provider_code"]) == ("provider-refused", "DUPLICATE")
    assert problem["instance"] == f"/v1/transactions/{tx}"


# Lists


async def test_lists_by_every_filter(rig: Rig) -> None:
    trace = uuid7().replace("-", "")
    officer, dossier = f"canbo-{uuid7()[-6:]}", f"H41.02-261121-{int(uuid7()[-4:], 16) % 10_000:04d}"
    tx = await call(
        rig, "officer", Ngsp_Officer=officer, Ngsp_Dossier=dossier, traceparent=f"00-{trace}-b7ad6b7169203331-01"
    )
    other = await call(rig, "whole", Ngsp_Purpose="more-testing")
    item = await listed(rig, tx)
    await listed(rig, other)
    TransactionItem.model_validate(item)
    assert set(item) == set(TransactionItem.model_fields)
    single = (await rig.get(f"/v1/transactions/{tx}")).json()
    del single["entries"]
    assert single == item
    at = item["accepted_at"]
    for parameters in (
        {"officer": officer}, {"dossier": dossier}, {"trace": trace}, {"service": "officer"},
        {"service": "H41/officer/v1"}, {"service": "officer", "provider": "H41"}, {"consumer": "G22"},
        {"outcome": "succeeded", "purpose": "testing"}, {"from": at}, {"from": "2026-01-01T00:00:00+07:00"},
        {"to": "2099-01-01T00:00:00.123456789Z"},
    ):  # fmt: skip
        for by in ("caller", "provider", "operator"):
            assert tx in [found["id"] for found in await items(rig, by, limit=3, **parameters)], (parameters, by)
        assert tx not in [found["id"] for found in await items(rig, "stranger", **parameters)]
    for parameters in (
        {"officer": "canbo-none"}, {"service": "whole"}, {"service": "H41/officer/v2"}, {"outcome": "failed"},
        {"purpose": "more-testing"}, {"to": at}, {"consumer": "H14"}, {"from": "2099-01-01T00:00:00Z"},
        {"provider": "G22"},
    ):  # fmt: skip
        assert tx not in [found["id"] for found in await items(rig, **parameters)], parameters


async def test_pages_follow_each_other(rig: Rig) -> None:
    made = [await call(rig, "whole") for _ in range(5)]
    await listed(rig, made[-1])
    for limit in (1, 2, 500):
        assert [item["id"] for item in await items(rig, limit=limit, service="whole")][:5] == made[::-1]


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday", "from=2026-11-22", "to=2026-11-22T08:00:00", "from=2026-13-01T00:00:00Z",
        "from=2026-11-22T08:00:00+07:00",  # a plus that was not written %2B
        "to=1700000000", "outcome=lost", "outcome=", "trace=xyz", "consumer=..%2F", "provider=h41", "service=a/b",
        "service=H41/x", "service=H41/look-up/v1&provider=G12", "limit=0", "limit=501", "limit=x", "cursor=x",
        "cursor=", "offset=1", "page=2", "outcome=failed&outcome=unknown", "officer=%00", "officer=%ff",
        "officer=x'%20OR%20'1'='1", "service=H41/look-up/v1'--", "trace=x'%3BDROP%20TABLE%20entries--",
        "outcome=failed'--",
        "dossier=" + "x" * 65,
    ],
)  # fmt: skip
async def test_what_is_not_a_list_of_ours_is_400(rig: Rig, query: str) -> None:
    answer = await rig.get(f"/v1/transactions?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-parameter"), answer.text


async def test_a_cursor_belongs_to_its_list_and_its_asker(rig: Rig) -> None:
    for _ in range(2):
        tx = await call(rig)
    await listed(rig, tx)
    first = (await rig.get("/v1/transactions?limit=1")).json()
    for by, query in (("caller", "&outcome=succeeded"), ("provider", ""), ("operator", "")):
        answer = await rig.get(f"/v1/transactions?limit=1&cursor={first['next']}{query}", by=by)
        assert answer.status_code == 400
    assert (await rig.get(f"/v1/transactions?limit=7&cursor={first['next']}")).status_code == 200
