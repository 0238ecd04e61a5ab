"""The client's way of publishing against a real gateway: each event once, whatever happens to answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import pytest

from ngsp.client import NewEvent, Published, errors
from ngsp.local.postgres import LocalPostgres
from tests.client.between import Between, between
from tests.client.hands import KIND, Noted, hands
from tests.support.events import CHANGED, CHANGES, CLOSED, NAME, Subscriber
from tests.support.gateway import Rig, running_gateway

DATA: dict[str, Any] = {"dossier": "H41-1", "state": 2, "person": "900123456789", "name": NAME}


@pytest.fixture(scope="module")
async def rig(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), Subscriber()) as found:
        yield found


@pytest.fixture
async def proxy(rig: Rig) -> AsyncIterator[Between]:
    async with between(rig.base_url) as found:
        found.only = b"POST /v1/events/"
        yield found


@pytest.fixture(params=["blocking", "asyncio"])
async def bus(rig: Rig, proxy: Between, request: pytest.FixtureRequest) -> AsyncIterator[Noted]:
    async with hands(cast("KIND", request.param), rig, proxy.url, by="provider") as found:
        yield found


def new(**others: Any) -> NewEvent:
    return NewEvent("/h41/mot-cua", CHANGED, DATA, **others)


async def publish(bus: Noted, *events: NewEvent) -> list[Published]:
    return cast("list[Published]", await bus.do("publish", CHANGES, events[0] if len(events) == 1 else events))


async def stored(rig: Rig, *published: Published) -> list[str]:
    rows = await rig.rows.fetch(
        "SELECT tx::text AS tx FROM events WHERE tx = ANY($1::uuid[])", [one.transaction for one in published]
    )
    return [row["tx"] for row in rows]


async def test_one_and_several(rig: Rig, bus: Noted) -> None:
    event = new(subject="H41-1", partition_key="H41")
    (first,) = await publish(bus, event)
    assert (first.id, first.repeated) == (event.id, False)
    assert await rig.kinds(first.transaction) == ["accepted", "succeeded"]
    others = [event, new(), replace(new(), type=CLOSED)]
    found = await publish(bus, *others)
    assert [one.id for one in found] == [one.id for one in others]
    assert [one.repeated for one in found] == [True, False, False]
    assert found[0].transaction == first.transaction
    assert sorted(await stored(rig, *found)) == sorted(one.transaction for one in found)


@pytest.mark.parametrize("number", [1, 3])
async def test_a_lost_answer_makes_no_second_event(rig: Rig, bus: Noted, proxy: Between, number: int) -> None:
    """It was taken, the answer never came; the same is sent again, and found."""
    proxy.lose = 2
    found = await publish(bus, *(new() for _ in range(number)))
    assert (proxy.lost, bus.requests.count("/v1/events/")) == (2, 3)
    assert [one.repeated for one in found] == [True] * number
    assert len(await stored(rig, *found)) == number


async def test_an_event_of_an_earlier_run_is_found_again(bus: Noted) -> None:
    event = new()
    (first,) = await publish(bus, event)
    kept = NewEvent(event.source, event.type, event.data, id=event.id, time=event.time)
    assert await publish(bus, kept) == [replace(first, repeated=True)]
    with pytest.raises(errors.IdempotencyMismatch):
        await publish(bus, replace(kept, data=DATA | {"state": 3}))


async def test_what_is_wrong_is_told(rig: Rig, bus: Noted) -> None:
    with pytest.raises(errors.SchemaMismatch) as told:
        await publish(bus, new(), replace(new(), data={"dossier": 7}))
    assert {fault.pointer for fault in told.value.faults} >= {"/1/data/dossier"}
    assert await rig.kinds(told.value.transaction) == ["refused"]
    with pytest.raises(errors.CallerError):
        await publish(bus, replace(new(), type="vn.h41.of-no-service"))


async def test_only_the_provider_may(rig: Rig) -> None:
    for by in ("caller", "stranger"):
        async with hands("asyncio", rig, by=by) as other:
            with pytest.raises(errors.Forbidden):
                await publish(other, new())
