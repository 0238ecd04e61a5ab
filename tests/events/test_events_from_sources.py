"""Sources of adapters against a real gateway: inside of it, and through the client as an adapter's process has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ngsp.adapter import Adapter, Event, Found
from ngsp.adapter.cursors import Cursors
from ngsp.adapter.publishing import through
from ngsp.adapter.registering import connected
from ngsp.adapter.sources import FAILING, REFUSED, EventRefused, Feed, NotPublished, Publish
from ngsp.client.publishing import NewEvent
from ngsp.local.postgres import LocalPostgres
from tests.support.events import CHANGED, CHANGES, NAME, Subscriber
from tests.support.gateway import Rig, running_gateway
from tests.support.waiting import until

SOURCE = "/H41/h41-tests"


def event(so: int, **data: Any) -> Event:
    return Event(CHANGED, {"dossier": f"H41-{so}", "state": 2, "name": NAME} | data, str(so), f"H41-{so}")


@dataclass
class Publishing(Subscriber):
    """The provider's adapter has a source, whose events are those of `journal` after the cursor."""

    journal: list[Event] = field(default_factory=list)

    def adapter(self) -> Adapter:
        adapter = super().adapter()
        adapter.source("changes", "v1", every_s=0.05)(self.changes)
        return adapter

    async def changes(self, cursor: str | None) -> Found:
        return Found(self.journal[int(cursor or 0) :], str(len(self.journal)))


@pytest.fixture
async def rig(postgres: LocalPostgres, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running_gateway(postgres, tmp_path, Publishing()) as found:
        yield found


def journal(rig: Rig) -> list[Event]:
    assert isinstance(rig.provider, Publishing)
    return rig.provider.journal


async def published(rig: Rig) -> list[str]:
    """The publications, in order."""
    rows = await rig.rows.fetch("SELECT tx::text AS tx FROM events WHERE service = $1 ORDER BY xid, seq", CHANGES)
    return [row["tx"] for row in rows]


async def all_published(rig: Rig, number: int) -> list[str]:
    async def enough() -> bool:
        return len(await published(rig)) == number

    await until(enough, f"{number} events")
    return await published(rig)


async def troubles(rig: Rig) -> list[Any]:
    found: list[Any] = (await rig.get("/v1/adapters/h41-tests", by="provider")).json()["degraded"]
    return [complaint["name"] for complaint in found]


async def test_a_source_inside_a_gateway(rig: Rig) -> None:
    """By the gateway's name, for the provider; what is refused is told with the adapter, and goes on once mended."""
    journal(rig).extend([event(1), event(2)])
    for tx in await all_published(rig, 2):
        accepted, succeeded = await rig.entries(tx)
        assert (accepted["kind"], succeeded["kind"]) == ("accepted", "succeeded")
        assert accepted["call"] == {"client": rig.settings.instance, "member": "H41"}
        assert (accepted["grant"]["mode"], accepted["grant"]["agreement"]) == ("publication", "own")
    journal(rig).extend([event(3), event(4, state="closed"), event(5)])
    await all_published(rig, 3)

    async def told() -> bool:
        return await troubles(rig) == [REFUSED]

    await until(told, "the trouble")
    journal(rig)[3] = event(4)
    await all_published(rig, 5)


# Through the client


@pytest.fixture
async def publish(rig: Rig) -> AsyncIterator[Publish]:
    async with connected(rig.base_url, "provider", rig.secrets["provider"]) as gateway:
        yield through(gateway)


def new(*events: Event) -> list[NewEvent]:
    return [one.to_publish(SOURCE) for one in events]


async def test_through_the_client_a_refusal_says_where(publish: Publish) -> None:
    for events, pointer in (
        ([event(1, state="x")], "/0/data/state"),
        ([event(1), event(2, state="x")], "/1/data/state"),
    ):
        with pytest.raises(EventRefused) as told:
            await publish(CHANGES, new(*events))
        assert pointer in told.value.pointers
        assert (told.value.code, told.value.first) == ("schema-mismatch", int(pointer[1]))
    for service in ("G22/changes-received/v1", "H41/none/v1"):
        with pytest.raises(EventRefused, match="access-denied"):
            await publish(service, new(event(1)))


async def test_through_the_client_a_gateway_that_is_away_is_no_refusal(rig: Rig) -> None:
    async with connected("http://127.0.0.1:1", "provider", "none") as gateway:
        with pytest.raises(NotPublished, match="Unreachable"):
            await through(gateway)(CHANGES, new(event(1)))
    async with connected(rig.base_url, "provider", "wrong") as gateway:
        with pytest.raises(NotPublished, match="TokenRefused"):
            await through(gateway)(CHANGES, new(event(1)))


class Dying(Cursors):
    """The process ends between the publication and its cursor."""

    async def keep(self, service: str, holder: str, cursor: str | None, for_s: float) -> None:
        raise OSError("no disk")


async def test_what_is_published_again_after_a_crash_is_there_once(rig: Rig, publish: Publish, tmp_path: Path) -> None:
    """Also where so much time has passed that no more is kept of the first publication than that it was."""
    answered: list[bool] = []

    async def noting(service: str, events: Sequence[NewEvent]) -> object:
        done: Any = await publish(service, events)
        answered.extend(one.repeated for one in done)
        return done

    async def changes(cursor: str | None) -> Found:
        return Found([event(11), event(12)], "12")

    adapter = Publishing().adapter()
    for kind, trouble in ((Dying, FAILING), (Cursors, "")):
        cursors = kind.beside(tmp_path / "other.sqlite3")
        await cursors.prepare()
        feed = Feed(adapter.sources[CHANGES], changes, SOURCE, cursors, noting)
        await feed.step()
        assert feed.trouble == trouble
        await cursors.close()
    assert answered == [False, False, True, True]
    await rig.rows.execute("UPDATE idempotency_keys SET expires_at = now() - interval '1 day'")
    first, second = await published(rig)
    done: Any = await publish(CHANGES, new(event(11), event(12), event(13)))
    assert [(one.transaction, one.repeated) for one in done[:2]] == [(first, True), (second, True)]
    assert not done[2].repeated
