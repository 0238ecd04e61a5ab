"""Finding: one transaction exactly, lists by any filter without looking at more than a little, replies, the news."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from ngsp.database import connect
from ngsp.errors import (
    Internal,
    MalformedParameter,
    NgspError,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    ProviderRefused,
    ReplyErased,
)
from ngsp.messages import uuid7
from ngsp.transactions import entry
from ngsp.transactions import filters as filtering
from ngsp.transactions.filters import Filters
from ngsp.transactions.find import MOST_PAGES_WAITING, PAGES_AT_ONCE, Finder, Page, earliest_of
from ngsp.transactions.rows import TransactionRow
from ngsp.transactions.work import Conclusion
from ngsp.vault import Vault
from tests.transactions.logs import KEK, REPLY, Writing

T0 = datetime(2026, 11, 1, tzinfo=UTC)


# One transaction


async def test_one_transaction_is_exact_at_once(finder: Finder, gateway: Writing) -> None:
    transaction = await gateway.submit("key-1")
    view = await finder.get(transaction.id)
    assert view is not None and view.row.state == "accepted" and view.row.mode == "submission"
    await gateway.log.delivered(transaction.id, 1)
    await gateway.conclude(transaction)
    view = await finder.get(transaction.id)
    assert view is not None
    assert (view.row.state, view.row.reply_bytes) == ("succeeded", len(REPLY))
    assert [found.kind for found in view.entries] == ["accepted", "delivered", "succeeded"]
    for found in view.entries:
        assert json.loads(found.canonical) == found.members and found.members["tx"] == transaction.id
        assert entry.canonical(found.members) == found.canonical
    assert await finder.get(uuid7()) is None


async def test_an_outcome_that_comes_months_later_is_found(finder: Finder, gateway: Writing) -> None:
    transaction = await gateway.submit("key-1")
    later = entry.now() + timedelta(days=40)
    await gateway.rows(gateway.ended(transaction.id, entry.SUCCEEDED, later))
    view = await finder.get(transaction.id)
    assert view is not None and view.row.ended_at == later


@pytest.mark.parametrize("time", ["00000000-0000", "ffffffff-ffff"])
async def test_an_id_of_no_time_is_nobody(finder: Finder, time: str) -> None:
    assert await finder.get(f"{time}-7000-8000-000000000000") is None


def test_the_time_in_an_id() -> None:
    earliest = earliest_of(uuid7())
    assert earliest is not None
    assert timedelta(hours=23) < entry.now() - earliest < timedelta(hours=25)


# The stored reply


async def reply_to(finder: Finder, tx: str) -> bytes:
    view = await finder.get(tx)
    assert view is not None
    return await finder.reply(view)


async def test_the_reply_comes_back_byte_for_byte(finder: Finder, gateway: Writing) -> None:
    submission, query = await gateway.submit("key-1"), await gateway.open(key="key-2")
    for transaction in (submission, query):
        with pytest.raises(NotFound):
            await reply_to(finder, transaction.id)
        await gateway.conclude(transaction)
        assert await reply_to(finder, transaction.id) == REPLY
    without_key = await gateway.open()
    await gateway.conclude(without_key)
    with pytest.raises(NotFound):
        await reply_to(finder, without_key.id)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (entry.REFUSED, ProviderRefused(members={"provider_code": "DUPLICATE"})),
        (entry.UNKNOWN, OutcomeUnknown(members={"outcome_unknown": True, "safe_to_repeat": False})),
    ],
)
async def test_an_outcome_that_was_no_reply_is_that_error(
    finder: Finder, gateway: Writing, kind: int, error: NgspError
) -> None:
    transaction = await gateway.submit("key-1")
    code = str(error.members.get("provider_code", ""))
    await gateway.conclude(transaction, Conclusion(kind, "provider", error, provider_code=code))
    with pytest.raises(type(error)) as told:
        await reply_to(finder, transaction.id)
    assert told.value.members.get("provider_code", "") == code


@pytest.mark.parametrize(
    "erase",
    [
        "UPDATE entries SET wrapped = NULL",
        "UPDATE replies SET body = NULL",
        "UPDATE replies SET expires_at = now()",
        "DELETE FROM replies",
    ],
)
async def test_a_reply_that_is_gone_is_410(finder: Finder, gateway: Writing, rows: asyncpg.Pool, erase: str) -> None:
    transaction = await gateway.submit("key-1")
    await gateway.conclude(transaction)
    await rows.execute(erase)
    with pytest.raises(ReplyErased):
        await reply_to(finder, transaction.id)


async def test_a_reply_that_was_changed_is_a_defect_and_not_an_erasure(
    finder: Finder, gateway: Writing, rows: asyncpg.Pool
) -> None:
    transaction = await gateway.submit("key-1")
    await gateway.conclude(transaction)
    await rows.execute("UPDATE replies SET body = set_byte(body, 40, 1 - get_byte(body, 40) % 2)")
    with pytest.raises(Internal):
        await reply_to(finder, transaction.id)


# Lists

VALUES: dict[str, list[str]] = {
    "state": ["succeeded", "failed", "unknown", "accepted", "expired"],
    "consumer": ["H41", "H14", "G12", "H01"],
    "provider": ["G01.01", "G12", "H41", "G22"],
    "service": ["population-lookup", "enterprise-lookup", "birth-registration"],
    "version": ["v1", "v2"],
    "purpose": ["birth-registration", "statistics", "none-such"],
    "officer": ["canbo-1", "canbo-2", "canbo-3"],
    "dossier": [f"H41-261121-{number:04d}" for number in range(30)],
    "trace": [f"{number:032x}" for number in range(40)],
}
MOST_ROWS = 4_000


async def some_transactions(pool: asyncpg.Pool, count: int, seed: int = 5) -> list[dict[str, Any]]:
    """Rows of the projection, newest first: values of very different frequency, times a little out of order."""
    rng = random.Random(seed)
    made = []
    for place in range(1, count + 1):
        row = {name: values[int(rng.random() ** 3 * len(values))] for name, values in VALUES.items()}
        at = T0 + timedelta(seconds=30 * place + rng.uniform(-100, 100))
        made.append(
            {**row, "tx": uuid7(), "place": place, "accepted_at": at, "agreement_version": rng.choice([0, 1, 1])}
        )
    columns = [*VALUES, "tx", "place", "accepted_at", "agreement_version"]
    fixed = {"mode": "query", "client": "c", "adapter": "a", "agreement": "", "gateway": "g", "epoch": 1}
    records = [(*(row[name] for name in columns), *fixed.values()) for row in made]
    async with pool.acquire() as connection:
        await connection.copy_records_to_table("transactions", records=records, columns=[*columns, *fixed])
    await pool.execute("ANALYZE transactions")
    return made[::-1]


def expected(made: list[dict[str, Any]], wanted: Filters) -> list[str]:
    """What the filters say, told another way."""

    def fits(row: dict[str, Any]) -> bool:
        own = wanted.member is None or row["consumer"] == wanted.member
        own = own or (row["provider"] == wanted.member and row["agreement_version"] > 0)
        return (
            own
            and all(row[name] == value for name, value in wanted.equalities().items())
            and (wanted.since is None or row["accepted_at"] >= wanted.since)
            and (wanted.until is None or row["accepted_at"] < wanted.until)
        )

    return [row["tx"] for row in made if fits(row)]


async def all_pages(finder: Finder, wanted: Filters, limit: int) -> list[TransactionRow]:
    found: list[TransactionRow] = []
    cursor = None
    for _ in range(MOST_ROWS):
        page = await finder.page(wanted, cursor, limit)
        assert len(page.rows) <= limit
        found += page.rows
        cursor = page.next
        if cursor is None:
            return found
    raise AssertionError("the pages do not end")


def some_filters(rng: random.Random, members: bool) -> Filters:
    chosen: dict[str, Any] = {
        name: rng.choice(VALUES[name]) for name in rng.sample(list(VALUES), rng.choice([0, 1, 2, 3]))
    }
    span = timedelta(seconds=30 * 800)
    if rng.random() < 0.3:
        chosen["since"] = T0 + span * rng.random()
    if rng.random() < 0.3:
        chosen["until"] = T0 + span * rng.random()
    if members:
        chosen["member"] = rng.choice([*VALUES["consumer"], "G22", "H99"])
    return Filters(**chosen)


@pytest.mark.parametrize("members", [False, True])
async def test_lists_are_complete_whatever_is_asked(rows: asyncpg.Pool, members: bool) -> None:
    """Against a plain reading of the filters, over pages that the bound on rows looked at cuts short."""
    made = await some_transactions(rows, 800)
    cut, whole = Finder(rows, Vault(KEK), most_scanned=37), Finder(rows, Vault(KEK))
    rng = random.Random(11)
    for _ in range(40):
        wanted = some_filters(rng, members)
        right = expected(made, wanted)
        assert [row.tx for row in await all_pages(cut, wanted, 11)] == right, wanted
        assert [row.tx for row in await all_pages(whole, wanted, 50)] == right, wanted


async def test_pages_hold_still_while_the_log_grows(rows: asyncpg.Pool, finder: Finder) -> None:
    made = await some_transactions(rows, 60)
    wanted = Filters()
    first = await finder.page(wanted, None, 20)
    await rows.execute(
        """INSERT INTO transactions SELECT gen_random_uuid(), 1000 + i, now(), NULL, 'accepted', 'query', 'c', 'H41',
           'G12', 's', 'v1', 'a', '', 1, 'p', NULL, NULL, NULL, NULL, 'g', 1 FROM generate_series(1, 30) i"""
    )
    second = await finder.page(wanted, first.next, 20)
    third = await finder.page(wanted, second.next, 20)
    assert [row.tx for row in (*first.rows, *second.rows, *third.rows)] == [row["tx"] for row in made]
    assert third.next is None


async def test_however_many_ask_for_lists_connections_are_left(rows: asyncpg.Pool, finder: Finder) -> None:
    await some_transactions(rows, 60)
    asked = [asyncio.create_task(finder.page(Filters(), None, 5)) for _ in range(100)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert len(refused) == 100 - PAGES_AT_ONCE - MOST_PAGES_WAITING
    assert len([answer for answer in answers if isinstance(answer, Page) and len(answer.rows) == 5]) == 100 - len(
        refused
    )
    assert len((await finder.page(Filters(), None, 5)).rows) == 5


async def test_a_cursor_of_another_list_or_of_nobody_is_refused(rows: asyncpg.Pool, finder: Finder) -> None:
    await some_transactions(rows, 60)
    wanted = Filters(consumer="H41")
    page = await finder.page(wanted, None, 5)
    assert page.next is not None
    for cursor in ("x", "", " ", "A" * 23, page.next[:-1], page.next + "A", page.next[::-1], "é" * 23, "A" * 5000):
        with pytest.raises(MalformedParameter):
            await finder.page(wanted, cursor, 5)
    for other in (Filters(), replace(wanted, member="H41"), replace(wanted, since=T0), Filters(provider="H41")):
        with pytest.raises(MalformedParameter):
            await finder.page(other, page.next, 5)


async def looked_at(connection: asyncpg.Connection, wanted: Filters, most: int) -> list[tuple[int, set[str]]]:
    """For each way of the list: rows of the table the server looked at, and the kinds of scans and sorts it made."""
    found = []
    async with connection.transaction():
        await connection.execute(filtering.ALONG_INDEXES)
        for way in filtering.branches(wanted):
            sql, values = filtering.statement(way, wanted, filtering.LAST_PLACE, 0, most, 51)
            (plan,) = await connection.fetchval("EXPLAIN (ANALYZE, FORMAT JSON) " + sql, *values)
            nodes = list(_nodes(plan["Plan"]))
            scans = [node for node in nodes if node.get("Relation Name") == "transactions"]
            seen = sum(int(node["Actual Rows"]) + node.get("Rows Removed by Filter", 0) for node in scans)
            kinds = {node["Node Type"] for node in nodes if "Scan" in node["Node Type"] or "Sort" in node["Node Type"]}
            found.append((seen, kinds))
    return found


def _nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


async def test_no_filter_makes_the_server_look_at_more_than_the_bound(rows: asyncpg.Pool, log_url: str) -> None:
    """Every pair of filters, values that are common and values that nothing has, by the server's own account."""
    await some_transactions(rows, MOST_ROWS)
    connection = await connect(log_url)
    choices: dict[str, list[Any]] = {name: [values[0], "none-such"] for name, values in VALUES.items()}
    choices |= {"since": [T0 + timedelta(hours=1)], "member": ["H41", "H99"]}
    most = 300
    for pair in itertools.combinations(choices, 2):
        for values in itertools.product(*(choices[name] for name in pair)):
            wanted = Filters(**dict(zip(pair, values, strict=True)))
            for seen, kinds in await looked_at(connection, wanted, most):
                assert kinds <= {"Index Scan", "Subquery Scan", "Sort", "Incremental Sort"}, (wanted, kinds)
                by_place = not (wanted.trace or wanted.dossier)
                # The indexes on trace and dossier give all that have the value; few do.
                assert not by_place or (seen <= most and not kinds & {"Sort", "Incremental Sort"}), (wanted, seen)
    await connection.close()
