"""A delivery to a webhook is tried again until it is taken, and told attempt by attempt; who hangs harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
import pytest
from standardwebhooks.webhooks import Webhook

from ngsp.adapter import Request, Unavailable
from ngsp.client import webhooks
from ngsp.events.posting import MOST_FOR_ONE
from ngsp.local.ports import free_port
from ngsp.local.postgres import LocalPostgres
from tests.backends.scripted import Answer, Asked, Scripted, always, in_turn, raw, scripted
from tests.support.events import CHANGES, NAME, RECEIVER, Events, Subscriber, changes, event, take_all
from tests.support.gateway import OPEN, Rig, running_gateway
from tests.support.waiting import until

TAKEN = raw("204 No Content")
QUICK: dict[str, Any] = {"retry_min_s": 0.02, "retry_max_s": 0.1, "relay_poll_s": 0.02, "lease_s": 0.9}


@pytest.fixture(scope="module")
async def module_events(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Events]:
    subscriber = Subscriber(
        services=[changes(), changes("short", deadline_s=1.5)],
        terms={"changes": {"fields": [""]}, "short": {"fields": ["/state"]}},
    )
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway(postgres, folder, subscriber, webhook_allowed_networks="127.0.0.0/8", **QUICK) as rig:
        yield Events(rig, subscriber)


@pytest.fixture
async def events(module_events: Events) -> AsyncIterator[Events]:
    yield module_events
    await module_events.rig.rows.execute("UPDATE subscription_progress SET stopped = 'test over'")


@pytest.fixture
async def receiver() -> AsyncIterator[Scripted]:
    async with scripted() as found:
        found.answer = always(TAKEN)
        yield found


async def came(receiver: Scripted, number: int) -> list[Asked]:
    await until(lambda: len(receiver.asked) >= number, f"{number} requests")
    return list(receiver.asked)


async def attempts(events: Events, subscription: str, tx: str) -> list[tuple[int | None, str | None]]:
    answer = await events.rig.get(f"/v1/subscriptions/{subscription}/deliveries/{tx}/attempts")
    assert answer.status_code == 200, answer.text
    return [(item["status"], item["problem"]) for item in reversed(answer.json()["items"])]


def hanging_until(let_go: asyncio.Event, answer: bytes = TAKEN) -> Answer:
    async def hang(_: Asked, writer: asyncio.StreamWriter) -> None:
        await let_go.wait()
        writer.write(answer)

    return hang


async def agreed(rig: Rig, purpose: str) -> str:
    """An agreement of its own for a test, in which one field is granted."""
    document = {
        "consumer": "G22",
        "service": CHANGES,
        "reference": purpose,
        "purposes": [purpose],
        "legal_basis": "Nghị định 194/2025/NĐ-CP",
        "fields": ["/state"],
    }
    id = (await rig.post("/v1/agreements", by="caller", json=document)).json()["id"]
    assert (await rig.post(f"/v1/agreements/{id}/accept", by="provider")).status_code == 200
    return str(id)


async def test_a_webhook_gets_the_event_signed_and_the_log_its_outcome(events: Events, receiver: Scripted) -> None:
    subscription = await events.subscribe(url=f"{receiver.url}/nhan")
    sent = event(subject="Hồ sơ 1", time="2026-11-28T10:00:00Z")
    (publication,) = await events.published(sent)
    (asked,) = await came(receiver, 1)
    assert asked.body == orjson.dumps(sent)
    assert asked.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert asked.headers["webhook-id"] == publication
    tx = await events.delivery(subscription["id"], publication)
    assert asked.headers["ngsp-transaction"] == tx
    Webhook(subscription["secret"]).verify(asked.body, asked.headers)  # the standard's own verifier
    found = webhooks.verify(subscription["secret"], asked.headers, asked.body)
    assert (found.id, found.subject, found.data["name"], found.transaction) == (sent["id"], "Hồ sơ 1", NAME, tx)
    assert await events.rig.outcome(tx) == ["accepted", "succeeded"]
    assert await attempts(events, subscription["id"], tx) == [(204, None)]


async def test_it_is_tried_again_under_the_same_id_until_it_is_taken(events: Events, receiver: Scripted) -> None:
    receiver.answer = in_turn(raw("500 Broken"), raw("302 Found", Location="/elsewhere"), raw("429 Slow"), TAKEN)
    subscription = await events.subscribe(url=receiver.url)
    first, second = await events.published(event({"state": 1}, subject="A"), event({"state": 2}, subject="A"))
    asked = await came(receiver, 5)
    assert [one.headers["webhook-id"] for one in asked] == [first] * 4 + [second]
    tx = await events.delivery(subscription["id"], first)
    assert (await events.rig.outcome(tx))[-1] == "succeeded"
    assert await attempts(events, subscription["id"], tx) == [
        (500, "status"), (302, "redirect"), (429, "status"), (204, None),
    ]  # fmt: skip
    shown = (await events.rig.get(f"/v1/subscriptions/{subscription['id']}/deliveries")).json()["items"]
    assert [(one["event"], one["attempts"]) for one in shown] == [(second, 1), (first, 4)]


async def test_a_receiver_that_was_away_gets_everything_in_order(events: Events) -> None:
    port = free_port()
    subscription = await events.subscribe(url=f"http://127.0.0.1:{port}/")
    publications = await events.published(*(event({"state": 1 + number}, subject="A") for number in range(9)))
    tx = await events.delivery(subscription["id"], publications[0])

    async def tried() -> bool:
        return len(await attempts(events, subscription["id"], tx)) > 2

    await until(tried, "several attempts")
    assert set(await attempts(events, subscription["id"], tx)) == {(None, "connect")}
    shown = (await events.rig.get(f"/v1/subscriptions/{subscription['id']}")).json()
    assert shown["open"] == 9

    async def noted() -> bool:
        return bool((await events.rig.get(f"/v1/subscriptions/{subscription['id']}")).json()["failing_since"])

    await until(noted, "the trouble to be shown")
    states: list[int] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r")[0])
        states.append(orjson.loads(await reader.readexactly(length))["data"]["state"])
        writer.write(raw("200 OK", Connection="close"))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", port):
        await until(lambda: len(states) == 9, "all events")
    assert states == list(range(1, 10))


async def test_a_receiver_that_hangs_holds_up_nobody_else(events: Events, receiver: Scripted) -> None:
    async with scripted() as hanging:
        let_go = asyncio.Event()
        hanging.answer = hanging_until(let_go)
        await events.subscribe(url=hanging.url)
        await events.subscribe(url=receiver.url)
        await events.published(*(event({"dossier": f"H41-{number}"}) for number in range(30)))
        assert len(await came(receiver, 30)) == 30
        assert 1 <= len(hanging.asked) <= 8
        let_go.set()
        await came(hanging, 30)


async def test_gone_stops_the_subscription_until_its_owner_says_so(events: Events, receiver: Scripted) -> None:
    receiver.answer = always(raw("410 Gone"))
    subscription = await events.subscribe(url=receiver.url)
    (publication,) = await events.published(event())
    tx = await events.delivery(subscription["id"], publication)
    assert (await events.rig.outcome(tx))[-1] == "refused"
    shown = (await events.rig.get(f"/v1/subscriptions/{subscription['id']}")).json()
    assert (shown["state"], shown["reason"]) == ("stopped", shown["reason"])
    await events.published(event({"state": 5}))
    receiver.answer = always(TAKEN)
    answer = await events.rig.post(f"/v1/subscriptions/{subscription['id']}/resume", by="caller")
    assert answer.status_code == 200, answer.text
    asked = await came(receiver, 2)
    assert orjson.loads(asked[1].body)["data"]["state"] == 5


async def test_a_former_address_that_is_gone_stops_nothing(events: Events, receiver: Scripted) -> None:
    let_go = asyncio.Event()
    async with scripted() as former:
        former.answer = hanging_until(let_go, raw("410 Gone"))
        subscription = await events.subscribe(url=former.url)
        await events.published(event({"state": 7}))
        await came(former, 1)
        await events.subscribe(subscription["id"], url=receiver.url)
        let_go.set()
        (asked,) = await came(receiver, 1)
    assert orjson.loads(asked.body)["data"]["state"] == 7
    assert (await events.rig.get(f"/v1/subscriptions/{subscription['id']}")).json()["state"] == "active"


async def test_gone_does_not_hide_a_gap(events: Events, receiver: Scripted) -> None:
    let_go = asyncio.Event()
    receiver.answer = hanging_until(let_go, raw("410 Gone"))
    subscription = await events.subscribe(url=receiver.url)
    (publication,) = await events.published(event())
    await came(receiver, 1)
    stopped = "UPDATE subscription_progress SET stopped = 'gap' WHERE subscription = $1"
    await events.rig.rows.execute(stopped, subscription["id"])  # as retention leaves it
    let_go.set()
    tx = await events.delivery(subscription["id"], publication)
    assert (await events.rig.outcome(tx))[-1] == "refused"
    assert (await events.rig.get(f"/v1/subscriptions/{subscription['id']}")).json()["reason"] == "gap"


async def test_nothing_goes_to_a_client_that_was_deactivated(events: Events, receiver: Scripted) -> None:
    rig = events.rig
    client: dict[str, Any] = {"member": "G22", "name": {"vi": "ngừng", "en": "closing"}, "scopes": ["registry"]}

    async def put(**terms: Any) -> dict[str, Any]:
        headers = await rig.headers("operator")
        answer = await rig.http.put("/v1/clients/closing", headers=headers, json=client | terms)
        assert answer.status_code in (200, 201), answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def put_off() -> bool:
        found = "SELECT next_at > now() + interval '1 s' FROM outbox WHERE subscription = $1 AND state = 'open'"
        return bool(await rig.rows.fetchval(found, subscription["id"]))

    rig.secrets["closing"] = (await put())["secret"]
    receiver.answer = always(raw("429 Later"))
    subscription = await events.subscribe(by="closing", url=receiver.url)
    await events.published(event())
    await came(receiver, 2)
    await put(active=False)
    await until(put_off, "the delivery to be put off")


async def test_a_revoked_agreement_ends_what_was_never_taken(events: Events, receiver: Scripted) -> None:
    rig = events.rig
    receiver.answer = always(raw("429 Later"))
    id = await agreed(rig, "hooked")
    subscription = await events.subscribe(agreement=id, purpose="hooked", url=receiver.url)
    (publication,) = await events.published(event())
    await came(receiver, 2)
    assert orjson.loads(receiver.asked[0].body)["data"] == {"state": 2}
    reason = {"reason": "Chấm dứt", "legal_basis": "Nghị định 194/2025/NĐ-CP"}
    assert (await rig.post(f"/v1/agreements/{id}/revoke", by="provider", json=reason)).status_code == 200
    tx = await events.delivery(subscription["id"], publication)
    assert (await rig.outcome(tx))[-1] == "refused"
    number = len(receiver.asked)
    receiver.answer = always(TAKEN)
    await events.published(event())
    assert len(receiver.asked) == number


async def test_a_suspended_agreement_holds_back_what_waits_for_its_turn(events: Events, receiver: Scripted) -> None:
    rig, let_go = events.rig, asyncio.Event()
    receiver.answer = hanging_until(let_go)
    id = await agreed(rig, "interrupted")
    subscription = await events.subscribe(agreement=id, purpose="interrupted", url=receiver.url)
    await events.published(*(event({"state": 1}) for _ in range(MOST_FOR_ONE + 1)))

    async def given_back() -> bool:
        found = "SELECT answered @> int4range(1, 2) FROM outbox WHERE subscription = $1 AND state = 'open'"
        return [row[0] for row in await rig.rows.fetch(found, subscription["id"])] == [True]

    async def all_begun() -> bool:
        found = "SELECT sum(attempts) FROM outbox WHERE subscription = $1"
        return bool(await rig.rows.fetchval(found, subscription["id"]) == MOST_FOR_ONE + 1)

    await until(all_begun, "the last to wait for its turn")
    await came(receiver, MOST_FOR_ONE)
    reason = {"reason": "Rà soát", "legal_basis": "Nghị định 194/2025/NĐ-CP"}
    assert (await rig.post(f"/v1/agreements/{id}/suspend", by="provider", json=reason)).status_code == 200
    let_go.set()
    await until(given_back, "the others to end, and the last to be due again")
    assert len(receiver.asked) == MOST_FOR_ONE


async def test_what_is_too_late_ends_though_its_receiver_hangs(events: Events, receiver: Scripted) -> None:
    """One that did not take the last is sent one at a time: the other is not taken from the outbox meanwhile."""
    short, let_go = "H41/short/v1", asyncio.Event()
    receiver.answer = always(raw("429 Later"))
    subscription = await events.subscribe(service=short, url=receiver.url)
    publications = await events.published(event({"state": 1}), path=short)
    await came(receiver, 2)
    receiver.answer = hanging_until(let_go)
    publications += await events.published(event({"state": 2}), path=short)
    txs = [await events.delivery(subscription["id"], one) for one in publications]

    async def ends() -> list[str]:
        return [kinds[-1] for tx in txs if (kinds := await events.rig.kinds(tx))[-1] not in OPEN]

    async def one_ended() -> bool:
        return bool(await ends())

    await until(one_ended, "one to end")
    assert await ends() == ["expired"]
    told = [one for tx in txs for one in await attempts(events, subscription["id"], tx)]
    assert set(told) == {(429, "status")}, "the other hangs still"
    let_go.set()


@asynccontextmanager
async def relay_halfway(events: Events, tx: str) -> AsyncIterator[None]:
    """Of a delivery that is refused again and again: the relay has decided where it goes, and cannot count the attempt
    yet."""
    connection = await asyncpg.connect(events.rig.settings.database_url.get_secret_value())

    async def locked() -> bool:
        return bool(
            await connection.fetchval(
                """SELECT 1 FROM outbox WHERE tx = $1 AND attempts > 0 AND answered @> int4range(1, attempts + 1)
                AND next_at < now() + interval '1 s' FOR UPDATE""",
                tx,
            )
        )

    async def waits() -> bool:
        return bool(
            await events.rig.rows.fetchval(
                """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND wait_event_type = 'Lock' AND query LIKE '%UPDATE outbox%attempts + 1%'"""
            )
        )

    try:
        async with connection.transaction():
            await until(locked, "a pause between two attempts")
            await until(waits, "the relay to take the delivery")
            yield
    finally:
        await connection.close()


async def away(_: Request) -> object:
    raise Unavailable("AWAY")


@pytest.mark.parametrize("from_webhook", [True, False])
async def test_a_subscription_that_moves_meanwhile_gets_it_where_it_was(
    events: Events, receiver: Scripted, from_webhook: bool
) -> None:
    """Where a delivery goes is decided once in a step of the relay."""
    subscriber = events.subscriber
    subscriber.taken.clear()
    subscriber.take, receiver.answer = away, always(raw("429 Later"))
    places: list[dict[str, Any]] = [{"receiver": RECEIVER}, {"url": receiver.url}]
    before, after = reversed(places) if from_webhook else places
    id = (await events.subscribe(**before))["id"]
    (publication,) = await events.published(event())
    tx = await events.delivery(id, publication)
    async with relay_halfway(events, tx):
        await events.subscribe(id, **after)
        number = len(receiver.asked)
        subscriber.take, receiver.answer = take_all, always(TAKEN)
    assert (await events.rig.outcome(tx))[-1] == "succeeded"
    assert (len(receiver.asked) - number, len(subscriber.taken)) == ((1, 0) if from_webhook else (0, 1))
    await events.published(event())
    await until(lambda: len(receiver.asked) - number == 1 == len(subscriber.taken), "the next to come where it is now")
