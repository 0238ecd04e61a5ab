"""The rollup says exactly what the entries add up to, whoever projects them, however often and in whatever batches."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

from ngsp import database
from ngsp.database import connect, pool
from ngsp.messages import uuid7
from ngsp.transactions import entry, partitions, statistics
from ngsp.transactions.projection import Projector
from ngsp.transactions.statistics import Figures, Statistics, Wanted, begin_of, different, percentile_us
from tests.transactions.logs import Writing, grant_of, writing

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from ngsp.local.postgres import LocalPostgres
    from ngsp.transactions.entry import Row

SERVICES = ("G01.01/population-lookup/v1", "G01.01/population-lookup/v2", "H41/birth-registration/v1")
ENDS: dict[int, dict[str, Any]] = {
    entry.SUCCEEDED: {},
    entry.REFUSED: {"code": "record-not-found", "failed": "provider-no", "status": 404},
    entry.FAILED: {"code": "bad-reply", "failed": "bad-reply", "status": 502},
    entry.EXPIRED: {"code": "expired", "failed": "deadline", "status": 504},
    entry.UNKNOWN: {"code": "no-answer", "failed": "deadline", "status": 504},
}
RESOLVED_WELL: dict[str, Any] = {"state": "succeeded"}
RESOLVED_ILL: dict[str, Any] = {"state": "failed", "code": "provider-failed", "failed": "provider", "status": 502}


def histories(gateway: Writing, seed: int, count: int) -> list[list[Row]]:
    """Courses of transactions over twenty days, each a list of its entries in order."""
    rng = random.Random(seed)
    begun = begin_of(entry.now(), "day")
    found = []
    for _ in range(count):
        tx, at = uuid7(), begun + timedelta(seconds=rng.randrange(20 * 86_400))
        if rng.random() < 0.15:
            asked = {"service": rng.choice([*SERVICES, "H41/no-such-service/v1", "nonsense"]), "purpose": "testing"}
            call = {"client": "c", "member": rng.choice(["H41", "H14"])}
            found.append([gateway.scribe.refused_call(tx, at, call, asked, "access-denied", 403, "no agreement")])
            continue
        path = rng.choice(SERVICES)
        mode: Any = "submission" if path.startswith("H41") else "query"
        grant = grant_of(rng.choice(["H41", "H14", "G22"]), path, mode=mode)
        call = {"dossier": f"H41-{rng.randrange(40)}"} if rng.random() < 0.7 else {}
        course = [gateway.accepted(tx, grant, at, call)]
        took = timedelta(microseconds=int(10 ** rng.uniform(2.5, 9)))
        if mode == "submission" and rng.random() < 0.7:
            course.append(gateway.scribe.delivered(tx, at + took / 2, 1))
        if rng.random() < 0.9:
            kind = rng.choices(list(ENDS), [70, 10, 8, 4, 8])[0]
            course.append(gateway.ended(tx, kind, at + took, 10, **ENDS[kind]))
            if kind == entry.UNKNOWN and rng.random() < 0.7:
                late = rng.choice([RESOLVED_WELL, RESOLVED_ILL])
                course.append(gateway.ended(tx, entry.RESOLVED, at + 3 * took, 10, **late))
            if rng.random() < 0.1:
                course.append(gateway.ended(tx, entry.REPEATED, at + 4 * took, adapter="a", failed="repeated-reply"))
        found.append(course)
    return found


def mixed(courses: list[list[Row]], seed: int) -> list[Row]:
    """The entries of all courses as gateways would commit them: each course in its order, all in none."""
    rng, found = random.Random(seed), []
    waiting = [list(course) for course in courses]
    while waiting:
        course = rng.choice(waiting)
        found.append(course.pop(0))
        waiting = [left for left in waiting if left]
    return found


@dataclass(frozen=True)
class Seen:
    """One transaction as this test understands its entries."""

    at: datetime
    consumer: str
    provider: str
    service: str
    adapter: str
    mode: str
    state: str
    failure: str
    code: str
    duration_us: int | None
    ended_at: datetime | None
    dossier: str
    reached: bool


async def understood(rows: asyncpg.Pool) -> list[Seen]:
    """Every transaction, from its entries alone; shares nothing with the code under test."""
    courses: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in await rows.fetch("SELECT body FROM entries ORDER BY xid, seq"):
        members = entry.read(row["body"])
        courses[members["tx"]].append(members)
    known = {row["path"] for row in await rows.fetch("SELECT path FROM services")}
    return [_understood(course, known) for course in courses.values()]


_RANK = {"accepted": 0, "delivered": 1, "resolved": 3}


def _understood(course: list[dict[str, Any]], known: set[str]) -> Seen:
    first = course[0]
    last = max((e for e in course if e["kind"] != "repeated"), key=lambda e: _RANK.get(e["kind"], 2))
    at, ended = datetime.fromisoformat(first["at"]), datetime.fromisoformat(last["at"])
    outcome = last.get("outcome", {})
    reached = "grant" in first
    if reached:
        g = first["grant"]
        consumer, path = g["consumer"], f"{g['provider']}/{g['service']}/{g['version']}"
    else:
        consumer = first["call"]["member"]
        path = first["asked"]["service"] if first["asked"]["service"] in known else ""
    over = last["kind"] not in ("accepted", "delivered")
    return Seen(
        at=at,
        consumer=consumer,
        provider=path.partition("/")[0],
        service=path,
        adapter=first["grant"]["adapter"] if reached else "",
        mode=first["grant"]["mode"] if reached else "query",
        state=last["kind"],
        failure=outcome.get("class", ""),
        code=outcome.get("code", ""),
        duration_us=(ended - at) // timedelta(microseconds=1) if over and reached else None,
        ended_at=ended if over else None,
        dossier=first["call"].get("dossier", "") if reached else "",
        reached=reached,
    )


VALUES: dict[str, Callable[[Seen], Iterable[str]]] = {
    "consumer": lambda t: [t.consumer],
    "provider": lambda t: [t.provider],
    "member": lambda t: {t.consumer, t.provider} if t.reached else {t.consumer},
    "service": lambda t: [t.service],
    "adapter": lambda t: [t.adapter],
    "mode": lambda t: [t.mode],
    "outcome": lambda t: [t.state],
    "failure": lambda t: [t.failure],
    "code": lambda t: [t.code],
    "day": lambda t: [f"{t.at + timedelta(hours=7):%Y-%m-%d}"],
    "hour": lambda t: [f"{t.at:%Y-%m-%dT%H}:00:00Z"],
}


def grouped(seen: list[Seen], by: tuple[str, ...]) -> dict[tuple[str, ...], list[Seen]]:
    found: dict[tuple[str, ...], list[Seen]] = defaultdict(list)
    for one in seen:
        keys: list[tuple[str, ...]] = [()]
        for name in by:
            keys = [(*key, value) for key in keys for value in VALUES[name](one)]
        for key in keys:
            found[key].append(one)
    return dict(sorted(found.items()))


def check(figures: Figures, seen: list[Seen], dossiers: bool) -> None:
    """`figures` are those of `seen`: counts exactly, percentiles and dossiers within what is promised."""
    well = [t for t in seen if t.state == "succeeded" or (t.state == "resolved" and not t.failure)]
    assert figures.outcomes == Counter(t.state for t in seen)
    assert figures.failures == Counter(t.failure for t in seen if t.failure)
    assert (figures.total, figures.succeeded) == (len(seen), len(well))
    assert figures.open == sum(t.state in ("accepted", "delivered") for t in seen)
    assert figures.last_success_at == max((t.ended_at for t in well if t.ended_at), default=None)
    took = sorted(t.duration_us for t in seen if t.duration_us is not None)
    for share in (0.5, 0.95):
        found_ms = figures.percentile_ms(share)
        if not took:
            assert found_ms is None
        else:
            exact_ms = took[max(1, math.ceil(share * len(took))) - 1] / 1000
            assert found_ms == pytest.approx(exact_ms, rel=0.045, abs=0.002)
    if dossiers:
        different = len({t.dossier for t in seen if t.dossier})
        assert figures.dossiers is not None and abs(figures.dossiers - different) <= max(1, 0.06 * different)
    else:
        assert figures.dossiers is None


def wanted(*by: str, **others: Any) -> Wanted:
    begun = begin_of(entry.now(), "day")
    asked = {"span": "hour" if "hour" in by else "day", "since": begun, "until": begun + timedelta(days=30)}
    return Wanted(by=by, **asked | others)


async def everything(rows: asyncpg.Pool, asked: Wanted, limit: int = 1_000) -> dict[tuple[str, ...], Figures]:
    """All groups, page by page."""
    reader, found = Statistics(rows), {}
    after: tuple[str, ...] | None = None
    while True:
        page = await reader.page(asked, after, limit)
        found.update({figures.key: figures for figures in page})
        if len(page) < limit or not asked.by:
            return found
        after = page[-1].key


async def project(rows: asyncpg.Pool, most_at_once: int = 4_000) -> None:
    projector = Projector(rows, most_at_once)
    while await projector.run_once():
        continue


async def register(rows: asyncpg.Pool) -> None:
    """The services of these tests, as far as counting looks at them."""
    await rows.execute(
        """INSERT INTO members VALUES ('G01.01', '', 'm', 'm', '2020-01-01', NULL, 'national', 1, 1, now()),
               ('H41', '', 'm', 'm', '2020-01-01', NULL, 'national', 1, 1, now()) ON CONFLICT DO NOTHING"""
    )
    await rows.execute(
        """INSERT INTO adapters (id, provider, registered_by, registered_at, row_version, build, seen_schemas)
           VALUES ('a', 'H41', 'c', now(), 1, '', '{}') ON CONFLICT DO NOTHING"""
    )
    for path in SERVICES:
        provider, name, version = path.split("/")
        await rows.execute(
            """INSERT INTO services VALUES ($1, $2, $3, $4, 'a', 't', 't', 't', 't', 'query', 'idempotent', 5, 1000,
                   '{}', '', '{}', '', '{}', false, '[]', 'active', 1, now()) ON CONFLICT DO NOTHING""",
            path, provider, name, version,
        )  # fmt: skip


BY = [
    (), ("service",), ("consumer", "service", "day"), ("member",), ("provider", "mode"), ("outcome",), ("adapter",),
    ("failure", "code"), ("day",), ("hour", "consumer"),
]  # fmt: skip


@pytest.mark.parametrize("most_at_once", [3, 4_000])
async def test_figures_are_those_of_the_entries(rows: asyncpg.Pool, gateway: Writing, most_at_once: int) -> None:
    await register(rows)
    entries = mixed(histories(gateway, 11, 300), 12)
    for begin in range(0, len(entries), 60):
        await gateway.rows(*entries[begin : begin + 60])
        await project(rows, most_at_once)
    seen = await understood(rows)
    assert len(seen) == 300 and any(t.state == "resolved" and not t.failure for t in seen)
    for by in BY:
        found = await everything(rows, wanted(*by))
        expected = grouped(seen, by)
        assert list(found) == list(expected), by
        with_dossiers = {"consumer", "provider", "member", "service", "day"}.issuperset(by)
        for key, figures in found.items():
            check(figures, expected[key], with_dossiers)


async def test_pages_and_filters_and_what_a_member_sees(rows: asyncpg.Pool, gateway: Writing) -> None:
    await register(rows)
    await gateway.rows(*mixed(histories(gateway, 5, 200), 6))
    await project(rows)
    seen = await understood(rows)
    by = ("consumer", "day")
    whole = await everything(rows, wanted(*by))
    assert {key: figures.total for key, figures in (await everything(rows, wanted(*by), 7)).items()} == {
        key: figures.total for key, figures in whole.items()
    }
    for member in ("H41", "H14", "G01.01", "G22", "H99"):
        own = [t for t in seen if member == t.consumer or (member == t.provider and t.reached)]
        for dimension in ("service", "member"):
            found = await everything(rows, wanted(dimension, member=member))
            expected = grouped(own, (dimension,))
            assert list(found) == list(expected)
            for key, figures in found.items():
                check(figures, expected[key], dossiers=True)
    begun = wanted().since
    narrow: list[tuple[dict[str, Any], Callable[[Seen], bool], bool]] = [
        ({"consumer": "H14"}, lambda t: t.consumer == "H14", True),
        ({"provider": "H41"}, lambda t: t.provider == "H41", True),
        ({"service": "population-lookup", "version": "v2"}, lambda t: t.service.endswith("lookup/v2"), True),
        ({"mode": "submission"}, lambda t: t.mode == "submission", False),
        ({"state": "unknown"}, lambda t: t.state == "unknown", False),
        ({"adapter": "g01-population"}, lambda t: t.adapter == "g01-population", False),
        ({"since": begun + timedelta(days=3)}, lambda t: t.at >= begun + timedelta(days=3), True),
        ({"until": begun + timedelta(days=3)}, lambda t: t.at < begun + timedelta(days=3), True),
        (
            {"span": "hour", "since": begun + timedelta(hours=30), "until": begun + timedelta(hours=90)},
            lambda t: timedelta(hours=30) <= t.at - begun < timedelta(hours=90),
            False,
        ),
    ]
    for filters, fits, dossiers in narrow:
        found = await everything(rows, replace(wanted(), **filters))
        check(found[()], [t for t in seen if fits(t)], dossiers)


async def test_a_late_resolution_moves_what_was_unknown(rows: asyncpg.Pool, gateway: Writing) -> None:
    tx, at = uuid7(), entry.now()

    async def after(*entries: Row) -> Figures:
        await gateway.rows(*entries)
        await project(rows)
        return (await everything(rows, wanted()))[()]

    accepted = await after(gateway.accepted(tx, at=at))
    assert (accepted.outcomes, accepted.open, accepted.percentile_ms(0.5)) == ({"accepted": 1}, 1, None)
    unknown = await after(gateway.ended(tx, entry.UNKNOWN, at + timedelta(seconds=5), **ENDS[entry.UNKNOWN]))
    assert (unknown.outcomes, unknown.failures, unknown.succeeded) == ({"unknown": 1}, {"deadline": 1}, 0)
    late = at + timedelta(seconds=60)
    resolved = await after(gateway.ended(tx, entry.RESOLVED, late, 10, **RESOLVED_WELL))
    assert (resolved.outcomes, resolved.failures, resolved.succeeded) == ({"resolved": 1}, {}, 1)
    assert resolved.last_success_at == late and resolved.percentile_ms(0.5) == pytest.approx(60_000, rel=0.045)


async def _table(rows: asyncpg.Pool) -> list[Any]:
    order = "begins_at, consumer, provider, service, version"
    counted = await rows.fetch(f"SELECT * FROM statistics ORDER BY span, {order}, adapter, mode, state, code, bucket")
    return [*map(tuple, counted), *map(tuple, await rows.fetch(f"SELECT * FROM statistics_dossiers ORDER BY {order}"))]


async def test_projecting_again_or_side_by_side_counts_nothing_twice(rows: asyncpg.Pool, gateway: Writing) -> None:
    await register(rows)
    entries = mixed(histories(gateway, 21, 200), 22)
    written = asyncio.Event()

    async def keep_projecting() -> None:
        projector = Projector(rows, 7)
        while await projector.run_once() or not written.is_set():
            await asyncio.sleep(0)

    projecting = [asyncio.create_task(keep_projecting()) for _ in range(3)]
    for begin in range(0, len(entries), 20):
        await gateway.rows(*entries[begin : begin + 20])
    written.set()
    await asyncio.wait_for(asyncio.gather(*projecting), 60)
    await project(rows)
    check((await everything(rows, wanted()))[()], await understood(rows), dossiers=True)
    before = await _table(rows)
    await project(rows)
    assert await _table(rows) == before


async def test_a_projection_that_is_broken_off_counts_nothing(
    rows: asyncpg.Pool, gateway: Writing, log_url: str
) -> None:
    await gateway.rows(gateway.accepted(uuid7()))
    holder = await connect(log_url)
    stop = holder.transaction()
    await stop.start()
    await holder.execute("LOCK TABLE statistics IN ACCESS EXCLUSIVE MODE")
    projecting = asyncio.create_task(Projector(rows).run_once())
    waiting = "SELECT pid FROM pg_locks WHERE relation = 'statistics'::regclass AND NOT granted"
    while (pid := await rows.fetchval(waiting)) is None:
        await asyncio.sleep(0.01)
    await holder.execute("SELECT pg_terminate_backend($1)", pid)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await projecting
    await stop.rollback()
    await holder.close()
    assert (await everything(rows, wanted()))[()].total == 0
    await project(rows)
    assert (await everything(rows, wanted()))[()].outcomes == {"accepted": 1}


async def test_calls_of_services_that_are_not_there_make_no_rows_of_their_own(
    rows: asyncpg.Pool, gateway: Writing
) -> None:
    call = {"client": "c", "member": "H14"}
    await gateway.rows(
        *(
            gateway.scribe.refused_call(
                uuid7(), entry.now(), call, {"service": f"H41/guess-{n}/v1"}, "access-denied", 403, "unknown service"
            )
            for n in range(200)
        )
    )
    await project(rows)
    found = await everything(rows, wanted("service"))
    assert {key: figures.total for key, figures in found.items()} == {("",): 200}
    assert await rows.fetchval("SELECT count(*) FROM statistics") <= 4


async def test_what_was_projected_before_is_counted_when_the_tables_come(postgres: LocalPostgres) -> None:
    await postgres.create_database("statistics_come")
    url = postgres.url("statistics_come")
    await _upgrade_to(url, "0003_transactions")
    connection = await connect(url)
    # What projects here is of this release and knows one column more.
    await connection.execute("ALTER TABLE transactions ADD COLUMN sandbox boolean NOT NULL DEFAULT false")
    await partitions.ensure(connection, entry.now())
    await connection.close()
    rows = await pool(url, size=4)
    async with writing(url) as gateway:
        await register(rows)
        courses = histories(gateway, 31, 120)
        whole = mixed(courses, 32)
        await gateway.rows(*whole[: len(whole) // 2])
        await project(rows)
        await database.migrate(url)
        await gateway.rows(*whole[len(whole) // 2 :])
        await project(rows)
    seen = await understood(rows)
    for by in ((), ("service", "day"), ("hour",)):
        found, expected = await everything(rows, wanted(*by)), grouped(seen, by)
        assert list(found) == list(expected)
        for key, figures in found.items():
            check(figures, expected[key], dossiers="hour" not in by)
    await rows.close()


async def _upgrade_to(url: str, revision: str) -> None:
    def run(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(database.MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    engine = database.engine(url, pool_size=1)
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


async def test_old_hours_and_days_go(rows: asyncpg.Pool, gateway: Writing) -> None:
    await gateway.rows(gateway.accepted(uuid7(), call={"dossier": "H41-1"}))
    await project(rows)
    now = entry.now()
    for days, left in ((1, ["day", "hour"]), (36, ["day"]), (3_700, [])):
        async with rows.acquire() as connection:
            await statistics.retire(connection, now + timedelta(days=days))
        assert [row["span"] for row in await rows.fetch("SELECT span FROM statistics ORDER BY span")] == left
        assert await rows.fetchval("SELECT count(*) FROM statistics_dossiers") == (1 if left else 0)


@pytest.mark.parametrize("count", [0, 1, 2, 17, 250, 3_000, 60_000, 400_000])
async def test_different_dossiers_are_counted_within_what_is_promised(rows: asyncpg.Pool, count: int) -> None:
    sketch = """SELECT ngsp_seen(coalesce(array_agg(hashtextextended('H41-' || i, 0)), '{}'))
        FROM generate_series($1::integer, $2::integer) i"""
    half = count // 2
    parts = [(await rows.fetchval(sketch, *bounds)).bytes for bounds in ((1, half), (half + 1, count), (1, count))]
    assert bytes(one | other for one, other in zip(parts[0], parts[1], strict=True)) == parts[2]
    error = abs(different(parts[2]) - count)
    assert error <= max(1 if count <= 250 else 0, 0.05 * count), "two and a half standard errors"


def test_percentiles_of_buckets() -> None:
    assert percentile_us({}, 0.5) is None
    for us in (1, 2, 3, 999, 12_345, 7_776_000_000_000):
        bucket = math.floor(math.log2(us) * 8)
        assert percentile_us({bucket: 5}, 0.95) == pytest.approx(us, rel=0.045)
    assert percentile_us({8: 95, 80: 5}, 0.95) == percentile_us({8: 1}, 1.0)
    assert percentile_us({8: 94, 80: 6}, 0.95) == percentile_us({80: 1}, 1.0)


def test_days_begin_in_viet_nam() -> None:
    at = datetime(2026, 3, 1, 16, 59, 59, tzinfo=UTC)
    assert begin_of(at, "day") == datetime(2026, 2, 28, 17, tzinfo=UTC)
    assert begin_of(at + timedelta(seconds=1), "day") == datetime(2026, 3, 1, 17, tzinfo=UTC)
    assert begin_of(at, "hour") == datetime(2026, 3, 1, 16, tzinfo=UTC)
