"""The log as it grows, and waiting for what comes: in order, once, and nothing lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from ngsp.database import connect
from ngsp.errors import MalformedHeader
from ngsp.messages import uuid7
from ngsp.transactions import entry
from ngsp.transactions.filters import Filters
from ngsp.transactions.find import Finder, earliest_of
from ngsp.transactions.follow import Position
from ngsp.transactions.projection import Projector
from tests.transactions.logs import Writing, copy_rows, grant_of

if TYPE_CHECKING:
    from ngsp.transactions.follow import Event, Follower


async def project(pool: asyncpg.Pool) -> None:
    projector = Projector(pool)
    while await projector.run_once():
        continue


async def everything(follower: Follower) -> list[Event]:
    found: list[Event] = []
    while True:
        events, more = await follower.read()
        found += events
        if not more:
            return found


async def test_the_news_come_in_order_once_and_from_where_one_left(
    rows: asyncpg.Pool, finder: Finder, gateway: Writing
) -> None:
    follower = finder.follow(Filters(), None)
    assert await everything(follower) == []
    transactions = [uuid7() for _ in range(30)]
    for tx in transactions:
        await gateway.rows(gateway.accepted(tx), gateway.ended(tx, entry.SUCCEEDED))
    assert await everything(follower) == []  # not projected yet
    await project(rows)
    events = await everything(follower)
    assert [event.row.tx for event in events] == [tx for tx in transactions for _ in range(2)]
    assert [event.kind for event in events] == ["accepted", "succeeded"] * 30
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert await everything(follower) == []
    for at in (0, 17, 59):
        resumed = await everything(finder.follow(Filters(), Position.parse(str(positions[at]))))
        assert resumed == events[at + 1 :]


async def test_the_news_are_filtered_and_pass_quickly_over_the_rest(
    rows: asyncpg.Pool, finder: Finder, gateway: Writing
) -> None:
    start = finder.follow(Filters(), None)
    await start.read()
    wanted = {uuid7() for _ in range(3)}
    for tx in [*wanted, *(uuid7() for _ in range(40))]:
        consumer = "H14" if tx in wanted else "H41"
        await gateway.rows(gateway.accepted(tx, grant_of(consumer)), gateway.ended(tx, entry.FAILED))
    refused = uuid7()
    asked = {"service": "G01.01/population-lookup/v1"}
    await gateway.rows(
        gateway.scribe.refused_call(refused, entry.now(), {"client": "c", "member": "H14"}, asked, "x", 403, "y")
    )
    await project(rows)
    own = await everything(finder.follow(Filters(member="H14"), start.position))
    assert {event.row.tx for event in own} == {*wanted, refused} and len(own) == 7
    provider = await everything(finder.follow(Filters(member="G01.01", state="failed"), start.position))
    assert len(provider) == 86
    assert refused not in {
        event.row.tx for event in await everything(finder.follow(Filters(member="G01.01"), start.position))
    }
    nobody = finder.follow(Filters(member="H99"), start.position)
    assert await everything(nobody) == []
    reached = await rows.fetchrow("SELECT xid, seq FROM projection")
    assert nobody.position == Position(*reached)


async def test_the_news_lose_nothing_that_commits_late(
    rows: asyncpg.Pool, finder: Finder, gateway: Writing, log_url: str
) -> None:
    follower = finder.follow(Filters(), None)
    await follower.read()
    slow, late, soon = await connect(log_url), uuid7(), uuid7()
    opened = slow.transaction()
    await opened.start()
    await copy_rows(slow, gateway, [gateway.accepted(late)])
    await gateway.rows(gateway.accepted(soon))
    await project(rows)
    assert await everything(follower) == []
    await opened.commit()
    await slow.close()
    await project(rows)
    assert [event.row.tx for event in await everything(follower)] == [late, soon]


@pytest.mark.parametrize(
    "text", ["", "1", "1-", "-1", "1-2-3", "a-b", "1_0-2", "9" * 25 + "-1", "1-99999999999", "١-٢"]
)
def test_positions_of_nobody_are_refused(text: str) -> None:
    with pytest.raises(MalformedHeader):
        Position.parse(text)


async def test_waiting_ends_with_the_outcome(finder: Finder, gateway: Writing) -> None:
    transactions = [await gateway.submit(f"key-{number}") for number in range(5)]
    waits = []
    for transaction in transactions:
        earliest = earliest_of(transaction.id)
        assert earliest is not None
        waits += [asyncio.create_task(finder.waiting.ended(transaction.id, earliest)) for _ in range(3)]
    await gateway.conclude(transactions[1])
    await asyncio.wait_for(asyncio.gather(*waits[3:6]), 10)
    assert not any(wait.done() for wait in (*waits[:3], *waits[6:]))
    waits[0].cancel()
    await asyncio.gather(*(gateway.conclude(transactions[number]) for number in (0, 2, 3, 4)))
    done = await asyncio.wait_for(asyncio.gather(*waits, return_exceptions=True), 10)
    assert [isinstance(each, asyncio.CancelledError) for each in done] == [True, *[False] * 14]
    assert not finder.waiting.full
