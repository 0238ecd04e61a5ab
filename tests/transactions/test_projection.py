"""The projection: one row for each transaction, whatever the order in which its entries commit."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from ngsp.database import connect
from ngsp.messages import uuid7
from ngsp.transactions import entry
from ngsp.transactions.find import Finder
from ngsp.transactions.projection import Projector
from ngsp.transactions.rows import SELECTED, TransactionRow, row_of
from ngsp.vault import Vault
from tests.support.waiting import until
from tests.transactions.logs import BODY, KEK, Writing, broken, copy_rows, grant_of, writing

if TYPE_CHECKING:
    from ngsp.transactions.entry import Row


async def project(pool: asyncpg.Pool, most_at_once: int = 4_000) -> Projector:
    projector = Projector(pool, most_at_once)
    while await projector.run_once():
        continue
    return projector


async def projected(pool: asyncpg.Pool) -> dict[str, TransactionRow]:
    """Transaction → its row, in the order of their places."""
    found = await pool.fetch(f"SELECT {SELECTED} FROM transactions t ORDER BY place")
    return {str(record["tx"]): row_of(record) for record in found}


async def check_places(pool: asyncpg.Pool) -> None:
    """Places are 1, 2, 3 … in the order in which the transactions' first entries stand in the log."""
    places = [record["place"] for record in await pool.fetch("SELECT place FROM transactions ORDER BY place")]
    assert places == list(range(1, len(places) + 1))
    opened = await pool.fetch("SELECT tx::text AS tx FROM entries WHERE kind = 1 ORDER BY xid, seq")
    assert [record["tx"] for record in opened] == list(await projected(pool))
    assert await pool.fetchval("SELECT place FROM projection") == len(places)


async def test_a_query_is_one_row_with_all_that_filters_need(rows: asyncpg.Pool, gateway: Writing) -> None:
    tx, at = uuid7(), entry.now()
    call = {"officer": "canbo-0017", "dossier": "H41.02-261121-0001", "procedure": "1.004194", "trace": "a" * 32}
    await gateway.rows(
        gateway.accepted(tx, at=at, call=call),
        gateway.ended(tx, entry.SUCCEEDED, at + timedelta(milliseconds=12), 911, adapter="g01-population"),
    )
    await project(rows)
    assert (await projected(rows))[tx] == TransactionRow(
        tx=tx, accepted_at=at, ended_at=at + timedelta(milliseconds=12), state="succeeded", mode="query",
        client="h41-portal", consumer="H41", provider="G01.01", service="population-lookup", version="v1",
        adapter="g01-population", agreement=grant_of().agreement.id, agreement_version=3,
        purpose="birth-registration", officer="canbo-0017", dossier="H41.02-261121-0001", procedure="1.004194",
        trace="a" * 32, gateway="gateway-1", epoch=1, code=None, failure_class=None, provider_code=None, status=200,
        request_bytes=len(BODY), reply_bytes=911, duration_us=12_000, sandbox=False,
    )  # fmt: skip


async def test_later_entries_move_the_state_on_and_never_back(rows: asyncpg.Pool, gateway: Writing) -> None:
    tx = uuid7()
    failed: dict[str, Any] = {"code": "no-answer", "failed": "deadline", "status": 504}

    async def state_after(row: Row) -> TransactionRow:
        await gateway.rows(row)
        await project(rows)
        return (await projected(rows))[tx]

    assert (await state_after(gateway.accepted(tx))).state == "accepted"
    delivered = await state_after(gateway.scribe.delivered(tx, entry.now(), 1))
    assert (delivered.state, delivered.ended_at, delivered.code) == ("delivered", None, None)
    unknown = await state_after(gateway.ended(tx, entry.UNKNOWN, **failed))
    assert (unknown.state, unknown.code, unknown.failure_class, unknown.status) == (
        "unknown", "no-answer", "deadline", 504,
    )  # fmt: skip
    assert await state_after(gateway.scribe.delivered(tx, entry.now(), 2)) == unknown
    assert await state_after(gateway.ended(tx, entry.FAILED, code="provider-failed")) == unknown
    resolved = await state_after(gateway.ended(tx, entry.RESOLVED, reply_bytes=5, state="succeeded"))
    assert (resolved.state, resolved.code, resolved.status, resolved.reply_bytes) == ("resolved", None, 200, 5)
    assert await state_after(gateway.ended(tx, entry.REPEATED, adapter="a", failed="repeated-reply")) == resolved
    assert await state_after(gateway.ended(tx, entry.SUCCEEDED)) == resolved
    await check_places(rows)


async def test_a_call_refused_before_acceptance_is_a_row_too(rows: asyncpg.Pool, gateway: Writing) -> None:
    known, unknown, bare = uuid7(), uuid7(), uuid7()
    asked = {"service": "G01.01/population-lookup/v1", "purpose": "statistics", "agreement": "0192-of-another"}
    scribe, at = gateway.scribe, entry.now()
    denied = ("access-denied", 403, "no agreement")
    await gateway.rows(
        scribe.refused_call(known, at, {"client": "h41-portal", "member": "H41"}, asked, *denied),
        scribe.refused_call(unknown, at, {"client": "h41-portal"}, {"service": "G01.01/../../etc"}, *denied),
        scribe.refused_call(bare, at, {"client": "h41-portal"}, {}, "malformed-json", 400, "not JSON"),
    )
    await project(rows)
    found = await projected(rows)
    row = found[known]
    assert (row.state, row.mode, row.code, row.failure_class, row.status) == (
        "refused", "query", "access-denied", "refused-call", 403,
    )  # fmt: skip
    assert (row.path, row.purpose, row.consumer) == ("G01.01/population-lookup/v1", "statistics", "H41")
    assert (row.agreement, row.agreement_version, row.adapter) == ("0192-of-another", 0, "")
    assert (row.accepted_at, row.ended_at, row.duration_us) == (at, at, 0)
    assert found[unknown].path == "" and found[unknown].provider == "" and found[unknown].consumer == ""
    assert found[bare].code == "malformed-json"
    assert not row.may_be_seen_by("G01.01") and row.may_be_seen_by("H41")


def _histories(gateway: Writing, seed: int) -> list[Row]:
    """Entries of sixty transactions with every kind of course, as they may lie in the log."""
    rng = random.Random(seed)
    courses = [
        [], [entry.DELIVERED], [entry.SUCCEEDED], [entry.REFUSED], [entry.DELIVERED, entry.FAILED], [entry.EXPIRED],
        [entry.UNKNOWN], [entry.UNKNOWN, entry.RESOLVED], [entry.DELIVERED, entry.UNKNOWN, entry.REPEATED],
        [entry.SUCCEEDED, entry.REPEATED],
    ]  # fmt: skip
    waiting: list[list[Row]] = []
    for _ in range(60):
        tx = uuid7()
        later = [gateway.ended(tx, kind, code=entry.KINDS[kind], status=500 + kind) for kind in rng.choice(courses)]
        waiting.append([gateway.accepted(tx), *later])
    waiting += [
        [gateway.scribe.refused_call(uuid7(), entry.now(), {"client": "c"}, {}, "x", 403, "y")] for _ in range(5)
    ]
    found: list[Row] = []
    while waiting:
        course = rng.choice(waiting)
        found.append(course.pop(0))
        waiting = [left for left in waiting if left]
    return found


@pytest.mark.parametrize("most_at_once", [1, 2, 7, 4_000])
async def test_the_sum_does_not_depend_on_batches_and_is_what_the_entries_say(
    rows: asyncpg.Pool, gateway: Writing, most_at_once: int
) -> None:
    entries = _histories(gateway, seed=7)
    for begin in range(0, len(entries), 10):
        await gateway.rows(*entries[begin : begin + 10])
        if begin % 30 == 0:
            await project(rows, most_at_once)
    await project(rows, most_at_once)
    found = await projected(rows)
    assert len(found) == 65
    finder = Finder(rows, Vault(KEK))
    for tx, row in found.items():
        view = await finder.get(tx)
        assert view is not None and view.row == row


async def test_entries_that_commit_late_come_late_without_gap_or_loss(
    rows: asyncpg.Pool, gateway: Writing, log_url: str
) -> None:
    late, soon = [uuid7() for _ in range(3)], [uuid7() for _ in range(3)]
    slow = await connect(log_url)
    async with writing(log_url, "gateway-2") as other:
        opened = slow.transaction()
        await opened.start()
        await copy_rows(slow, gateway, [gateway.accepted(tx) for tx in late])  # takes the lower transaction id
        await other.rows(*(other.accepted(tx) for tx in soon))
        projector = await project(rows)
        assert await projected(rows) == {} and projector.projected == 0
        held = await rows.fetchval("SELECT xid FROM entries WHERE tx = $1", soon[0])
        assert await rows.fetchval("SELECT horizon <= $1::xid8 FROM projection", held)
        await opened.commit()
        await project(rows)
        assert list(await projected(rows)) == [*late, *soon]
        await check_places(rows)
    await slow.close()


async def test_a_transaction_that_is_rolled_back_leaves_nothing(
    rows: asyncpg.Pool, gateway: Writing, log_url: str
) -> None:
    slow, kept = await connect(log_url), uuid7()
    opened = slow.transaction()
    await opened.start()
    await copy_rows(slow, gateway, [gateway.accepted(uuid7())])
    await gateway.rows(gateway.accepted(kept))
    await opened.rollback()
    await slow.close()
    await project(rows)
    assert list(await projected(rows)) == [kept]
    await check_places(rows)


async def test_two_writers_and_two_projectors_at_once(rows: asyncpg.Pool, gateway: Writing, log_url: str) -> None:
    async def write(by: Writing, seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            batch = [uuid7() for _ in range(rng.randint(1, 6))]
            await by.rows(*(by.accepted(tx) for tx in batch))
            await by.rows(*(by.ended(tx, entry.SUCCEEDED) for tx in batch))

    async def hold(seed: int, stop: asyncio.Event) -> None:
        """A writer whose transactions stay open for a while, some of them taken back."""
        rng, connection = random.Random(seed), await connect(log_url)
        while not stop.is_set():
            opened = connection.transaction()
            await opened.start()
            await copy_rows(connection, gateway, [gateway.accepted(uuid7()) for _ in range(3)])
            await asyncio.sleep(rng.uniform(0, 0.02))
            await (opened.commit() if rng.random() < 0.7 else opened.rollback())
        await connection.close()

    async def keep_projecting(stop: asyncio.Event) -> None:
        projector = Projector(rows, 40)
        while not stop.is_set():
            await projector.run_once()
            await asyncio.sleep(0)

    stop = asyncio.Event()
    async with writing(log_url, "gateway-2") as other:
        besides = [asyncio.create_task(work) for work in (hold(3, stop), keep_projecting(stop), keep_projecting(stop))]
        await asyncio.wait_for(asyncio.gather(write(gateway, 1), write(other, 2)), 60)
        stop.set()
        await asyncio.wait_for(asyncio.gather(*besides), 60)
    await project(rows)
    await check_places(rows)
    open_left = await rows.fetchval(
        "SELECT count(*) FROM transactions t WHERE state = 'accepted'"
        " AND EXISTS (SELECT 1 FROM entries e WHERE e.tx = t.tx AND e.kind = 3)"
    )
    assert open_left == 0
    assert len(await projected(rows)) > 120


async def test_broken_entries_are_put_aside_and_passed_over(rows: asyncpg.Pool, gateway: Writing) -> None:
    good = [uuid7() for _ in range(40)]
    # More than an index takes, and not one letter over and over: that would be packed.
    noise = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=9000))
    bad = [
        broken(gateway.accepted(uuid7()), b"not JSON"),
        broken(gateway.accepted(uuid7()), b'{"kind":"accepted","\xff\xfe":1}'),
        broken(gateway.accepted(uuid7()), b'{"a":"\\u0000"}'),
        broken(gateway.accepted(uuid7()), lambda members: members.pop("grant")),
        broken(gateway.accepted(uuid7()), lambda members: members["grant"].update(agreement_version="many")),
        broken(gateway.accepted(uuid7()), lambda members: members["call"].update(dossier=noise)),
        broken(gateway.ended(good[3], entry.FAILED), lambda members: members["outcome"].update(status=10**6)),
    ]
    await gateway.rows(*(gateway.accepted(tx) for tx in good[:20]), *bad, *(gateway.accepted(tx) for tx in good[20:]))
    projector = await project(rows, 4_000)
    assert projector.projected == 47
    found = await projected(rows)
    assert list(found) == good and found[good[3]].state == "accepted"
    aside = await rows.fetch("SELECT tx::text AS tx, what, reason, state FROM quarantine ORDER BY id")
    assert [record["tx"] for record in aside] == [row[1] for row in bad]
    assert {record["what"] for record in aside} == {"entry"} and {record["state"] for record in aside} == {"held"}
    await gateway.rows(gateway.ended(good[0], entry.SUCCEEDED))
    await project(rows)
    assert (await projected(rows))[good[0]].state == "succeeded"
    view = await Finder(rows, Vault(KEK)).get(good[3])
    assert view is not None and view.row.state == "accepted" and len(view.entries) == 2


async def test_a_projection_that_is_killed_is_done_again_whole(
    rows: asyncpg.Pool, gateway: Writing, log_url: str
) -> None:
    transactions = [uuid7() for _ in range(30)]
    await gateway.rows(*(gateway.accepted(tx) for tx in transactions))
    blocker = await connect(log_url)
    opened = blocker.transaction()
    await opened.start()
    await blocker.execute("LOCK TABLE transactions IN SHARE MODE")  # lets it read, not write
    task = asyncio.create_task(Projector(rows, 10).run_once())
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    async def blocked() -> bool:
        return await blocker.fetchval(waiting) is not None

    await until(blocked, "the projector waits for the lock")
    # Another projector neither waits nor does the same work meanwhile.
    assert await asyncio.wait_for(Projector(rows, 10).run_once(), 10) == 0
    await blocker.execute(f"SELECT pg_terminate_backend(pid) FROM ({waiting}) w")
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await task
    await opened.rollback()
    await blocker.close()
    assert await projected(rows) == {}
    await project(rows, 10)
    assert list(await projected(rows)) == transactions
    await check_places(rows)


async def test_the_horizon_passes_what_was_written_before(rows: asyncpg.Pool, gateway: Writing) -> None:
    await gateway.rows(*(gateway.accepted(uuid7()) for _ in range(25)))
    written = await rows.fetchval("SELECT max(xid) FROM entries")
    projector = Projector(rows, 10)
    assert await projector.run_once() == 10
    assert await rows.fetchval("SELECT horizon <= $1::xid8 FROM projection", written)
    assert await projector.run_once() == 10
    assert await projector.run_once() == 0
    assert projector.projected == 25
    assert await rows.fetchval("SELECT horizon > $1::xid8 FROM projection", written)
    fence = await rows.fetchval("SELECT pg_current_xact_id()")
    await projector.run_once()
    assert await rows.fetchval("SELECT horizon > $1::xid8 FROM projection", fence)


async def test_a_projection_goes_by_indexes_alone(rows: asyncpg.Pool, gateway: Writing) -> None:
    """However many transactions there are and however old the planner's figures, none are read but those concerned."""
    await rows.execute(
        """
        INSERT INTO transactions SELECT gen_random_uuid(), 0 - i, now(), now(), 'succeeded', 'query', 'c', 'H01', 'G12',
            'enterprise-lookup', 'v1', 'a', '', 1, 'p', NULL, NULL, NULL, NULL, 'g', 1
        FROM generate_series(1, 20000) i"""
    )
    transactions = [uuid7() for _ in range(50)]
    await gateway.rows(*(gateway.accepted(tx) for tx in transactions))
    await project(rows)
    await gateway.rows(*(gateway.ended(tx, entry.SUCCEEDED, adapter=grant_of().service.adapter) for tx in transactions))
    before = await rows.fetchval("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'transactions'")
    await project(rows)
    await rows.execute("SELECT pg_stat_force_next_flush()")
    after = await rows.fetchval("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'transactions'")
    assert after == before
    assert all(row.state == "succeeded" for tx, row in (await projected(rows)).items() if tx in transactions)
