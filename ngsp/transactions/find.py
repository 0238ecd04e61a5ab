"""Finding transactions: one exactly as the log has it now, many by the projection, the stored reply, the news."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import orjson

from ngsp.errors import Internal, NotFound, Overloaded, ReplyErased
from ngsp.text import Text
from ngsp.transactions import filters as filtering
from ngsp.transactions.entry import KINDS, now
from ngsp.transactions.filters import Filters
from ngsp.transactions.follow import Follower, Position
from ngsp.transactions.log import REPLY_AAD, error_of
from ngsp.transactions.rows import FOLDED, FOLDING, SELECTED, TransactionRow, row_of
from ngsp.transactions.waiting import Waiting
from ngsp.vault import Vault, VaultError

MOST_SCANNED: Final = 10_000
"""Rows looked at for one page on one index, at most: some tens of milliseconds."""
PAGES_AT_ONCE: Final = 2
MOST_PAGES_WAITING: Final = 64
"""Lists take a few of the gateway's connections and no more, however many ask."""
_CLOCKS: Final = timedelta(days=1)

_GET = f"""
WITH found AS MATERIALIZED (
    SELECT xid, seq, at, tx, kind, body FROM entries WHERE tx = $1 AND at >= $2
), batch AS MATERIALIZED (
    SELECT xid, seq, at, tx, kind, convert_from(body, 'UTF8')::jsonb AS b FROM found
), {FOLDING}
SELECT {FOLDED},
       (SELECT array_agg(kind ORDER BY xid, seq) FROM found) AS kinds,
       (SELECT array_agg(at ORDER BY xid, seq) FROM found) AS moments,
       (SELECT array_agg(body ORDER BY xid, seq) FROM found) AS bodies
FROM folded f WHERE f.opens ORDER BY f.xid, f.seq LIMIT 1"""  # noqa: S608  # constants only
_GET_PROJECTED = f"""
SELECT {SELECTED},
       ARRAY(SELECT kind FROM entries WHERE tx = $1 AND at >= $2 ORDER BY xid, seq) AS kinds,
       ARRAY(SELECT at FROM entries WHERE tx = $1 AND at >= $2 ORDER BY xid, seq) AS moments,
       ARRAY(SELECT body FROM entries WHERE tx = $1 AND at >= $2 ORDER BY xid, seq) AS bodies
FROM transactions t WHERE t.tx = $1"""  # noqa: S608  # constants only
_REPLY = """
SELECT r.code, r.provider_code, r.body, r.expires_at,
       (SELECT k.wrapped FROM entries k WHERE k.tx = $1 AND k.kind = 1 AND k.at BETWEEN $2 AND $3) AS wrapped
FROM replies r WHERE r.tx = $1"""


@dataclass(frozen=True, slots=True)
class EntryView:
    """A stored entry. `members`: what its bytes say, empty where they are not of the form. `canonical`: the bytes."""

    kind: str
    at: datetime
    members: dict[str, Any]
    canonical: bytes


@dataclass(frozen=True, slots=True)
class TransactionView:
    """One transaction with its entries in the log's order."""

    row: TransactionRow
    entries: tuple[EntryView, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list, newest first. `next`: the cursor that leads on, None at the end. A page may be short."""

    rows: tuple[TransactionRow, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class _Found:
    """What one branch gave: rows with their places, and how far down they are complete (0: to the end)."""

    rows: list[tuple[int, TransactionRow]]
    floor: int


class Finder:
    """The reading side of the log, over the gateway's pool of connections."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, most_scanned: int = MOST_SCANNED) -> None:
        self._pool, self._vault, self._most_scanned = pool, vault, most_scanned
        self._pages = asyncio.Semaphore(PAGES_AT_ONCE)
        self._pages_asked = 0
        self.waiting = Waiting(pool)

    async def get(self, tx: str) -> TransactionView | None:
        """The transaction `tx` (UUIDv7 text) as its entries say at this moment; None where the log has none."""
        earliest = earliest_of(tx)
        if earliest is None:
            return None
        try:
            record = await self._pool.fetchrow(_GET, tx, earliest)
        except asyncpg.DataError:
            # An entry is not of the form (it is in quarantine): what the projection made of the others still stands.
            record = await self._pool.fetchrow(_GET_PROJECTED, tx, earliest)
        if record is None:
            return None
        entries = zip(record["kinds"], record["moments"], record["bodies"], strict=True)
        return TransactionView(row_of(record), tuple(_entry(*parts) for parts in entries))

    async def page(self, filters: Filters, cursor: str | None, limit: int) -> Page:
        """At most `limit` transactions, newest first.

        Raises MalformedParameter (400) where `cursor` is not one of this list, Overloaded (503) where too many ask.
        A page is short, even empty, where `MOST_SCANNED` rows were looked at before it was full: `next` leads on.
        """
        below = filtering.LAST_PLACE if cursor is None else filtering.read_cursor(filters, cursor)
        if self._pages_asked >= PAGES_AT_ONCE + MOST_PAGES_WAITING:
            raise Overloaded(retry_after_s=1, reason="too many lists at once")
        self._pages_asked += 1
        try:
            async with self._pages:
                return await self._page(filters, below, cursor is None, limit)
        finally:
            self._pages_asked -= 1

    async def _page(self, filters: Filters, below: int, first: bool, limit: int) -> Page:
        from_place = 0
        async with self._pool.acquire() as connection, connection.transaction(readonly=True):
            await connection.execute(filtering.ALONG_INDEXES)
            if filters.until is not None and first:
                below = await _first_place(connection, filters.until + filtering.SKEW) or below
            if filters.since is not None:
                from_place = await _first_place(connection, filters.since - filtering.SKEW) or 0
            found = []
            for way in filtering.branches(filters):
                sql, values = filtering.statement(way, filters, below, from_place, self._most_scanned, limit + 1)
                found.append(_complete(await connection.fetch(sql, *values), limit))
        floor = max((branch.floor for branch in found), default=0)
        rows = sorted((row for branch in found for row in branch.rows if row[0] >= floor), reverse=True, key=_place)
        if len(rows) > limit:
            rows = rows[:limit]
            floor = rows[-1][0]
        following = filtering.write_cursor(filters, floor) if floor else None
        return Page(tuple(row for _, row in rows), following)

    async def reply(self, view: TransactionView) -> bytes:
        """The stored reply of a transaction, the bytes its caller was or would have been answered with.

        Raises the stored error where the outcome was a no or a failure; NotFound (404) while there is no outcome, and
        for a query whose answer was not kept; ReplyErased (410) where reply or key are gone.
        """
        row = view.row
        if row.open:
            raise NotFound(_NO_OUTCOME_YET, reason="no outcome yet")
        earliest = earliest_of(row.tx)
        assert earliest is not None  # it was found by it
        stored = await self._pool.fetchrow(_REPLY, row.tx, earliest, row.accepted_at + _CLOCKS)
        if stored is None:
            if row.mode == "submission":
                raise ReplyErased(reason="reply gone")
            raise NotFound(_NOT_KEPT, reason="the reply of a query without a key is not kept")
        if stored["code"]:
            raise error_of(stored["code"], stored["provider_code"])
        if stored["body"] is None or stored["wrapped"] is None or stored["expires_at"] <= now():
            raise ReplyErased(reason="reply or key gone")
        try:
            return self._vault.unwrap(stored["wrapped"], row.tx).open(stored["body"], REPLY_AAD)
        except VaultError as error:
            raise Internal(reason=f"a stored reply does not open: {error}") from error

    def follow(self, filters: Filters, after: Position | None) -> Follower:
        """The entries that come after `after`, or from now on."""
        return Follower(self._pool, filters, after)


async def _first_place(connection: asyncpg.Connection, at: datetime) -> int | None:
    found: int | None = await connection.fetchval(filtering.FIRST_PLACE, at)
    return found


def _complete(records: list[asyncpg.Record], limit: int) -> _Found:
    rows = [(record["place"], row_of(record)) for record in records if record["fits"]]
    if records and (len(records) > limit or records[-1]["stopped"]):
        return _Found(rows, records[-1]["place"])
    return _Found(rows, 0)


def earliest_of(tx: str) -> datetime | None:
    """No entry of `tx` is older: the time in its UUIDv7 less what clocks may differ. None for a time out of range.

    There is no such bound above: an outcome may come weeks after the acceptance.
    """
    try:
        return datetime.fromtimestamp(int(tx[:8] + tx[9:13], 16) / 1000, UTC) - _CLOCKS
    except (ValueError, OverflowError):
        return None


def _entry(kind: int, at: datetime, body: bytes) -> EntryView:
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        members = None
    return EntryView(KINDS.get(kind, str(kind)), at, members if isinstance(members, dict) else {}, body)


def _place(found: tuple[int, TransactionRow]) -> int:
    return found[0]


_NO_OUTCOME_YET = Text(
    "Giao dịch chưa có kết quả. Hãy hỏi lại trạng thái của giao dịch.",
    "The transaction has no outcome yet. Ask for its state again.",
)
_NOT_KEPT = Text(
    "Dữ liệu trả lời của truy vấn này không được lưu: nó đã được gửi ngay trong câu trả lời.",
    "The reply to this query was not kept: it was given in the answer itself.",
)
