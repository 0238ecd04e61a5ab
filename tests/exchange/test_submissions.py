"""Submissions from end to end: accepted durably, delivered, followed to their outcome; a repeat finds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from ngsp.adapter import Failed, Interrupted, RecordNotFound, Refused, Request
from ngsp.local.postgres import LocalPostgres
from tests.support.gateway import OPEN, Provider, Rig, relay_held, running_gateway, service
from tests.support.problems import MARKER, NUMBER, problem, unseen
from tests.support.waiting import until


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    provider = Provider(
        services=[
            service("look-up"),
            service("send", mode="submission", deadline_s=60),
            service("send-uncertain", mode="submission", deadline_s=60, effect="uncertain"),
            service("send-revoked", mode="submission", deadline_s=60),
            service("send-amended", mode="submission", deadline_s=60),
            service("send-few", mode="submission", deadline_s=60),
        ],
        terms={"send-few": {"quota_per_day": 4}},
    )
    quick: dict[str, Any] = {"retry_min_s": 0.02, "retry_max_s": 0.1, "relay_poll_s": 0.02, "lease_s": 0.9}
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), provider, **quick) as rig:
        yield rig


async def reply_of(rig: Rig, tx: str) -> httpx.Response:
    """The stored reply, as soon as the projection shows the transaction."""

    async def shown() -> bool:
        found = await rig.get(f"/v1/transactions/{tx}")
        return found.status_code == 200 and found.json()["state"] not in OPEN

    await until(shown, "the transaction to be shown as ended")
    return await rig.get(f"/v1/transactions/{tx}/reply")


async def test_a_submission_from_acceptance_to_its_reply(rig: Rig) -> None:
    body = b'{ "do" : "register",  "id":"900000000001" }'
    reply = b'{  "did":"\\u0065", "people": [ ]  }'

    async def act(request: Request) -> object:
        return reply

    rig.provider.act = act  # type: ignore[method-assign]
    answer = await rig.call("send", content=body, Idempotency_Key="whole-life")
    tx = answer.headers["Ngsp-Transaction"]
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["Location"] == f"/v1/transactions/{tx}"
    assert int(answer.headers["Retry-After"]) >= 1
    assert await rig.outcome(tx) == ["accepted", "delivered", "succeeded"]
    accepted, delivered, ended = await rig.entries(tx)
    assert (accepted["grant"]["mode"], delivered["attempt"]) == ("submission", 1)
    assert ended["outcome"] == {"adapter": "h41-tests", "status": 200}
    assert [request.body for request in rig.provider.seen] == [body]
    stored = await reply_of(rig, tx)
    assert (stored.status_code, stored.content, stored.headers["Ngsp-Transaction"]) == (200, reply, tx)
    again = await rig.call("send", content=body, Idempotency_Key="whole-life")
    assert (again.status_code, again.content, again.headers["Ngsp-Transaction"]) == (200, reply, tx)
    assert len(rig.provider.seen) == 1
    problem(await rig.get(f"/v1/transactions/{tx}/reply", by="stranger"), 404, "not-found")


async def test_a_submission_needs_a_key(rig: Rig) -> None:
    for name, headers in (("send", {}), ("look-up", {"Prefer": "respond-async"})):
        answer = await rig.call(name, Prefer=headers.get("Prefer", ""))
        problem(answer, 428, "key-required")
        assert await rig.kinds(answer.headers["Ngsp-Transaction"]) == ["refused"]
    assert rig.provider.seen == []


async def test_what_waits_and_what_is_stored_is_sealed(rig: Rig) -> None:
    async def act(request: Request) -> object:
        return {"did": f"reply {MARKER}", "id": NUMBER}

    rig.provider.act = act  # type: ignore[method-assign]
    tables = [
        row["tablename"] for row in await rig.rows.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    ]

    async def searched() -> None:
        for table in tables:
            rows = [row["whole"].encode() for row in await rig.rows.fetch(f"SELECT t::text AS whole FROM {table} t")]
            unseen(*rows)
            unseen(*[bytes.fromhex(part.decode()) for row in rows for part in _hexadecimal(row)])

    async with relay_held(rig):
        answer = await rig.call("send", {"note": f"request {MARKER}", "id": NUMBER}, Idempotency_Key=MARKER)
        tx = answer.headers["Ngsp-Transaction"]
        waiting = await rig.rows.fetchrow("SELECT state, attempts, body FROM outbox WHERE tx = $1", tx)
        assert (waiting["state"], waiting["attempts"]) == ("open", 0)
        assert len(waiting["body"]) > 40
        await searched()
    await rig.outcome(tx)
    assert (await rig.rows.fetchval("SELECT body FROM outbox WHERE tx = $1", tx)) == b""
    assert len(await rig.rows.fetchval("SELECT body FROM replies WHERE tx = $1", tx)) > 40
    await searched()


def _hexadecimal(row: bytes) -> list[bytes]:
    return [part.split(b'"')[0] for part in row.split(b"\\\\x")[1:]]


async def test_a_repeat_while_it_is_under_way(rig: Rig) -> None:
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    first = await rig.call("send", Idempotency_Key="under-way")
    for stage in ("accepted", "delivered"):
        if stage == "delivered":
            await until(lambda: bool(rig.provider.seen), "the request to arrive")
        again = await rig.call("send", Idempotency_Key="under-way")
        assert again.status_code == 202
        assert again.headers["Location"] == first.headers["Location"]
    problem(await rig.call("send", {"do": "other"}, Idempotency_Key="under-way"), 422, "idempotency-mismatch")
    release.set()
    tx = first.headers["Ngsp-Transaction"]
    assert await rig.outcome(tx) == ["accepted", "delivered", "succeeded"]
    assert (await rig.call("send", Idempotency_Key="under-way")).json() == {"did": "it"}
    assert len(rig.provider.seen) == 1
    assert await rig.rows.fetchval("SELECT count(*) FROM outbox WHERE tx = $1", tx) == 1


async def test_many_firsts_at_once_are_one_submission(rig: Rig) -> None:
    answers = await asyncio.gather(*(rig.call("send", Idempotency_Key="at-once") for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    (tx,) = {answer.headers["Ngsp-Transaction"] for answer in answers}
    await rig.outcome(tx)
    assert len(rig.provider.seen) == 1


@pytest.mark.parametrize(
    ("name", "error", "status", "code", "kind"),
    [
        ("send", RecordNotFound("K-404"), 404, "record-not-found", "refused"),
        ("send", Refused("K-1"), 409, "provider-refused", "refused"),
        ("send", Failed("K-2"), 502, "provider-failed", "failed"),
        ("send", Interrupted("K-3"), 504, "outcome-unknown", "unknown"),
        ("send-uncertain", RuntimeError("lost"), 504, "outcome-unknown", "unknown"),
    ],
)
async def test_what_the_provider_says_no_with(
    rig: Rig, name: str, error: Exception, status: int, code: str, kind: str
) -> None:
    async def act(request: Request) -> object:
        raise error

    rig.provider.act = act  # type: ignore[method-assign]
    key = f"{name}-{code}"
    first = await rig.call(name, Idempotency_Key=key)
    assert first.status_code == 202
    tx = first.headers["Ngsp-Transaction"]
    assert await rig.outcome(tx) == ["accepted", "delivered", kind]
    again = await rig.call(name, Idempotency_Key=key)
    document = problem(again, status, code)
    assert document["provider_code"] == getattr(error, "code", "adapter-error")
    assert again.headers["Ngsp-Transaction"] == tx
    if code == "outcome-unknown":
        assert (document["outcome_unknown"], document["safe_to_repeat"]) == (True, False)
    stored = await reply_of(rig, tx)
    assert problem(stored, status, code)["provider_code"] == document["provider_code"]
    assert len(rig.provider.seen) == 1


async def test_a_reply_off_its_schema_ends_it_and_is_put_aside(rig: Rig) -> None:
    async def act(request: Request) -> object:
        return {"undeclared": MARKER}

    rig.provider.act = act  # type: ignore[method-assign]
    tx = (await rig.call("send", Idempotency_Key="off-schema")).headers["Ngsp-Transaction"]
    assert (await rig.outcome(tx))[-1] == "failed"
    held = await rig.rows.fetchrow("SELECT what, state, body FROM quarantine WHERE tx = $1", tx)
    assert (held["what"], held["state"]) == ("reply", "held")
    unseen(held["body"])
    problem(await rig.call("send", Idempotency_Key="off-schema"), 502, "bad-reply")


async def test_a_query_may_be_answered_later(rig: Rig) -> None:
    answer = await rig.call("look-up", {"id": NUMBER}, Prefer="respond-async", Idempotency_Key="later")
    assert answer.status_code == 202
    tx = answer.headers["Ngsp-Transaction"]
    assert await rig.outcome(tx) == ["accepted", "delivered", "succeeded"]
    stored = await reply_of(rig, tx)
    assert stored.json() == {"did": "it", "id": NUMBER, "people": [{"name": "An"}]}, "cut to the granted fields"
    again = await rig.call("look-up", {"id": NUMBER}, Prefer="respond-async", Idempotency_Key="later")
    assert (again.status_code, again.content) == (200, stored.content)


async def test_preferences_may_come_in_several_lines(rig: Rig) -> None:
    usual = {"Content-Type": "application/json", "Idempotency-Key": "two-lines"} | await rig.headers()
    for lines in (("wait=1", "respond-async"), ("respond-async", "wait=1")):
        headers = [*usual.items(), *(("Prefer", line) for line in lines)]
        answer = await rig.http.post("/v1/services/H41/look-up/v1", content=b"{}", headers=headers)
        assert answer.status_code in (200, 202)
        assert await rig.outcome(answer.headers["Ngsp-Transaction"]) == ["accepted", "delivered", "succeeded"]
    assert len(rig.provider.seen) == 1


async def test_what_is_revoked_while_it_waits_is_never_delivered(rig: Rig) -> None:
    async with relay_held(rig):
        answer = await rig.call("send-revoked", Idempotency_Key="revoked")
        assert answer.status_code == 202
        path = f"/v1/agreements/{await rig.agreement('send-revoked')}/revoke"
        assert (await rig.post(path, by="provider", json={"reason": "hết thẩm quyền"})).status_code == 200

        async def denied() -> bool:
            return (await rig.call("send-revoked", Idempotency_Key="another")).status_code == 403

        await until(denied, "the revocation to be known")
    tx = answer.headers["Ngsp-Transaction"]
    assert await rig.outcome(tx) == ["accepted", "refused"]
    assert (await rig.entries(tx))[-1]["outcome"] == {"class": "access", "code": "agreement-revoked", "status": 403}
    assert rig.provider.seen == []
    stored = await reply_of(rig, tx)
    problem(stored, 403, "agreement-revoked")
    assert await rig.rows.fetchval("SELECT state FROM outbox WHERE tx = $1", tx) == "closed"


async def test_an_amendment_that_begins_later_stops_nothing(rig: Rig) -> None:
    id = await rig.agreement("send-amended")
    terms: dict[str, Any] = {
        "purposes": ["testing"],
        "legal_basis": "Nghị định 194/2025/NĐ-CP",
        "fields": ["/did"],
        "valid_from": "2100-01-01T00:00:00Z",
    }
    assert (await rig.post(f"/v1/agreements/{id}/versions", by="caller", json=terms)).status_code == 201
    assert (await rig.post(f"/v1/agreements/{id}/accept", by="provider")).status_code == 200

    async def known() -> bool:
        return bool((await rig.get(f"/v1/agreements/{id}")).json()["version"] == 2)

    await until(known, "the amendment")
    answer = await rig.call("send-amended", Idempotency_Key="amended")
    assert answer.status_code == 202
    tx = answer.headers["Ngsp-Transaction"]
    assert await rig.outcome(tx) == ["accepted", "delivered", "succeeded"]
    assert (await rig.entries(tx))[0]["grant"]["agreement_version"] == 1
    assert rig.provider.seen[0].fields == ("/did", "/id", "/people/*/name")


async def test_a_repeat_costs_no_quota(rig: Rig) -> None:
    for number in range(3):
        for _ in range(4):
            answer = await rig.call("send-few", Idempotency_Key=f"few-{number}")
            assert answer.status_code in (200, 202), answer.text

    async def taken() -> bool:  # what a repeat gave back is in the table a moment later
        return (await rig.call("send-few", Idempotency_Key="few-3")).status_code == 202

    await until(taken, "the last of the quota")
    answer = await rig.call("send-few", Idempotency_Key="few-4")
    problem(answer, 429, "quota-exhausted")
    assert (await rig.entries(answer.headers["Ngsp-Transaction"]))[0]["outcome"]["code"] == "quota-exhausted"
    assert await rig.rows.fetchval("SELECT count(*) FROM outbox WHERE service = 'H41/send-few/v1'") == 4
