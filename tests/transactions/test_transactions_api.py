"""`/v1/transactions` and `/v1/quarantine` of a whole gateway, over HTTP."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

from ngsp.adapter import Refused, Request
from ngsp.api.quarantine import QuarantineItem
from ngsp.api.streaming import MOST_FOR_A_CLIENT
from ngsp.api.transactions import TransactionDocument, TransactionItem
from ngsp.messages import uuid7
from tests.support.gateway import Provider, Rig, running_gateway
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from ngsp.local.postgres import LocalPostgres


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("gateway")
    async with running_gateway(postgres, folder, project_s=0.1) as found:
        yield found


@pytest.fixture
async def rig(module_rig: Rig) -> AsyncIterator[Rig]:
    yield module_rig
    module_rig.provider.act = Provider.act.__get__(module_rig.provider)  # type: ignore[method-assign]


async def call(rig: Rig, name: str = "look-up", by: str = "caller", **headers: str) -> str:
    """The transaction of a call."""
    answer = await rig.call(name, None, by=by, content=None, **headers)
    return answer.headers["Ngsp-Transaction"]


async def submit(rig: Rig) -> str:
    answer = await rig.call("send", Idempotency_Key=uuid7())
    assert answer.status_code == 202, answer.text
    return answer.headers["Ngsp-Transaction"]


async def items(rig: Rig, by: str = "caller", **parameters: Any) -> list[dict[str, Any]]:
    """Everything in the list, page by page."""
    found: list[dict[str, Any]] = []
    while True:
        answer = await rig.http.get("/v1/transactions", params=parameters, headers=await rig.headers(by))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert set(page) == {"items", "next"}
        found += page["items"]
        if page["next"] is None:
            return found
        parameters["cursor"] = page["next"]


async def listed(rig: Rig, tx: str, by: str = "caller", **parameters: Any) -> dict[str, Any]:
    """The item of `tx`, once the list has it as ended."""
    last: dict[str, Any] = {}

    async def there() -> bool:
        found = [item for item in await items(rig, by, **parameters) if item["id"] == tx]
        last.update(found[0] if found else {})
        return bool(found) and found[0]["ended_at"] is not None

    await until(there, "the list has the transaction")
    return last


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


# The stream


@dataclass
class Told:
    """A server-sent event."""

    id: str = ""
    event: str = ""
    data: str = ""

    @property
    def tx(self) -> str:
        found: str = orjson.loads(self.data)["transaction"]["id"]
        return found


@dataclass
class Listening:
    """An open stream; `lines` begins after the greeting."""

    answer: httpx.Response
    lines: AsyncIterator[str]

    async def events(self, most: int) -> list[Told]:
        found, event = [], Told()
        async with asyncio.timeout(20):
            async for line in self.lines:
                name, _, value = line.partition(": ")
                if line and name:
                    setattr(event, name, value)
                elif event.data:
                    found.append(event)
                    event = Told(id=event.id)
                if len(found) == most:
                    return found
        raise AssertionError("the stream ended")


@asynccontextmanager
async def stream(rig: Rig, by: str = "caller", after: str = "", **parameters: str) -> AsyncIterator[Listening]:
    headers = await rig.headers(by, **({"Last_Event_ID": after} if after else {}))
    async with rig.http.stream("GET", "/v1/transactions/stream", params=parameters, headers=headers) as answer:
        lines = answer.aiter_lines()
        if answer.status_code == 200:
            async with asyncio.timeout(10):
                assert await anext(lines) == ": ngsp"
        yield Listening(answer, lines)


async def test_the_stream_tells_and_is_resumed(rig: Rig) -> None:
    await listed(rig, await call(rig))  # what is there already is projected
    async with stream(rig) as own, stream(rig, "stranger") as foreign, stream(rig, service="whole") as some:
        assert own.answer.headers["content-type"].startswith("text/event-stream")
        refused = await call(rig, "look-up", by="stranger")
        made = [await call(rig, name) for name in ("look-up", "whole")]
        events = await own.events(4)
        assert [event.tx for event in events] == [made[0]] * 2 + [made[1]] * 2
        assert [event.event for event in events] == ["accepted", "succeeded"] * 2
        assert [event.event for event in await some.events(2)] == ["accepted", "succeeded"]
        told = orjson.loads(events[1].data)
        assert set(told) == {"kind", "at", "transaction"} and told["transaction"]["state"] == "succeeded"
        assert foreign.answer.status_code == 200
    async with stream(rig, after=events[1].id) as resumed:
        assert [event.id for event in await resumed.events(2)] == [event.id for event in events[2:]]
    async with stream(rig, "operator", after=events[0].id) as resumed:
        found = {event.tx for event in await resumed.events(3)}
        assert found == set(made) and refused not in found


@pytest.mark.parametrize("after", ["x", "1", "1-", "1-2-3", "9" * 30])
async def test_a_position_of_nobody_is_400(rig: Rig, after: str) -> None:
    async with stream(rig, after=after) as refused:
        assert refused.answer.status_code == 400
        assert orjson.loads("".join([line async for line in refused.lines]))["code"] == "malformed-header"


async def test_a_client_has_so_many_streams_and_no_more(rig: Rig) -> None:
    opened = [stream(rig, "other") for _ in range(MOST_FOR_A_CLIENT)]
    for each in opened:
        assert (await each.__aenter__()).answer.status_code == 200
    async with stream(rig, "other") as surplus:
        assert surplus.answer.status_code == 429 and int(surplus.answer.headers["retry-after"]) >= 1
    async with stream(rig, "provider") as another:
        assert another.answer.status_code == 200
    for each in opened:
        await each.__aexit__(None, None, None)

    async def free_again() -> bool:
        async with stream(rig, "other") as listening:
            return listening.answer.status_code == 200

    await until(free_again, "a stream that its reader left makes room")


async def test_a_stream_ends_when_its_reader_may_no_longer(rig: Rig) -> None:
    name = {"vi": "other", "en": "other"}
    client = {"member": "G22", "name": name, "scopes": ["exchange"]}

    async def put(active: bool) -> int:
        headers = await rig.headers("operator")
        answer = await rig.http.put("/v1/clients/other", json={**client, "active": active}, headers=headers)
        return answer.status_code

    async with stream(rig, "other") as listening:
        assert listening.answer.status_code == 200
        assert await put(active=False) == 200
        async with asyncio.timeout(10):
            async for _ in listening.lines:
                continue
    assert await put(active=True) == 200


async def test_the_gateway_closes_though_somebody_waits_and_listens(postgres: LocalPostgres, tmp_path: Path) -> None:
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    provider = Provider()
    provider.act = act  # type: ignore[method-assign]
    async with running_gateway(postgres, tmp_path, provider) as rig:
        tx = await submit(rig)
        waiting = asyncio.create_task(rig.get(f"/v1/transactions/{tx}", Prefer="wait=60"))
        async with stream(rig) as listening:
            await rig.door.drain()
            async with asyncio.timeout(5):
                assert (await waiting).json()["state"] in ("accepted", "delivered")
                async for _ in listening.lines:
                    continue
        release.set()


# Quarantine


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
