"""How much went over the bus and how it ended, from a rollup: never from a count over the log.

The tables `statistics` and `statistics_dossiers` are kept by triggers on the projection (migration 0004), in the same
transaction that projects: what is counted is exactly what is projected, once, whenever that is. A transaction counts
where it was accepted, in its hour and in its day of Việt Nam (UTC+7); when its state changes it moves. Hours are kept
for five weeks, days for ten years.

Durations lie in fixed buckets, eight for each doubling, so that those of any groups add up: a percentile is the middle
of its bucket, within 4.5 % of the exact one. Dossiers are counted by a sketch of 4 KiB a day, consumer and service
(probabilistic counting after Flajolet and Martin, 1,024 columns, estimated by maximum likelihood): the standard error
is 2 %, and below a few hundred next to nothing; which dossiers they were cannot be told from it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import asyncpg

from ngsp.errors import Overloaded
from ngsp.transactions.rows import OPEN
from ngsp.vntime import VIETNAM

HOURS_KEPT: Final = timedelta(days=35)
DAYS_KEPT: Final = timedelta(days=3660)
ROWS_AT_ONCE: Final = 5_000
MOST_WAITING: Final = 32

BUCKETS_A_DOUBLING: Final = 8
NO_DURATION: Final = -1
COLUMNS: Final = 1024
LEVELS: Final = 32

Span = Literal["hour", "day"]
SPANS: Final[Mapping[Span, timedelta]] = {"hour": timedelta(hours=1), "day": timedelta(days=1)}

REFUSED_CALL: Final = "refused-call"
DIMENSIONS: Final[Mapping[str, str]] = {
    "consumer": "s.consumer",
    "provider": "s.provider",
    "member": "e.member",
    "service": "CASE WHEN s.version = '' THEN '' ELSE s.provider || '/' || s.service || '/' || s.version END",
    "adapter": "s.adapter",
    "mode": "s.mode",
    "outcome": "s.state",
    "failure": "s.failure_class",
    "code": "s.code",
    "day": "to_char(s.begins_at AT TIME ZONE 'UTC' + interval '7 hours', 'YYYY-MM-DD')",
    "hour": """to_char(s.begins_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')""",
}
"""What figures can be given by → its value, as text. `member`: either end, so that a transaction counts at both."""
_OF_DOSSIERS: Final = frozenset(("consumer", "provider", "member", "service", "day"))
_FILTERS: Final = ("consumer", "provider", "service", "version", "adapter", "mode", "state")
_UNCLASSED: Final = "other"

_PREPARE = "SET LOCAL jit = off"
# The calling end sees every call; the called end sees none that was refused before it got there.
_ENDS = "(SELECT s.consumer AS member UNION SELECT s.provider WHERE {reached}) e"
_REACHED = {"statistics": f"s.failure_class <> '{REFUSED_CALL}'", "statistics_dossiers": "TRUE"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: `since` to `until` (exclusive), both where a `span` begins; `by`: names of DIMENSIONS.

    Filters: empty for any. `member`: the end on whose behalf is asked, which sees what it is an end of; None: all.
    """

    span: Span
    since: datetime
    until: datetime
    by: tuple[str, ...] = ()
    consumer: str = ""
    provider: str = ""
    service: str = ""
    version: str = ""
    adapter: str = ""
    mode: str = ""
    state: str = ""
    member: str | None = None


@dataclass(slots=True)
class Figures:
    """What was counted in one group. `key`: its values of `by`. `outcomes`: state → count, `failures`: class → count.

    total = open + succeeded + all failures. `dossiers`: how many different ones, None where it is not known.
    """

    key: tuple[str, ...]
    outcomes: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    durations: dict[int, int] = field(default_factory=dict)
    last_success_at: datetime | None = None
    dossiers: int | None = None

    @property
    def total(self) -> int:
        return sum(self.outcomes.values())

    @property
    def open(self) -> int:
        return sum(count for state, count in self.outcomes.items() if state in OPEN)

    @property
    def succeeded(self) -> int:
        """In time, or late: an *unknown* that was resolved well is a success."""
        return self.total - self.open - sum(self.failures.values())

    def percentile_ms(self, share: float) -> float | None:
        """The duration that `share` of those accepted and ended did not exceed; None where there is none."""
        found = percentile_us(self.durations, share)
        return None if found is None else round(found / 1000, 3)

    def add(self, state: str, failure: str, bucket: int, count: int, last_success_at: datetime | None) -> None:
        self.outcomes[state] = self.outcomes.get(state, 0) + count
        if state not in OPEN and state != "succeeded" and (failure or state != "resolved"):
            failure = failure or _UNCLASSED
            self.failures[failure] = self.failures.get(failure, 0) + count
        if bucket != NO_DURATION:
            self.durations[bucket] = self.durations.get(bucket, 0) + count
        if last_success_at is not None:
            self.last_success_at = max(last_success_at, self.last_success_at or last_success_at)


def percentile_us(durations: Mapping[int, int], share: float) -> float | None:
    """The nearest-rank percentile of what lies in buckets, µs: the (geometric) middle of the bucket it falls into."""
    rank = max(1, math.ceil(share * sum(durations.values())))
    for bucket in sorted(durations):
        rank -= durations[bucket]
        if rank <= 0:
            return float(2 ** ((bucket + 0.5) / BUCKETS_A_DOUBLING))
    return None


def different(seen: bytes) -> int:
    """How many different things a sketch has seen, by maximum likelihood.

    In row `level` a column stays empty with the probability exp(-n / share), where one in `share` things falls on one
    of its places; `surplus` is the derivative of the likelihood in n, and falls.
    """
    filled = [
        int.from_bytes(seen[at : at + COLUMNS // 8]).bit_count() for at in range(0, COLUMNS * LEVELS // 8, COLUMNS // 8)
    ]
    shares = [COLUMNS * 2.0 ** (min(level, LEVELS - 2) + 1) for level in range(LEVELS)]

    def surplus(n: float) -> float:
        found = 0.0
        for count, share in zip(filled, shares, strict=True):
            empty = math.exp(-n / share)
            found += (count * empty / (1 - empty) - (COLUMNS - count)) / share
        return found

    if not any(filled):
        return 0
    low, high = 1e-3, 1.0
    while surplus(high) > 0 and high < 1e12:
        high *= 2
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if surplus(middle) > 0 else (low, middle)
    return round(high)


class Statistics:
    """The reading side of the rollup, over the gateway's pool of connections: one question at a time."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._one = asyncio.Lock()
        self._asked = 0

    async def page(self, wanted: Wanted, after: tuple[str, ...] | None, limit: int) -> list[Figures]:
        """At most `limit` groups, ordered by their keys, after the key `after`. Overloaded (503) where too many ask.

        Without dimensions it is one group, of zeros where there was nothing.
        """
        if self._asked > MOST_WAITING:
            raise Overloaded(retry_after_s=1, reason="too many statistics at once")
        self._asked += 1
        try:
            async with self._one, self._pool.acquire() as connection, connection.transaction(readonly=True):
                await connection.execute(_PREPARE)
                return await self._page(connection, wanted, after, limit)
        finally:
            self._asked -= 1

    async def _page(
        self, connection: asyncpg.Connection, wanted: Wanted, after: tuple[str, ...] | None, limit: int
    ) -> list[Figures]:
        groups: dict[tuple[str, ...], Figures] = {} if wanted.by else {(): Figures(())}
        sql, values = _cells(wanted, after, limit)
        width = len(wanted.by)
        for row in await connection.fetch(sql, *values):
            key = tuple(row[:width])
            groups.setdefault(key, Figures(key)).add(*row[width:])
        if groups and wanted.span == "day" and not (wanted.adapter or wanted.mode or wanted.state):
            await self._count_dossiers(connection, wanted, groups)
        return list(groups.values())

    async def _count_dossiers(
        self, connection: asyncpg.Connection, wanted: Wanted, groups: dict[tuple[str, ...], Figures]
    ) -> None:
        if not _OF_DOSSIERS.issuperset(wanted.by):
            return
        sql, values = _sketches(wanted, min(groups), max(groups))
        for figures in groups.values():
            figures.dossiers = 0
        for row in await connection.fetch(sql, *values):
            key = tuple(row[:-1])
            if key in groups:
                groups[key].dossiers = different(row[-1].bytes)


def _keys(by: Iterable[str]) -> tuple[str, list[str]]:
    """The select list of the dimensions, and the names it gives them."""
    names = [f"k{number}" for number, _ in enumerate(by)]
    shown = [f'({DIMENSIONS[name]}) COLLATE "C" AS {key}' for key, name in zip(names, by, strict=True)]
    return "".join(f"{one}, " for one in shown), names


def _source(wanted: Wanted, table: str, arguments: list[Any]) -> str:
    """The rows of `table` that are asked for, once for each member where that is a dimension."""

    def bound(value: Any) -> str:
        arguments.append(value)
        return f"${len(arguments)}"

    reached = _REACHED[table]
    conditions = [f"s.begins_at >= {bound(wanted.since)}", f"s.begins_at < {bound(wanted.until)}"]
    if table == "statistics":
        conditions.append(f"s.span = {bound(wanted.span)}")
    conditions += [f"s.{name} = {bound(value)}" for name in _FILTERS if (value := getattr(wanted, name))]
    if wanted.member is not None:
        own = bound(wanted.member)
        conditions.append(f"(s.consumer = {own} OR (s.provider = {own} AND {reached}))")
    ends = f" CROSS JOIN LATERAL {_ENDS.format(reached=reached)}" if "member" in wanted.by else ""
    return f"{table} s{ends} WHERE {' AND '.join(conditions)}"


_CELLS = """
WITH cells AS MATERIALIZED (
    SELECT {listed} state, failure_class, bucket, sum(count)::bigint AS count, max(last_success_at) AS last_success_at
    FROM (SELECT {shown} s.state, s.failure_class, s.bucket, s.count, s.last_success_at FROM {source}) found {beyond}
    GROUP BY {listed} state, failure_class, bucket HAVING sum(count) <> 0
) SELECT {listed} state, failure_class, bucket, count, last_success_at FROM cells {first}"""
_FIRST = """
JOIN (SELECT DISTINCT {keys} FROM cells ORDER BY {keys} LIMIT {most:d}) first USING ({keys}) ORDER BY {keys}"""


def _cells(wanted: Wanted, after: tuple[str, ...] | None, limit: int) -> tuple[str, list[Any]]:
    arguments: list[Any] = []
    shown, names = _keys(wanted.by)
    source = _source(wanted, "statistics", arguments)
    keys = ", ".join(names)
    beyond = ""
    if after is not None:
        beyond = f"WHERE ({keys}) > ({_places(len(arguments), after)})"
        arguments += after
    listed = "".join(f"{name}, " for name in names)
    first = _FIRST.format(keys=keys, most=limit) if names else ""
    return _CELLS.format(listed=listed, shown=shown, source=source, beyond=beyond, first=first), arguments


def _sketches(wanted: Wanted, lowest: tuple[str, ...], highest: tuple[str, ...]) -> tuple[str, list[Any]]:
    arguments: list[Any] = []
    shown, names = _keys(wanted.by)
    source = _source(wanted, "statistics_dossiers", arguments)
    keys = ", ".join(names)
    within, grouped = "", ""
    if names:
        low, high = _places(len(arguments), lowest), _places(len(arguments) + len(lowest), highest)
        within = f"WHERE ({keys}) >= ({low}) AND ({keys}) <= ({high})"
        arguments += [*lowest, *highest]
        grouped = f"GROUP BY {keys}"
    listed = "".join(f"{name}, " for name in names)
    sql = f"""SELECT {listed} bit_or(seen) FROM (SELECT {shown} s.seen FROM {source}) found
        {within} {grouped} HAVING count(*) > 0"""  # noqa: S608  # names are ours, values are bound
    return sql, arguments


def _places(begun: int, values: Sequence[str]) -> str:
    return ", ".join(f"${begun + number}" for number, _ in enumerate(values, 1))


_DELETE = """
DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE {aged} ORDER BY {aged_by} LIMIT {most:d}))"""
_AGED = (
    ("statistics", "span = 'hour' AND begins_at < $1", "span, begins_at", HOURS_KEPT),
    ("statistics", "span = 'day' AND begins_at < $1", "span, begins_at", DAYS_KEPT),
    ("statistics_dossiers", "begins_at < $1", "begins_at", DAYS_KEPT),
)


async def retire(connection: asyncpg.Connection, now: datetime) -> None:
    """Delete the hours and days that have had their time."""
    for table, aged, aged_by, kept in _AGED:
        statement = _DELETE.format(table=table, aged=aged, aged_by=aged_by, most=ROWS_AT_ONCE)
        while await connection.execute(statement, now - kept) != "DELETE 0":
            continue


def begin_of(at: datetime, span: Span) -> datetime:
    """The moment (UTC) at which the hour or day begins that `at` lies in."""
    local = at.astimezone(VIETNAM)
    hour = 0 if span == "day" else local.hour
    return local.replace(hour=hour, minute=0, second=0, microsecond=0).astimezone(UTC)
