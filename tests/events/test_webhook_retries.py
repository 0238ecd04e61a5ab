"""A delivery to a webhook is tried again until it is taken, and told attempt by attempt; who hangs harms nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from standardwebhooks.webhooks import Webhook

from ngsp.client import webhooks
from ngsp.local.ports import free_port
from ngsp.local.postgres import LocalPostgres
from tests.backends.scripted import Asked, Scripted, always, in_turn, raw, scripted
from tests.support.events import CHANGES, NAME, Events, Subscriber, event
from tests.support.gateway import running_gateway
from tests.support.waiting import until

TAKEN = raw("204 No Content")
QUICK: dict[str, Any] = {"retry_min_s": 0.02, "retry_max_s": 0.1, "relay_poll_s": 0.02, "lease_s": 0.9}


@pytest.fixture(scope="module")
async def module_events(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Events]:
    subscriber = Subscriber()
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

        async def hang(_: Asked, writer: asyncio.StreamWriter) -> None:
            await let_go.wait()
            writer.write(TAKEN)

        hanging.answer = hang
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


async def test_a_revoked_agreement_ends_what_was_never_taken(events: Events, receiver: Scripted) -> None:
    rig = events.rig
    receiver.answer = always(raw("429 Later"))
    document = {
        "consumer": "G22",
        "service": CHANGES,
        "reference": "revoked-webhook",
        "purposes": ["hooked"],
        "legal_basis": "Nghị định 194/2025/NĐ-CP",
        "fields": ["/state"],
    }
    id = (await rig.post("/v1/agreements", by="caller", json=document)).json()["id"]
    await rig.post(f"/v1/agreements/{id}/accept", by="provider")
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
