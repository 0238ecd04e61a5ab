"""The dispatcher at its limits: many events that nobody wants, large ones, and how long they can be read at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from pydantic import ValidationError

from ngsp.config import Settings
from ngsp.delivering import DISPATCH_EVERY_S
from ngsp.events import dispatch
from ngsp.local.postgres import LocalPostgres
from tests.support.events import CLOSED, Events, Subscriber, event
from tests.support.gateway import running_gateway


@pytest.fixture(scope="module")
async def module_events(postgres: LocalPostgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Events]:
    subscriber = Subscriber()
    async with running_gateway(postgres, tmp_path_factory.mktemp("gateway"), subscriber) as rig:
        yield Events(rig, subscriber)


@pytest.fixture
async def events(module_events: Events) -> AsyncIterator[Events]:
    module_events.subscriber.taken.clear()
    yield module_events
    await module_events.rig.rows.execute("UPDATE subscription_progress SET stopped = 'test over'")


def states(taken: list[dict[str, Any]]) -> list[int]:
    return sorted(one["data"]["state"] for one in taken)


async def test_many_that_are_not_wanted_are_passed_without_a_pause(
    events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = await events.subscribe(active=False, types=[CLOSED])
    await events.published(*(event() for _ in range(99)), event({"state": 10}, type=CLOSED))
    monkeypatch.setattr(dispatch, "MOST_AT_ONCE", 1)
    await events.subscribe(subscription["id"], active=True, types=[CLOSED])
    assert states(await events.taken(1, timeout_s=100 * DISPATCH_EVERY_S / 2)) == [10]


async def test_large_events_are_read_a_few_at_a_time(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    subscription = await events.subscribe(active=False)
    await events.published(*(event({"state": 1 + number, "note": "x" * 30_000}) for number in range(8)))
    read: list[int] = []
    fetch = asyncpg.Pool.fetch

    async def noting(pool: asyncpg.Pool, query: str, *values: Any, **others: Any) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await fetch(pool, query, *values, **others)
        if query == dispatch._NEXT and found:
            read.append(len(found))
        return found

    monkeypatch.setattr(asyncpg.Pool, "fetch", noting)
    monkeypatch.setattr(dispatch, "MOST_BYTES_AT_ONCE", 70_000)
    await events.subscribe(subscription["id"], active=True)
    assert states(await events.taken(8)) == list(range(1, 9))
    assert max(read) == 3, "up to the limit, and the one that passes it"


def test_no_event_outlives_its_key_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would open for nobody, and be passed over as one that was erased."""
    monkeypatch.setenv("NGSP_DATABASE_URL", "postgresql://x")
    for months, days, fits in (("2", "56", True), ("2", "57", False), ("1", "30", False)):
        monkeypatch.setenv("NGSP_LOG_RETENTION_MONTHS", months)
        monkeypatch.setenv("NGSP_EVENT_RETENTION_DAYS", days)
        if fits:
            Settings()
        else:
            with pytest.raises(ValidationError, match="event_retention_days"):
                Settings()
