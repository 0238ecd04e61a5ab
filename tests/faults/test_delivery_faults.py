"""Submissions and replies when something on their way is wrong: the adapter away, topics lost, messages broken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from ngsp.local.kafka import LocalKafka
from ngsp.local.postgres import LocalPostgres
from ngsp.messages import OUTCOMES_TOPIC, Reply, ServiceKey, uuid7
from ngsp.transactions import entry
from tests.faults.world import BRIEFLY, POST, READ, World
from tests.support.installation import KAFKA
from tests.support.waiting import until

pytestmark = pytest.mark.postgres

Act = Callable[[str], Awaitable[None]]


@pytest.fixture(scope="module")
async def module_world(
    own_postgres: LocalPostgres, own_kafka: LocalKafka, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    world = await World.make(tmp_path_factory.mktemp("delivery"), own_postgres, own_kafka)
    async with world.installation:
        yield world


@pytest.fixture
async def world(module_world: World) -> AsyncIterator[World]:
    """Everything runs again after each test."""
    yield module_world
    await module_world.all_up()


@pytest.fixture
async def on_agreement(world: World) -> AsyncIterator[Act]:
    """What the provider does to the agreement on the ledger; it is in force again at the end."""
    id = await world.installation.value("SELECT id::text FROM agreements WHERE reference = 'faults-post-entry'")
    done: list[str] = []

    async def act(action: str) -> None:
        done.append(action)
        path, reason = f"/v1/agreements/{id}/{action}", {"reason": "Thử nghiệm"}
        answer = await world.installation.request("POST", path, client="provider", json=reason)
        assert answer.status_code == 200, answer.text

    yield act
    if done[-1] == "suspend":
        await act("resume")


async def test_what_waits_while_the_broker_is_away(world: World, on_agreement: Act) -> None:
    """One is stopped, one is too late, one is broken; the fourth goes its way when the broker is back."""
    installation = world.installation
    await world.without_broker()
    stopped, late = await world.submit(), await world.submit(BRIEFLY)
    broken, well = await world.submit(READ), await world.submit(READ)
    await on_agreement("suspend")
    await world.execute("UPDATE outbox SET body = '\\x0102' WHERE tx = $1", broken)
    await world.ended(late, entry.EXPIRED)
    await installation.start(KAFKA)
    await world.ended(well, entry.SUCCEEDED)
    await world.ended(stopped, entry.REFUSED)
    assert (await world.code(stopped), await world.code(late)) == ("agreement-revoked", "expired")
    held = (await installation.request("GET", "/v1/quarantine")).json()["items"]
    assert [(item["transaction"], item["what"], item["state"]) for item in held] == [(broken, "submission", "held")]
    decision = {"reason": "Hỏng, không khôi phục được"}
    decided = await installation.request("POST", f"/v1/quarantine/{held[0]['id']}/discard", json=decision)
    assert decided.status_code == 200, decided.text
    assert await world.endings(broken) == []
    for service, tx in ((POST, stopped), (BRIEFLY, late), (READ, broken)):
        assert await world.deliveries(service, tx) == []
        assert await world.in_ledger(tx) == 0


async def test_what_is_stopped_while_the_adapter_is_away_is_not_begun_when_it_is_back(
    world: World, on_agreement: Act
) -> None:
    await world.installation.stop("ledger")
    tx = await world.submit()
    await world.published(tx)
    await on_agreement("suspend")

    async def stopped() -> bool:
        return bool(await world.installation.value("SELECT next_at = deadline FROM outbox WHERE tx = $1", tx))

    await until(stopped, "the relay to find that it may not go on")
    oldest = max(envelope.begin_by_ms for envelope in await world.deliveries(POST, tx))
    await until(lambda: time.time() * 1000 > oldest, "what was published to grow too old")
    await world.installation.start("ledger")
    await world.ended(tx, entry.REFUSED)
    assert await world.code(tx) == "agreement-revoked"
    assert await world.in_ledger(tx) == 0


async def test_what_grew_old_but_may_go_is_delivered_anew(world: World) -> None:
    await world.installation.stop("ledger")
    tx = await world.submit()
    await world.published(tx)
    first = (await world.deliveries(POST, tx))[0]
    await until(lambda: time.time() * 1000 > first.begin_by_ms, "the first delivery to grow too old")
    await world.installation.start("ledger")
    await world.ended(tx, entry.SUCCEEDED)
    assert await world.in_ledger(tx) == 1


async def test_a_deadline_that_passes_while_the_adapter_is_away(world: World) -> None:
    """Nobody can know from here that nothing was done, until the adapter says so."""
    await world.installation.stop("ledger")
    tx = await world.submit(BRIEFLY)
    await world.ended(tx, entry.UNKNOWN)
    await world.installation.start("ledger")
    await world.ended(tx, entry.UNKNOWN, entry.RESOLVED)
    assert await world.in_ledger(tx) == 0
    state = await world.installation.request("GET", f"/v1/transactions/{tx}")
    assert state.json()["state"] == "resolved"


async def test_a_provider_that_asks_for_a_retry_gets_one(world: World) -> None:
    tx = await world.submit(rule="retry")
    await world.ended(tx, entry.SUCCEEDED)
    assert sorted(envelope.attempt for envelope in await world.deliveries(POST, tx)) == [1, 2]
    assert await world.in_ledger(tx) == 1


@pytest.mark.long
async def test_a_topic_that_is_lost_whole_loses_nothing(world: World) -> None:
    await world.installation.stop("ledger")
    waiting = [await world.submit() for _ in range(5)]
    for tx in waiting:
        await world.published(tx)
    await world.installation.delete_topics([ServiceKey.parse(POST).request_topic, OUTCOMES_TOPIC])
    await world.installation.start("ledger")
    for tx in waiting:
        await world.ended(tx, entry.SUCCEEDED)
        assert await world.in_ledger(tx) == 1


@pytest.mark.long
async def test_a_reply_topic_that_is_lost_is_made_again(world: World) -> None:
    topic = await world.reply_topic()
    await world.installation.delete_topics([topic])

    async def answered() -> bool:
        return (await world.installation.call(READ, world.body(), Prefer="wait=1")).status_code == 200

    await until(answered, "queries to be answered again", 60.0)


async def test_a_reply_after_the_time_is_over_resolves_once_and_a_double_is_recorded_once(world: World) -> None:
    answer = await world.installation.call(READ, world.body(delay_ms=2_000), Prefer="wait=1")
    assert (answer.status_code, answer.json()["code"]) == (504, "no-answer")
    tx = answer.headers["Ngsp-Transaction"]
    assert await world.endings(tx) == [entry.UNKNOWN]
    await world.ended(tx, entry.UNKNOWN, entry.RESOLVED)
    topic = await world.reply_topic()
    again = Reply(tx, READ, "ok", b'{"item":"x","tx":"y"}', adapter="h41-reading")
    for _ in range(2):
        await world.send(topic, again.headers(), again.body)
    await _recorded_once(world, tx)
    assert await world.endings(tx) == [entry.UNKNOWN, entry.RESOLVED]


async def test_a_doubled_outcome_is_recorded_once(world: World) -> None:
    tx = await world.submit()
    await world.ended(tx, entry.SUCCEEDED)
    again = Reply(tx, POST, "refused", code="CHANGED-ITS-MIND", adapter="h41-ledger")
    for _ in range(2):
        await world.send(OUTCOMES_TOPIC, again.headers(), again.body)
    await _recorded_once(world, tx)
    assert await world.endings(tx) == [entry.SUCCEEDED]
    reply = await world.installation.request("GET", f"/v1/transactions/{tx}/reply", client="portal")
    assert (reply.status_code, reply.json()["tx"]) == (200, tx)


async def _recorded_once(world: World, tx: str) -> None:
    """Waits until the doubles have been taken: a stranger sent after them has its line in the log."""

    async def found() -> bool:
        return await world.repeated(tx) > 0

    await until(found, "the double to be recorded")
    stranger = Reply(uuid7(), POST, "ok", b"{}", adapter="h41-ledger")
    topic = await world.reply_topic()
    for where in (topic, OUTCOMES_TOPIC):
        await world.send(where, stranger.headers(), stranger.body)
    await until(lambda: world.logged(stranger.id) >= 2, "the strangers after the doubles")
    assert await world.repeated(tx) == 1


GARBAGE: dict[str, tuple[list[tuple[str, bytes | None]], bytes]] = {
    "nothing": ([], b""),
    "no headers": ([], b"\x00\xff\xfe garbage"),
    "headers without a value": ([("ngsp-id", None), ("ngsp-service", None), ("ngsp-status", None)], b""),
    "not UTF-8": ([("ngsp-id", b"\xff\xfe"), ("ngsp-service", b"\xff"), ("ngsp-status", b"ok")], b"{}"),
    "an id that is none": ([("ngsp-id", b"' OR 1=1"), ("ngsp-service", b"x"), ("ngsp-status", b"ok")], b"{}"),
    "a status that is none": ([("ngsp-id", uuid7().encode()), ("ngsp-service", b"x"), ("ngsp-status", b"?")], b"{}"),
    "an attempt that is none": (
        [("ngsp-id", uuid7().encode()), ("ngsp-service", b"x"), ("ngsp-status", b"ok"), ("ngsp-attempt", b"1e9")],
        b"{}",
    ),
}


async def test_garbage_among_the_outcomes_is_dropped_with_a_line(world: World) -> None:
    before = world.logged("a message that is no outcome was dropped")
    for headers, value in GARBAGE.values():
        await world.send(OUTCOMES_TOPIC, headers, value)
    unknown = Reply(uuid7(), POST, "ok", b"{}", adapter="h41-ledger")
    await world.send(OUTCOMES_TOPIC, unknown.headers(), unknown.body)
    tx = await world.submit()
    await world.ended(tx, entry.SUCCEEDED)
    await until(
        lambda: world.logged("a message that is no outcome was dropped") == before + len(GARBAGE), "a line for each"
    )
    await until(lambda: world.logged("an outcome of no known submission was dropped") > 0, "a line for the stranger")


async def test_garbage_among_the_replies_and_requests_stops_nobody(world: World) -> None:
    replies = await world.reply_topic()
    for headers, value in GARBAGE.values():
        await world.send(replies, headers, value)
        await world.send(ServiceKey.parse(POST).request_topic, headers, value)
        await world.send(ServiceKey.parse(READ).request_topic, headers, value)
    answer = await world.installation.call(READ, world.body())
    assert answer.status_code == 200, answer.text
    tx = await world.submit()
    await world.ended(tx, entry.SUCCEEDED)


async def test_an_outcome_bound_to_another_service_is_put_aside(world: World) -> None:
    await world.installation.stop("ledger")
    tx = await world.submit()
    await world.published(tx)
    forged = Reply(tx, READ, "ok", b'{"item":"x","tx":"y"}', adapter="h41-reading")
    await world.send(OUTCOMES_TOPIC, forged.headers(), forged.body)
    await world.ended(tx, entry.FAILED)
    assert await world.code(tx) == "bad-reply"
    held = (await world.installation.request("GET", "/v1/quarantine")).json()["items"]
    assert [item["what"] for item in held if item["transaction"] == tx] == ["reply"]


_BY_OFFICER = """
SELECT tx::text FROM entries WHERE kind = 1 AND convert_from(body, 'UTF8')::jsonb #>> '{call,officer}' = $1"""


async def test_a_reply_bound_to_another_service_is_502_and_put_aside(world: World) -> None:
    """The caller gets nothing of it; the right one that comes later is recorded and delivered to nobody."""
    officer = "of-the-forged"  # by which this call is found, whatever else is under way
    asked = asyncio.create_task(world.installation.call(READ, world.body(delay_ms=3_000), Ngsp_Officer=officer))
    tx = ""

    async def accepted() -> bool:
        nonlocal tx
        tx = await world.installation.value(_BY_OFFICER, officer) or ""
        return bool(tx)

    await until(accepted, "the query to be under way")
    forged = Reply(tx, POST, "ok", b'{"item":"forged","tx":"y"}', adapter="h41-ledger")
    await world.send(await world.reply_topic(), forged.headers(), forged.body)
    answer = await asked
    assert (answer.status_code, answer.json().get("code")) == (502, "bad-reply"), answer.text
    assert answer.headers["Ngsp-Transaction"] == tx
    assert "forged" not in answer.text
    assert await world.endings(tx) == [entry.FAILED]
    held = (await world.installation.request("GET", "/v1/quarantine")).json()["items"]
    assert [item["what"] for item in held if item["transaction"] == tx] == ["reply"]

    async def recorded() -> bool:
        return await world.repeated(tx) == 1

    await until(recorded, "the right reply to be recorded as another one")
    assert await world.endings(tx) == [entry.FAILED]


async def test_no_topic_is_ever_made_of_what_a_caller_sends(world: World) -> None:
    before = await world.installation.topics()
    for service in ("H41/nothing/v1", "H41/read-entry/v2", "Z99/read-entry/v1", "H41/read-entry.x/v1", "H41/../v1"):
        answer = await world.installation.call(service, world.body(), key="topics", Prefer="respond-async")
        assert answer.status_code in (403, 422), answer.text
    assert (await world.installation.call(READ, world.body())).status_code == 200
    assert await world.installation.topics() == before


async def test_an_outcome_whose_record_key_does_not_open_ends_it_all_the_same(world: World) -> None:
    """A poisonous outcome must not come again for ever, and what the provider did is recorded as done."""
    await world.installation.stop("ledger")
    tx = await world.submit()
    await world.published(tx)
    await world.execute("ALTER TABLE entries DISABLE TRIGGER USER")
    await world.execute("UPDATE entries SET wrapped = $2 WHERE tx = $1 AND kind = 1", tx, bytes(73))
    await world.execute("ALTER TABLE entries ENABLE TRIGGER USER")
    outcome = Reply(tx, POST, "ok", b'{"item":"x","tx":"y"}', adapter="h41-ledger")
    await world.send(OUTCOMES_TOPIC, outcome.headers(), outcome.body)
    await world.ended(tx, entry.SUCCEEDED)
    held = (await world.installation.request("GET", "/v1/quarantine")).json()["items"]
    assert {item["what"] for item in held if item["transaction"] == tx} >= {"outcome"}
