"""Courses of transactions by chance, and what they add up to, counted apart from the code under test."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from ngsp.messages import uuid7
from ngsp.transactions import entry
from ngsp.transactions.projection import Projector
from ngsp.transactions.statistics import Figures, Statistics, Wanted, begin_of
from tests.transactions.logs import Writing, grant_of

if TYPE_CHECKING:
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
