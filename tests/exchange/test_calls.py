"""A query from end to end: what the caller gets, what the provider saw, what the log holds."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import orjson
import pytest

from ngsp.adapter import Failed, Interrupted, RecordNotFound, Refused, Request, Unavailable
from ngsp.messages import TRANSACTION_ID
from tests.support.gateway import Rig
from tests.support.waiting import until


async def test_a_call_comes_back_with_both_entries_durable(rig: Rig) -> None:
    answer = await rig.call("whole", {"do": "it", "id": "900000000001"})
    assert answer.status_code == 200
    tx = answer.headers["Ngsp-Transaction"]
    assert TRANSACTION_ID.fullmatch(tx)
    accepted, ended = await rig.entries(tx)
    assert accepted["kind"] == "accepted"
    assert accepted["call"] == {"client": "caller", "member": "G22"}
    grant = accepted["grant"]
    assert (grant["consumer"], grant["provider"], grant["service"], grant["version"]) == ("G22", "H41", "whole", "v1")
    assert (grant["purpose"], grant["mode"], grant["fields"], grant["adapter"]) == (
        "testing",
        "query",
        [""],
        "h41-tests",
    )
    assert grant["legal_basis"] == "Nghị định 194/2025/NĐ-CP"
    assert accepted["request"]["bytes"] == len(orjson.dumps({"do": "it", "id": "900000000001"}))
    assert (ended["kind"], ended["outcome"]) == ("succeeded", {"adapter": "h41-tests", "status": 200})
    assert ended["reply"]["bytes"] == len(answer.content)
    assert set(ended["timings_us"]) == {"admit", "log_accept", "bus", "reply"}


async def test_the_payload_passes_byte_for_byte(rig: Rig) -> None:
    odd = b'{ "note" : "\\u004e\\u0067h\xe1\xbb\x87 An", "do":"x"  }'
    reply = b'{  "did":"\\u0065", "people": [ ]  }'

    async def act(request: Request) -> object:
        return reply

    rig.provider.act = act  # type: ignore[method-assign]
    answer = await rig.call("whole", content=odd)
    assert answer.content == reply
    assert rig.provider.seen[0].body == odd


async def test_the_reply_is_cut_to_the_granted_fields(rig: Rig) -> None:
    answer = await rig.call("look-up", {"id": "900000000001"})
    assert answer.json() == {"did": "it", "id": "900000000001", "people": [{"name": "An"}]}


async def test_the_adapter_sees_what_it_may_know(rig: Rig) -> None:
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = await rig.call(
        "officer",
        Ngsp_Officer="canbo-0017",
        Ngsp_Dossier="000.00.00.H41-261121-0001",
        Ngsp_Procedure="1.004194",
        traceparent=traceparent,
    )
    assert answer.status_code == 200
    request = rig.provider.seen[0]
    assert (request.officer, request.dossier, request.purpose) == ("canbo-0017", "000.00.00.H41-261121-0001", "testing")
    assert request.id == answer.headers["Ngsp-Transaction"]
    assert request.envelope.consumer == "G22"
    assert request.envelope.traceparent == traceparent
    assert 0 < (request.deadline - datetime.now(UTC)).total_seconds() < 5
    accepted = (await rig.entries(request.id))[0]
    assert accepted["call"] == {
        "client": "caller",
        "dossier": "000.00.00.H41-261121-0001",
        "member": "G22",
        "officer": "canbo-0017",
        "procedure": "1.004194",
        "trace": "0af7651916cd43dd8448eb211c80319c",
    }


@pytest.mark.parametrize(
    ("error", "status", "code", "kind", "failure_class"),
    [
        (RecordNotFound("K-404"), 404, "record-not-found", "refused", "provider-no"),
        (Refused("K-1"), 409, "provider-refused", "refused", "provider-no"),
        (Failed("K-2"), 502, "provider-failed", "failed", "provider"),
        (Unavailable("K-3"), 502, "provider-unavailable", "failed", "provider-unavailable"),
        (Interrupted("K-4"), 504, "outcome-unknown", "unknown", "interrupted"),
        (RuntimeError("citizen 900000000001"), 502, "provider-failed", "failed", "provider"),
    ],
)
async def test_what_the_provider_says_no_with(
    rig: Rig, error: Exception, status: int, code: str, kind: str, failure_class: str
) -> None:
    async def act(request: Request) -> object:
        raise error

    rig.provider.act = act  # type: ignore[method-assign]
    answer = await rig.call()
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    tx = answer.headers["Ngsp-Transaction"]
    assert answer.json()["instance"] == f"/v1/transactions/{tx}"
    ended = (await rig.entries(tx))[-1]
    assert (ended["kind"], ended["outcome"]["class"], ended["outcome"]["code"]) == (kind, failure_class, code)
    expected = error.code if hasattr(error, "code") else "adapter-error"
    assert ended["outcome"]["provider_code"] == expected
    if code == "provider-unavailable":
        assert int(answer.headers["Retry-After"]) >= 1


async def test_a_reply_off_its_schema_is_quarantined_and_never_passed_on(rig: Rig) -> None:
    for bad in ({"undeclared": 1}, b"not json", b'{"did":"a","did":"b"}', [1]):

        async def act(request: Request, bad: object = bad) -> object:
            return bad

        rig.provider.act = act  # type: ignore[method-assign]
        answer = await rig.call()
        assert (answer.status_code, answer.json()["code"]) == (502, "bad-reply")
        tx = answer.headers["Ngsp-Transaction"]
        assert await rig.kinds(tx) == ["accepted", "failed"]
        held = await rig.rows.fetchrow("SELECT * FROM quarantine WHERE tx = $1", tx)
        assert (held["what"], held["state"], held["service"]) == ("reply", "held", "H41/look-up/v1")
        assert b"undeclared" not in held["body"]


async def test_no_answer_in_time_is_unknown_and_a_late_reply_resolves_it_once(rig: Rig) -> None:
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "late"}

    rig.provider.act = act  # type: ignore[method-assign]
    answer = await rig.call("slow")
    assert (answer.status_code, answer.json()["code"]) == (504, "no-answer")
    assert (answer.json()["outcome_unknown"], answer.json()["safe_to_repeat"]) == (True, True)
    tx = answer.headers["Ngsp-Transaction"]
    assert await rig.kinds(tx) == ["accepted", "unknown"]
    release.set()

    async def resolved() -> bool:
        return await rig.kinds(tx) == ["accepted", "unknown", "resolved"]

    await until(resolved, "the late reply to be recorded")
    assert (await rig.entries(tx))[-1]["outcome"] == {"adapter": "h41-tests", "state": "succeeded", "status": 200}


async def test_prefer_wait_shortens_the_deadline(rig: Rig) -> None:
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    answer = await asyncio.wait_for(rig.call(Prefer="wait=1"), 4)
    assert answer.status_code == 504
    release.set()


async def test_a_caller_that_goes_away_does_not_stop_the_entry(rig: Rig) -> None:
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    call = asyncio.create_task(rig.call())
    await until(lambda: bool(rig.provider.seen), "the request to arrive")
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    release.set()

    async def ended() -> bool:
        return await rig.kinds(rig.provider.seen[0].id) == ["accepted", "succeeded"]

    await until(ended, "the terminal entry")


async def test_a_subject_is_found_by_its_hash_and_nothing_is_in_the_clear(rig: Rig) -> None:
    marker = "900199912345"
    answer = await rig.call("look-up", {"id": marker, "note": "Họ và tên Đặc Biệt"})
    assert answer.status_code == 200
    tx = answer.headers["Ngsp-Transaction"]
    assert await rig.rows.fetchval("SELECT count(*) FROM subjects WHERE tx = $1", tx) == 1
    for table in ("entries", "subjects", "transactions", "outbox", "replies", "idempotency_keys", "quarantine"):
        for row in await rig.rows.fetch(f"SELECT t::text AS whole FROM {table} t"):
            assert marker not in row["whole"]
            assert "Đặc Biệt" not in row["whole"]
        assert not await rig.rows.fetchval(
            f"SELECT count(*) FROM {table} t WHERE position($1 IN t::text) > 0", marker.encode().hex()
        )


async def test_many_calls_at_once_each_get_their_own_answer(rig: Rig) -> None:
    async def act(request: Request) -> object:
        return {"did": str(request.payload["n"])}

    rig.provider.act = act  # type: ignore[method-assign]
    answers = await asyncio.gather(*(rig.call("whole", {"n": number}) for number in range(200)))
    assert [answer.json()["did"] for answer in answers] == [str(number) for number in range(200)]
    assert len({answer.headers["Ngsp-Transaction"] for answer in answers}) == 200
