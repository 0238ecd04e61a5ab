"""Submissions that are worked in an order: one after the other in their line, and no line behind another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from ngsp.adapter import Refused, Request, Unavailable
from ngsp.local.postgres import LocalPostgres
from tests.support.gateway import Provider, Rig, relay_held, running_gateway, service
from tests.support.problems import NUMBER, problem
from tests.support.waiting import until

DOSSIER = "000.00.00.H41-261121-0001"
OTHER = "000.00.00.H41-261121-0002"


@pytest.fixture(scope="module")
async def module_rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    provider = Provider(
        services=[
            service("by-dossier", mode="submission", deadline_s=60, order="dossier"),
            service("by-id", mode="submission", deadline_s=60, order="/id"),
            service("in-no-order", mode="submission", deadline_s=60),
        ],
    )
    quick: dict[str, Any] = {"retry_min_s": 0.02, "retry_max_s": 0.1, "relay_poll_s": 0.02, "lease_s": 0.9}
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), provider, **quick) as rig:
        yield rig


class Work:
    """What the provider is at: `begun` and `ended` in order; each waits until its note is let go."""

    def __init__(self, rig: Rig) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self._gates: dict[str, asyncio.Event] = {}
        rig.provider.act = self._act  # type: ignore[method-assign]

    async def _act(self, request: Request) -> object:
        note = request.payload["note"]
        self.begun.append(note)
        await self._gate(note).wait()
        self.ended.append(note)
        return {"did": note}

    def _gate(self, note: str) -> asyncio.Event:
        return self._gates.setdefault(note, asyncio.Event())

    def let(self, *notes: str) -> None:
        for note in notes:
            self._gate(note).set()


async def submit(rig: Rig, name: str, note: str, dossier: str = "", **body: str) -> str:
    answer = await rig.call(name, {"note": note} | body, Idempotency_Key=f"{name}-{note}", Ngsp_Dossier=dossier)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["Ngsp-Transaction"])


async def asleep(rig: Rig, tx: str) -> None:
    """Returns when the relay has found that another is before it."""

    async def found() -> bool:
        return bool(await rig.rows.fetchval("SELECT next_at = deadline AND attempts = 0 FROM outbox WHERE tx = $1", tx))

    await until(found, "it to wait in its line")


async def test_one_after_the_other_in_a_line_and_lines_beside_each_other(rig: Rig) -> None:
    work = Work(rig)
    first = await submit(rig, "by-dossier", "a1", DOSSIER)
    second = await submit(rig, "by-dossier", "a2", DOSSIER)
    third = await submit(rig, "by-dossier", "a3", DOSSIER)
    for tx in (second, third):
        await asleep(rig, tx)
    for note in ("b1", "c1", "c2"):  # of another dossier, and of none
        await submit(rig, "by-dossier", note, OTHER if note == "b1" else "")
    await until(lambda: set(work.begun) == {"a1", "b1", "c1", "c2"}, "all that have nobody before them")
    work.let("b1", "c1", "c2", "a2", "a3")
    assert await rig.kinds(second) == await rig.kinds(third) == ["accepted"]
    work.let("a1")
    for tx in (first, second, third):
        assert await rig.outcome(tx) == ["accepted", "delivered", "succeeded"]
    assert [note for note in work.ended if note[0] == "a"] == ["a1", "a2", "a3"]


async def test_who_is_told_to_come_again_keeps_its_place(rig: Rig) -> None:
    seen: list[str] = []

    async def act(request: Request) -> object:
        seen.append(request.payload["note"])
        if len(seen) < 4:
            raise Unavailable("K-away")
        if request.payload["note"] == "r2":
            raise Refused("K-no")
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    async with relay_held(rig):
        txs = [await submit(rig, "by-id", note, id=NUMBER) for note in ("r1", "r2", "r3")]
    assert [(await rig.outcome(tx))[-1] for tx in txs] == ["succeeded", "refused", "succeeded"]
    assert seen == ["r1", "r1", "r1", "r1", "r2", "r3"]


async def test_what_it_is_ordered_by_is_nowhere_to_be_read(rig: Rig) -> None:
    async with relay_held(rig):
        one, same = [await submit(rig, "by-id", note, id=NUMBER) for note in ("s1", "s2")]
        other = await submit(rig, "by-id", "s3", id="900000000999")
        none = await submit(rig, "by-id", "s4")
        unasked = await submit(rig, "in-no-order", "s5", DOSSIER, id=NUMBER)
        keys = {
            tx: await rig.rows.fetchval("SELECT order_key FROM outbox WHERE tx = $1", tx)
            for tx in (one, same, other, none, unasked)
        }
    assert keys[one] == keys[same] != keys[other]
    assert keys[none] is keys[unasked] is None
    assert len(keys[one]) == 32 and NUMBER.encode() not in keys[one]
    for tx in keys:
        await rig.outcome(tx)
    orders = {seen.id: seen.envelope.order for seen in rig.provider.seen}
    assert orders[one] == orders[same] == keys[one][:16].hex()
    assert orders[none] == orders[unasked] == ""


async def test_a_deadline_is_the_longest_that_one_holds_up_the_others(rig: Rig) -> None:
    """The first is never answered for good; what came after it with more time goes its way, the other expires."""

    async def act(request: Request) -> object:
        if request.payload["note"] == "d1":
            raise Unavailable("K-away")
        return {"did": "it"}

    rig.provider.act = act  # type: ignore[method-assign]
    first = await submit(rig, "by-dossier", "d1", DOSSIER)
    second = await submit(rig, "by-dossier", "d2", DOSSIER)
    await asleep(rig, second)
    await rig.rows.execute("UPDATE outbox SET deadline = now(), next_at = now() WHERE tx = $1", first)
    assert (await rig.outcome(first))[-1] in ("expired", "unknown")
    assert (await rig.outcome(second))[-1] == "succeeded"


async def test_what_expires_in_its_line_was_not_done(rig: Rig) -> None:
    work = Work(rig)
    first = await submit(rig, "by-dossier", "e1", DOSSIER)
    await until(lambda: work.begun == ["e1"], "the first")
    second, third = [await submit(rig, "by-dossier", note, DOSSIER) for note in ("e2", "e3")]
    for tx in (second, third):
        await asleep(rig, tx)
    await rig.rows.execute("UPDATE outbox SET deadline = now(), next_at = now() WHERE tx = $1", second)
    assert await rig.outcome(second) == ["accepted", "expired"]
    assert (await rig.entries(second))[-1]["outcome"]["class"] == "deadline"
    work.let("e1", "e3")
    assert (await rig.outcome(first))[-1] == (await rig.outcome(third))[-1] == "succeeded"
    assert work.ended == ["e1", "e3"]


async def test_two_relays_cannot_send_two_of_one_line(rig: Rig) -> None:
    """One whose lease has ended may not know it: whatever it has sent first is first, and the database makes sure."""
    work = Work(rig)
    async with relay_held(rig):
        first, second = [await submit(rig, "by-dossier", note, DOSSIER) for note in ("t1", "t2")]
        begun = "UPDATE outbox SET attempts = 1, next_at = now() WHERE tx = $1"
        await rig.rows.execute(begun, second)
        with pytest.raises(asyncpg.UniqueViolationError):
            await rig.rows.execute(begun, first)
    await until(lambda: work.begun == ["t2"], "the one that is on its way already, again")
    await asleep(rig, first)
    work.let("t1", "t2")
    assert (await rig.outcome(first))[-1] == (await rig.outcome(second))[-1] == "succeeded"
    assert work.ended == ["t2", "t1"]


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({"mode": "query", "order": "dossier"}, ["/services/0/order"]),
        ({"mode": "submission", "order": "/nowhere"}, ["/services/0/order"]),
        ({"mode": "submission", "order": "/list/*"}, ["/services/0/order"]),
        ({"mode": "submission", "order": "by-hand"}, ["/services/0/order"]),
    ],
)
async def test_an_order_that_cannot_be_is_refused(rig: Rig, changes: dict[str, str], places: list[str]) -> None:
    manifest = {"id": "h41-others", "provider": "H41", "services": [service("other", deadline_s=60) | changes]}
    answer = await rig.http.put("/v1/adapters/h41-others", json=manifest, headers=await rig.headers("provider"))
    document = problem(answer, 422, answer.json()["code"])
    assert [error["pointer"] for error in document["errors"]] == places


async def test_the_order_is_part_of_the_promise(rig: Rig) -> None:
    changed = [each | {"order": "none"} if each["service"] == "by-id" else each for each in rig.provider.services]
    manifest = {"id": "h41-tests", "provider": "H41", "services": changed}
    answer = await rig.http.put("/v1/adapters/h41-tests", json=manifest, headers=await rig.headers("provider"))
    assert [error["pointer"] for error in problem(answer, 409, "version-conflict")["errors"]] == ["/services/1/order"]
    shown = await rig.get("/v1/services/H41/by-id/v1")
    assert shown.json()["order"] == "/id"
