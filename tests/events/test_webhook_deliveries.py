"""From a publisher's client to a receiver's: published, delivered to a webhook, verified."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ngsp.client import NewEvent, errors, webhooks
from ngsp.local.postgres import LocalPostgres
from tests.backends.scripted import Scripted, always, in_turn, raw, scripted
from tests.client.hands import hands
from tests.support.events import CHANGED, CHANGES, NAME, Events, Subscriber, changes
from tests.support.gateway import running_gateway
from tests.support.waiting import until

DATA = {"dossier": "H41-1", "state": 2, "person": "900123456789", "name": NAME}
QUICK: dict[str, Any] = {"retry_min_s": 0.02, "retry_max_s": 0.1, "relay_poll_s": 0.02, "project_s": 0.05}


@pytest.fixture(scope="module")
async def module_events(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Events]:
    subscriber = Subscriber(
        services=[changes(), changes("cut")], terms={"changes": {"fields": [""]}, "cut": {"fields": ["/dossier"]}}
    )
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway(postgres, folder, subscriber, webhook_allowed_networks="127.0.0.1/32", **QUICK) as rig:
        yield Events(rig, subscriber)


@pytest.fixture
async def events(module_events: Events) -> AsyncIterator[Events]:
    """Each test has the subscriptions it makes, and no others are active."""
    yield module_events
    for item in (await module_events.rig.get("/v1/subscriptions?limit=500")).json()["items"]:
        if item["active"]:
            await module_events.subscribe(item["id"], service=item["service"], url=item["url"], active=False)


async def publish(events: Events, path: str = CHANGES, **attributes: Any) -> str:
    """The publication of one event."""
    async with hands("asyncio", events.rig, by="provider") as bus:
        (found,) = await bus.do("publish", path, NewEvent("/h41/mot-cua", CHANGED, DATA, **attributes))
    return str(found.transaction)


async def ended(events: Events, subscription: dict[str, Any], publication: str) -> str:
    """The delivery of a publication, once it has its outcome."""
    tx = await events.delivery(subscription["id"], publication)
    await events.rig.outcome(tx)
    return tx


async def attempts(events: Events, subscription: dict[str, Any], tx: str) -> list[tuple[int | None, str | None]]:
    """Status and problem of each attempt, the first first."""
    shown = await events.rig.get(f"/v1/subscriptions/{subscription['id']}/deliveries/{tx}/attempts")
    return [(one["status"], one["problem"]) for one in shown.json()["items"]][::-1]


async def test_what_is_published_is_verified_at_the_other_end(events: Events, receiver: Scripted) -> None:
    subscription = await events.subscribe(url=f"{receiver.url}/hook")
    at = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
    publication = await publish(events, id="e-1", time=at, subject="H41-1", partition_key="H41")
    tx = await ended(events, subscription, publication)
    (asked,) = receiver.asked
    assert asked.target == "/hook"
    assert webhooks.verify(subscription["secret"], asked.headers, asked.body) == webhooks.Event(
        id="e-1",
        source="/h41/mot-cua",
        type=CHANGED,
        subject="H41-1",
        time=at,
        data=DATA,
        partition_key="H41",
        extensions={},
        transaction=tx,
        message_id=publication,
    )
    with pytest.raises(errors.SignatureMismatch):
        webhooks.verify(subscription["secret"], asked.headers, asked.body + b" ")
    assert (await events.rig.kinds(tx))[-1] == "succeeded"
    assert await attempts(events, subscription, tx) == [(204, None)]


async def test_a_receiver_gets_no_more_than_is_granted(events: Events, receiver: Scripted) -> None:
    subscription = await events.subscribe(url=receiver.url, service="H41/cut/v1")
    await ended(events, subscription, await publish(events, "H41/cut/v1"))
    (asked,) = receiver.asked
    assert webhooks.verify(subscription["secret"], asked.headers, asked.body).data == {"dossier": "H41-1"}


async def test_a_receiver_that_stumbles_gets_the_same_message_again(events: Events, receiver: Scripted) -> None:
    receiver.answer = in_turn(
        raw("500 Broken"), raw("302 Found", Location="/login"), b"220 mail.example\r\n\r\n", raw("200 OK")
    )
    subscription = await events.subscribe(url=receiver.url)
    publication = await publish(events)
    tx = await ended(events, subscription, publication)
    found = [webhooks.verify(subscription["secret"], asked.headers, asked.body) for asked in receiver.asked]
    assert [one.message_id for one in found] == [publication] * len(found)
    assert len({one.id for one in found}) == 1
    told = await attempts(events, subscription, tx)
    assert told == [(500, "status"), (302, "redirect"), (None, "not-http"), (200, None)]
    assert (await events.rig.kinds(tx))[-1] == "succeeded"


async def test_a_secret_is_replaced_without_a_gap(events: Events, receiver: Scripted) -> None:
    subscription = await events.subscribe(url=receiver.url)
    old, path = subscription["secret"], f"/v1/subscriptions/{subscription['id']}/secret"
    await ended(events, subscription, await publish(events))
    new = (await events.rig.post(path, by="caller", json={"overlap_s": 600})).json()["secret"]

    def signatures() -> int:
        return len(receiver.asked[-1].headers["webhook-signature"].split())

    async def both_sign() -> bool:
        await ended(events, subscription, await publish(events))
        return signatures() == 2

    await until(both_sign, "the gateway to know the new secret")
    asked = receiver.asked[-1]
    for secret in (old, new, [old, new]):
        assert webhooks.verify(secret, asked.headers, asked.body).source == "/h41/mot-cua"
    with pytest.raises(errors.SignatureMismatch):
        webhooks.verify(new, receiver.asked[0].headers, receiver.asked[0].body)


async def test_a_receiver_that_is_gone_is_sent_no_more(events: Events, receiver: Scripted) -> None:
    receiver.answer = always(raw("410 Gone"))
    subscription = await events.subscribe(url=receiver.url)
    tx = await ended(events, subscription, await publish(events))
    assert await attempts(events, subscription, tx) == [(410, "status")]
    shown = (await events.rig.get(f"/v1/subscriptions/{subscription['id']}")).json()
    assert (shown["state"], shown["reason"]) == ("stopped", "gone")


async def test_a_name_that_leads_elsewhere_inside_is_never_asked(
    events: Events, receiver: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry cannot know; the moment of connecting does."""
    ask = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *given, **options: ask("127.0.0.2" if host == "h41.example" else host, *given, **options),
    )
    async with scripted() as inside:
        subscription = await events.subscribe(url=f"https://h41.example:{inside.port}/")
        tx = await events.delivery(subscription["id"], await publish(events))

        async def refused() -> bool:
            return (None, "refused-address") in await attempts(events, subscription, tx)

        await until(refused, "the attempt to be refused")
        assert inside.connections == 0
