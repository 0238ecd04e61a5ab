"""The same key again: the stored outcome and no second execution, whatever that outcome was."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ngsp.adapter import Failed, Interrupted, RecordNotFound, Refused, Request, Unavailable
from ngsp.transactions import entry, partitions
from tests.support.gateway import Rig, further_gateway
from tests.support.problems import NUMBER, problem
from tests.support.waiting import until

KEY = f"ho-so-{NUMBER}-0001"
"""Callers put such things into keys."""


async def test_a_repeat_gets_the_same_bytes_of_the_same_transaction(rig: Rig) -> None:
    odd = b'{ "do" : "once",\n"id":"900000000001" }'

    async def act(request: Request) -> object:
        return b'{"did": "\\u0069t",  "people": [{"name": "An", "id": "900000000001"}]}'

    rig.provider.act = act  # type: ignore[method-assign]
    first = await rig.call(content=odd, Idempotency_Key="same-bytes")
    assert first.status_code == 200
    tx = first.headers["Ngsp-Transaction"]
    kept = await rig.entries(tx)
    for _ in range(3):
        again = await rig.call(content=odd, Idempotency_Key="same-bytes")
        assert (again.status_code, again.content) == (200, first.content)
        assert again.headers["Ngsp-Transaction"] == tx
    assert len(rig.provider.seen) == 1
    assert await rig.entries(tx) == kept


async def test_another_request_under_the_same_key_is_refused_and_logged(rig: Rig) -> None:
    first = await rig.call("whole", {"do": "x"}, Idempotency_Key="other-request")
    assert first.status_code == 200
    others: list[tuple[str, dict[str, Any]]] = [
        ("whole", {"content": b'{"do": "x"}'}),
        ("whole", {"body": {"do": "y"}}),
        ("whole", {"body": {"do": "x"}, "Ngsp_Purpose": "more-testing"}),
        ("whole", {"body": {"do": "x"}, "Prefer": "respond-async"}),
        ("look-up", {"body": {"do": "x"}}),
    ]
    for name, how in others:
        answer = await rig.call(name, Idempotency_Key="other-request", **how)
        problem(answer, 422, "idempotency-mismatch")
        tx = answer.headers["Ngsp-Transaction"]
        assert tx != first.headers["Ngsp-Transaction"]
        (found,) = await rig.entries(tx)
        assert (found["kind"], found["outcome"]["code"]) == ("refused", "idempotency-mismatch")
        assert await rig.rows.fetchval("SELECT count(*) FROM outbox WHERE tx = $1", tx) == 0
    assert len(rig.provider.seen) == 1
    assert (await rig.call("whole", {"do": "x"}, Idempotency_Key="other-request")).content == first.content


async def test_a_repeat_while_the_first_is_in_flight(rig: Rig) -> None:
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    first = asyncio.create_task(rig.call(Idempotency_Key="in-flight"))
    await until(lambda: bool(rig.provider.seen), "the request to arrive")
    for _ in range(3):
        answer = await rig.call(Idempotency_Key="in-flight")
        problem(answer, 409, "key-in-flight")
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.headers["Ngsp-Transaction"] == rig.provider.seen[0].id
    release.set()
    assert (await first).status_code == 200
    again = await rig.call(Idempotency_Key="in-flight")
    assert (again.status_code, again.content) == (200, (await first).content)
    assert len(rig.provider.seen) == 1


async def test_of_many_firsts_at_once_on_two_gateways_one_is_executed(rig: Rig, tmp_path: Path) -> None:
    async with further_gateway(rig, tmp_path) as second:
        for number in range(5):
            rig.provider.seen.clear()
            calls = [(rig, second)[turn % 2].call(Idempotency_Key=f"at-once-{number}") for turn in range(10)]
            answers = await asyncio.gather(*calls)
            (executed,) = (request.id for request in rig.provider.seen)
            for answer in answers:
                assert answer.headers["Ngsp-Transaction"] == executed, answer.text
                assert answer.status_code == 200 or answer.json()["code"] == "key-in-flight"
            for gateway in (rig, second):
                assert (await gateway.call(Idempotency_Key=f"at-once-{number}")).status_code == 200
            assert len(rig.provider.seen) == 1


async def test_the_same_key_of_another_client_is_another_key(rig: Rig) -> None:
    answers = [await rig.call(by=client, Idempotency_Key="shared") for client in ("caller", "other", "caller")]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.headers["Ngsp-Transaction"] for answer in answers}) == 2
    assert len(rig.provider.seen) == 2


LET_GO = asyncio.Event()


async def held(request: Request) -> object:
    await LET_GO.wait()
    return {"did": "late"}


def raising(error: Exception) -> Callable[[Request], Awaitable[object]]:
    async def act(request: Request) -> object:
        raise error

    return act


def giving(reply: object) -> Callable[[Request], Awaitable[object]]:
    async def act(request: Request) -> object:
        return reply

    return act


ENDINGS: dict[str, tuple[Callable[[Request], Awaitable[object]], int, str]] = {
    "no such record": (raising(RecordNotFound("K-404")), 404, "record-not-found"),
    "a no": (raising(Refused("K-1")), 409, "provider-refused"),
    "a failure": (raising(Failed("K-2")), 502, "provider-failed"),
    "not reached": (raising(Unavailable("K-3")), 502, "provider-unavailable"),
    "interrupted": (raising(Interrupted("K-4")), 504, "outcome-unknown"),
    "off its schema": (giving({"undeclared": 1}), 502, "bad-reply"),
    "no answer": (held, 504, "no-answer"),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_endings_other_than_well_are_stored_too(rig: Rig, ending: str) -> None:
    act, status, code = ENDINGS[ending]
    LET_GO.clear()
    rig.provider.act = act  # type: ignore[method-assign,assignment]
    key = f"ending-{ending.replace(' ', '-')}"
    first = await rig.call("slow", Idempotency_Key=key)
    told = problem(first, status, code)
    rig.provider.act = giving({"did": "it"})  # type: ignore[method-assign,assignment]
    for _ in range(2):
        again = await rig.call("slow", Idempotency_Key=key)
        assert problem(again, status, code) == told
    assert len(rig.provider.seen) == 1
    LET_GO.set()


async def test_a_late_reply_changes_what_a_repeat_gets(rig: Rig) -> None:
    release = asyncio.Event()

    async def act(request: Request) -> object:
        await release.wait()
        return {"did": "late"}

    rig.provider.act = act  # type: ignore[method-assign]
    first = await rig.call("slow", Idempotency_Key="late")
    problem(first, 504, "no-answer")
    release.set()

    async def resolved() -> bool:
        return (await rig.call("slow", Idempotency_Key="late")).status_code == 200

    await until(resolved, "the late reply to be stored")
    again = await rig.call("slow", Idempotency_Key="late")
    assert (again.json(), again.headers["Ngsp-Transaction"]) == ({"did": "late"}, first.headers["Ngsp-Transaction"])
    assert len(rig.provider.seen) == 1


async def _executed(rig: Rig, key: str) -> str:
    """The transaction of a first call under `key`."""
    answer = await rig.call(Idempotency_Key=key)
    assert answer.status_code == 200
    rig.provider.seen.clear()
    tx: str = answer.headers["Ngsp-Transaction"]
    return tx


async def _gone(rig: Rig, key: str, tx: str, code: str) -> None:
    for _ in range(2):
        answer = await rig.call(Idempotency_Key=key)
        problem(answer, 410, code)
        assert answer.headers["Ngsp-Transaction"] == tx
    assert rig.provider.seen == []
    assert await rig.kinds(tx) == ["accepted", "succeeded"]


async def test_a_key_whose_life_is_over(rig: Rig) -> None:
    tx = await _executed(rig, "expired")
    await rig.rows.execute("UPDATE idempotency_keys SET expires_at = now() WHERE tx = $1", tx)
    await _gone(rig, "expired", tx, "key-expired")


async def test_a_reply_whose_key_was_erased(rig: Rig) -> None:
    tx = await _executed(rig, "erased")
    assert await rig.rows.execute("UPDATE entries SET wrapped = NULL WHERE tx = $1 AND kind = 1", tx) == "UPDATE 1"
    await _gone(rig, "erased", tx, "reply-erased")


async def test_a_reply_whose_retention_is_over(rig: Rig) -> None:
    tx = await _executed(rig, "retained")
    await rig.rows.execute("UPDATE replies SET expires_at = now() WHERE tx = $1", tx)
    await _gone(rig, "retained", tx, "reply-erased")
    await partitions.retire(rig.rows, entry.now(), 24)
    assert await rig.rows.fetchval("SELECT count(*) FROM replies WHERE tx = $1", tx) == 0
    await _gone(rig, "retained", tx, "reply-erased")


async def test_the_database_itself_refuses_to_change_the_log(rig: Rig) -> None:
    tx = await _executed(rig, "unchangeable")
    partition = await rig.rows.fetchval("SELECT tableoid::regclass::text FROM entries WHERE tx = $1", tx)
    assert partition.startswith("entries_p")
    before = await rig.rows.fetch("SELECT e::text FROM entries e WHERE tx = $1 ORDER BY xid, seq", tx)
    for table in ("entries", partition):
        for statement in (
            f"UPDATE {table} SET body = ''",
            f"UPDATE {table} SET kind = 3",
            f"UPDATE {table} SET seq = seq + 1",
            f"UPDATE {table} SET at = at + interval '1 s'",
            f"UPDATE {table} SET wrapped = '\\x00'",
            f"UPDATE {table} SET wrapped = NULL, body = ''",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"TRUNCATE {table} CASCADE",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await rig.rows.execute(statement)
    with pytest.raises(asyncpg.PostgresError):
        await rig.rows.execute(
            "INSERT INTO entries (seq, at, tx, kind, body) VALUES (0, now(), gen_random_uuid(), 1, '')"
        )
    assert await rig.rows.fetch("SELECT e::text FROM entries e WHERE tx = $1 ORDER BY xid, seq", tx) == before


async def test_the_key_itself_is_nowhere(rig: Rig) -> None:
    assert (await rig.call(Idempotency_Key=KEY)).status_code == 200
    assert (await rig.call("send", Idempotency_Key=KEY + "-s")).status_code == 202
    assert (await rig.call(body={"do": "y"}, Idempotency_Key=KEY)).status_code == 422
    tables = await rig.rows.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert "idempotency_keys" in {row["tablename"] for row in tables}
    for row in tables:
        for form in (KEY, KEY.encode().hex()):
            query = f"SELECT count(*) FROM {row['tablename']} t WHERE position($1 IN t::text) > 0"
            assert await rig.rows.fetchval(query, form) == 0, row["tablename"]
