"""From a publication to a subscriber's own service: each delivery a transaction, in order, none lost, none twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ngsp.adapter import Refused, Request, Unavailable
from ngsp.events import keeping
from ngsp.local.postgres import LocalPostgres
from tests.support.events import (
    CHANGES,
    CLOSED,
    NAME,
    Events,
    Subscriber,
    blocking,
    changes,
    event,
    received,
    take_all,
)
from tests.support.gateway import further_gateway, running_gateway
from tests.support.waiting import until

WINDOW = 4
QUICK: dict[str, Any] = {
    "retry_min_s": 0.02,
    "retry_max_s": 0.1,
    "relay_poll_s": 0.02,
    "lease_s": 0.9,
    "event_window": WINDOW,
}


@pytest.fixture(scope="module")
async def module_events(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Events]:
    cut = {"fields": ["/dossier", "/state"]}
    subscriber = Subscriber(
        services=[changes(), changes("cut"), changes("short", deadline_s=1.5), changes("few")],
        terms={
            "changes": {"fields": [""]},
            "cut": cut,
            "short": cut,
            "few": cut | {"quota_per_minute": 3},
        },
        receivers=[received(), received("picky")],
    )
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), subscriber, **QUICK) as rig:
        yield Events(rig, subscriber)


@pytest.fixture
async def events(module_events: Events) -> AsyncIterator[Events]:
    """Each test has the subscriptions it makes, and no others are active."""
    subscriber = module_events.subscriber
    subscriber.taken.clear()
    subscriber.requests.clear()
    yield module_events
    subscriber.take = take_all
    for item in (await module_events.rig.get("/v1/subscriptions?limit=500")).json()["items"]:
        if item["active"]:
            await module_events.subscribe(item["id"], service=item["service"], receiver=item["receiver"], active=False)


def states(taken: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(one["data"]["dossier"], one["data"]["state"]) for one in taken]


async def test_a_delivery_is_a_transaction_between_the_two_members(events: Events) -> None:
    subscription = await events.subscribe()
    sent = event()
    (publication,) = await events.published(sent)
    assert await events.taken(1) == [sent]
    tx = await events.delivery(subscription["id"], publication)
    assert await events.rig.outcome(tx) == ["accepted", "delivered", "succeeded"]
    accepted, *_, ended = await events.rig.entries(tx)
    grant = accepted["grant"]
    assert (grant["mode"], grant["consumer"], grant["provider"], grant["service"]) == (
        "delivery", "G22", "H41", "changes",
    )  # fmt: skip
    assert (grant["agreement"], grant["purpose"], grant["legal_basis"]) == (
        await events.rig.agreement("changes"), "testing", "Nghị định 194/2025/NĐ-CP",
    )  # fmt: skip
    assert accepted["call"] == {
        "client": "caller", "event": publication, "member": "G22", "subscription": subscription["id"],
    }  # fmt: skip
    assert ended["outcome"]["adapter"] == "g22-tests"
    for client, status in (("caller", 200), ("provider", 200), ("operator", 200), ("stranger", 404)):
        assert (await events.rig.get(f"/v1/transactions/{tx}", by=client)).status_code == status, client
    (request,) = events.subscriber.requests
    assert (request.id, request.purpose, request.envelope.consumer) == (tx, "testing", "H41")


async def test_data_are_cut_to_the_granted_fields_and_the_rest_is_nowhere(events: Events) -> None:
    await events.subscribe(service="H41/cut/v1")
    sent = event()
    await events.published(sent, path="H41/cut/v1")
    assert await events.taken(1) == [sent | {"data": {"dossier": "H41-1", "state": 2}}]
    assert NAME not in str(events.subscriber.requests[0].body, "utf-8")


async def test_only_the_wanted_types_are_sent(events: Events) -> None:
    await events.subscribe(types=[CLOSED])
    await events.published(event({"state": 1}), event({"state": 2}, type=CLOSED), event({"state": 3}))
    await events.published(event({"state": 4}, type=CLOSED))
    assert states(await events.taken(2)) == [("H41-1", 2), ("H41-1", 4)]


async def test_each_of_several_subscriptions_gets_each_event(events: Events) -> None:
    for _ in range(3):
        await events.subscribe()
    (publication,) = await events.published(event())
    await events.taken(3)
    assert len({request.id for request in events.subscriber.requests}) == 3
    assert len({one["id"] for one in events.subscriber.taken}) == 1
    assert publication


async def test_what_was_published_before_comes_where_it_is_asked_for(events: Events) -> None:
    mark = f"H41-{datetime.now(UTC).timestamp()}"
    before = datetime.now(UTC)
    await events.published(*(event({"dossier": mark, "state": number}) for number in (1, 2, 3)))
    await events.subscribe()
    await events.published(event({"dossier": mark, "state": 4}))
    assert states(await events.taken(1)) == [(mark, 4)]
    await events.subscribe(**{"from": before.isoformat()})
    assert sorted(states(await events.taken(5))[1:]) == [(mark, number) for number in (1, 2, 3, 4)]


async def test_events_of_one_key_come_in_their_order_and_others_pass(events: Events) -> None:
    may_go = asyncio.Event()
    events.subscriber.take = blocking(may_go, lambda request: request.payload["data"] == {"dossier": "A", "state": 1})
    await events.subscribe(service="H41/cut/v1")
    keyed = [event({"dossier": "A", "state": number}, subject="A") for number in (1, 2, 3)]
    by_partition = [event({"dossier": "B", "state": number}, subject="A", partitionkey="B") for number in (1, 2)]
    await events.published(*keyed, *by_partition[:1], path="H41/cut/v1")
    assert states(await events.taken(1)) == [("B", 1)]
    await events.published(*by_partition[1:], path="H41/cut/v1")
    may_go.set()
    found = states(await events.taken(5))
    assert [one for one in found if one[0] == "A"] == [("A", 1), ("A", 2), ("A", 3)]
    assert [one for one in found if one[0] == "B"] == [("B", 1), ("B", 2)]


async def test_a_subscriber_that_is_away_costs_a_window_and_loses_nothing(events: Events) -> None:
    """What it has not taken waits in the log of events; of its deliveries no more than a window is open."""
    away = True

    async def take(request: Request) -> object:
        if away:
            raise Unavailable("AWAY")
        return {"done": True}

    events.subscriber.take = take
    subscription = await events.subscribe()
    sent = [event({"dossier": "A", "state": 1 + number % 10}) for number in range(5 * WINDOW)]
    for start in range(0, len(sent), 5):
        await events.published(*sent[start : start + 5])

    async def retried() -> bool:
        attempts = await events.rig.rows.fetchval(
            "SELECT max(attempts) FROM outbox WHERE subscription = $1", subscription["id"]
        )
        return bool(attempts and attempts > 3)

    await until(retried, "deliveries to be tried again")
    open_rows = "SELECT count(*) FROM outbox WHERE subscription = $1 AND state <> 'closed'"
    assert await events.rig.rows.fetchval(open_rows, subscription["id"]) == WINDOW
    assert len(await events.deliveries(subscription["id"])) == WINDOW
    shown = (await events.rig.get(f"/v1/subscriptions/{subscription['id']}")).json()
    assert shown["open"] == WINDOW
    away = False
    await events.taken(len(sent))
    assert sorted(one["id"] for one in events.subscriber.taken) == sorted(one["id"] for one in sent)
    for tx in await events.deliveries(subscription["id"]):
        assert (await events.rig.outcome(tx))[-1] == "succeeded"


async def test_no_answer_of_the_receiver_ends_badly_in_silence(events: Events) -> None:
    async def take(request: Request) -> object:
        if request.payload["data"]["state"] == 1:
            raise Refused("NOT-WANTED")
        return {"unlike": "the schema"}

    events.subscriber.take = take
    subscription = await events.subscribe()
    first, second = await events.published(event({"state": 1}), event({"state": 2}))
    refused, bad = [await events.delivery(subscription["id"], one) for one in (first, second)]
    assert (await events.rig.outcome(refused))[-1] == "refused"
    assert (await events.rig.outcome(bad))[-1] == "failed"
    held = (await events.rig.get("/v1/quarantine", by="operator")).json()["items"]
    assert [item["what"] for item in held if item["transaction"] == bad] == ["reply"]


async def test_a_delivery_that_is_never_taken_expires_with_its_entry(events: Events) -> None:
    async def take(_: Request) -> object:
        raise Unavailable("AWAY")

    events.subscriber.take = take
    subscription = await events.subscribe(service="H41/short/v1")
    (publication,) = await events.published(event(), path="H41/short/v1")
    tx = await events.delivery(subscription["id"], publication)
    assert (await events.rig.outcome(tx))[-1] == "expired"


async def test_the_quota_of_the_agreement_holds_back_and_loses_nothing(events: Events) -> None:
    subscription = await events.subscribe(service="H41/few/v1")
    publications = await events.published(*(event({"state": number}) for number in range(1, 8)), path="H41/few/v1")
    await events.taken(3)
    rig = events.rig
    place = await rig.rows.fetchrow(
        "SELECT xid::text AS xid, seq FROM subscription_progress WHERE subscription = $1", subscription["id"]
    )
    made = len(await events.deliveries(subscription["id"]))
    assert 3 <= made <= 6  # a minute may have turned
    last = await rig.rows.fetchrow("SELECT xid::text AS xid, seq FROM events WHERE tx = $1", publications[made - 1])
    assert (place["xid"], place["seq"]) == (last["xid"], last["seq"])


async def test_a_suspended_agreement_holds_back_and_a_revoked_one_ends(events: Events) -> None:
    rig = events.rig
    document = {
        "consumer": "G22",
        "service": CHANGES,
        "reference": "suspended-one",
        "purposes": ["watching"],
        "legal_basis": "Nghị định 194/2025/NĐ-CP",
        "fields": ["/dossier", "/state"],
    }
    id = (await rig.post("/v1/agreements", by="caller", json=document)).json()["id"]
    assert (await rig.post(f"/v1/agreements/{id}/accept", by="provider")).status_code == 200
    subscription = await events.subscribe(agreement=id, purpose="watching")
    reason = {"reason": "Rà soát", "legal_basis": "Nghị định 194/2025/NĐ-CP"}
    assert (await rig.post(f"/v1/agreements/{id}/suspend", by="provider", json=reason)).status_code == 200
    await events.published(event({"state": 5}))
    shown = (await rig.get(f"/v1/subscriptions/{subscription['id']}")).json()
    assert (shown["state"], shown["open"]) == ("waiting", 0)
    assert (await rig.post(f"/v1/agreements/{id}/resume", by="provider", json=reason)).status_code == 200
    assert states(await events.taken(1)) == [("H41-1", 5)]

    may_go = asyncio.Event()
    events.subscriber.take = blocking(may_go, lambda _: True)
    (first, second) = await events.published(event({"state": 6}, subject="A"), event({"state": 7}, subject="A"))
    waiting = await events.delivery(subscription["id"], second)
    assert (await rig.post(f"/v1/agreements/{id}/revoke", by="provider", json=reason)).status_code == 200
    may_go.set()
    assert (await rig.outcome(await events.delivery(subscription["id"], first)))[-1] == "succeeded"
    assert (await rig.outcome(waiting))[-1] == "refused"
    await events.published(event({"state": 8}))
    assert states(events.subscriber.taken) == [("H41-1", 5), ("H41-1", 6)]
    assert (await rig.get(f"/v1/subscriptions/{subscription['id']}")).json()["state"] == "waiting"


async def test_what_is_granted_no_more_is_sent_no_more(events: Events) -> None:
    """Deliveries made under a wider version of the agreement end; those after it hold less."""
    rig = events.rig
    terms = {"purposes": ["narrow"], "legal_basis": "Nghị định 194/2025/NĐ-CP"}
    document = {"consumer": "G22", "service": CHANGES, "reference": "narrowed-one", "fields": [""]} | terms
    id = (await rig.post("/v1/agreements", by="caller", json=document)).json()["id"]
    assert (await rig.post(f"/v1/agreements/{id}/accept", by="provider")).status_code == 200
    subscription = await events.subscribe(agreement=id, purpose="narrow")
    may_go = asyncio.Event()
    events.subscriber.take = blocking(may_go, lambda _: True)
    first, second = await events.published(event({"state": 1}, subject="A"), event({"state": 2}, subject="A"))
    waiting = await events.delivery(subscription["id"], second)
    narrower = terms | {"fields": ["/state"]}
    assert (await rig.post(f"/v1/agreements/{id}/versions", by="caller", json=narrower)).status_code in (200, 201)
    assert (await rig.post(f"/v1/agreements/{id}/accept", by="provider")).status_code == 200
    may_go.set()
    assert (await rig.outcome(await events.delivery(subscription["id"], first)))[-1] == "succeeded"
    assert (await rig.outcome(waiting))[-1] == "refused"
    await events.published(event({"state": 3}, subject="A"))
    taken = await events.taken(2)
    assert taken[0]["data"]["name"] == NAME
    assert taken[1]["data"] == {"state": 3}


async def test_a_replay_delivers_again_as_transactions_of_their_own(events: Events) -> None:
    rig = events.rig
    subscription = await events.subscribe()
    first, second = await events.published(event({"state": 1}), event({"state": 2}))
    await events.taken(2)
    made = await events.deliveries(subscription["id"])
    place = await rig.rows.fetchrow("SELECT xid::text AS xid, seq FROM events WHERE tx = $1", first)
    answer = await rig.post(
        f"/v1/subscriptions/{subscription['id']}/replay", by="caller", json={"from": f"{place['xid']}-{place['seq']}"}
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["run"] == 2
    assert states(await events.taken(3)) == [("H41-1", 1), ("H41-1", 2), ("H41-1", 2)]
    again = [tx for tx in await events.deliveries(subscription["id"]) if tx not in made]
    assert len(again) == 1
    assert await rig.outcome(again[0]) == ["accepted", "delivered", "succeeded"]
    assert (await rig.entries(again[0]))[0]["call"]["event"] == second


async def test_two_dispatchers_at_once_make_each_delivery_once(events: Events, tmp_path: Path) -> None:
    """A lease that has ended is noticed late: for a moment two gateways read on from the same cursor."""
    subscription = await events.subscribe()
    async with further_gateway(events.rig, tmp_path) as other:
        await events.published(*(event({"dossier": "A", "state": 1 + number}) for number in range(8)))
        dispatchers = [rig.parts.dispatcher for rig in (events.rig, other)]

        async def all_made() -> bool:
            await asyncio.gather(*(dispatcher.step() for dispatcher in dispatchers))
            return len(await events.deliveries(subscription["id"])) == 8

        await until(all_made, "eight deliveries")
        await asyncio.gather(*(dispatcher.step() for dispatcher in dispatchers))
    await events.taken(8)
    publications = await events.rig.rows.fetch(
        "SELECT publication, count(*) AS n FROM deliveries WHERE subscription = $1 GROUP BY 1", subscription["id"]
    )
    assert [row["n"] for row in publications] == [1] * 8
    accepted = await events.rig.rows.fetchval(
        """SELECT count(*) FROM entries WHERE kind = 1
        AND convert_from(body, 'UTF8')::jsonb #>> '{call,subscription}' = $1""",
        subscription["id"],
    )
    assert accepted == 8


async def test_an_event_that_does_not_open_is_put_aside_and_others_pass(events: Events) -> None:
    subscription = await events.subscribe(active=False)
    broken, _ = await events.published(event({"state": 1}), event({"state": 2}))
    await events.rig.rows.execute("UPDATE events SET body = '\\x01' WHERE tx = $1", broken)
    await events.subscribe(subscription["id"], active=True)
    assert states(await events.taken(1)) == [("H41-1", 2)]
    again = {"from": subscription["cursor"]}
    answer = await events.rig.post(f"/v1/subscriptions/{subscription['id']}/replay", by="caller", json=again)
    assert answer.status_code == 200, answer.text
    assert states(await events.taken(2)) == [("H41-1", 2)] * 2
    held = (await events.rig.get("/v1/quarantine", by="operator")).json()["items"]
    assert [item["what"] for item in held if item["transaction"] == broken] == ["event"]


async def test_whoever_falls_behind_what_is_kept_is_stopped_and_shown(events: Events) -> None:
    rig = events.rig
    subscription = await events.subscribe(active=False)
    (old,) = await events.published(event({"state": 1}))
    await events.subscribe(subscription["id"], active=True)
    await events.taken(1)
    behind = await events.subscribe(**{"from": "earliest"}, active=False)
    gone = await events.subscribe(**{"from": "earliest"}, active=False)
    await rig.rows.execute("UPDATE subscription_progress SET stopped = 'gone' WHERE subscription = $1", gone["id"])
    assert await keeping.retire(rig.rows, datetime.now(UTC) + timedelta(days=31), 30) > 0
    assert await rig.rows.fetchval("SELECT count(*) FROM events WHERE tx = $1", old) == 0
    stopped = "SELECT stopped FROM subscription_progress WHERE subscription = $1"
    for id in (behind["id"], gone["id"]):
        assert await rig.rows.fetchval(stopped, id) == "gap"
        assert (await events.subscribe(id, active=True))["state"] == "gap"
    assert await rig.rows.fetchval(stopped, subscription["id"]) == ""
    await events.published(event({"state": 2}))
    assert states(await events.taken(2)) == [("H41-1", 1), ("H41-1", 2)]
    assert (await events.rig.post(f"/v1/subscriptions/{behind['id']}/resume", by="caller")).status_code == 200


async def test_a_service_of_events_is_not_called(events: Events) -> None:
    answer = await events.rig.call("changes", {"do": "it"})
    assert (answer.status_code, answer.json()["code"]) == (403, "access-denied")
