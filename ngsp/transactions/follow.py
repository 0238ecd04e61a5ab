"""The log as it grows: its entries in the order of (xid, seq), up to where the projection has come."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from ngsp.errors import MalformedHeader
from ngsp.text import Text
from ngsp.transactions.entry import KINDS, moment
from ngsp.transactions.filters import Arguments, Filters, conditions
from ngsp.transactions.rows import SELECTED, TransactionRow, row_of

MOST_AT_ONCE: Final = 1_000
_FORM = re.compile(r"([0-9]{1,19})-([0-9]{1,9})", re.ASCII)


class Position(NamedTuple):
    """A place in the log: the writing transaction and the entry's number in it. As text `xid-seq`."""

    xid: int
    seq: int

    def __str__(self) -> str:
        return f"{self.xid}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """`MalformedHeader` (400) where `text` is not a position."""
        found = _FORM.fullmatch(text)
        if found is None or int(found[1]) >= 1 << 63 or int(found[2]) >= 1 << 31:
            raise MalformedHeader(
                Text("Last-Event-ID không phải do luồng này trả về.", "The Last-Event-ID is not one of this stream."),
                reason="Last-Event-ID malformed",
            )
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Event:
    """One entry as it became part of the log, with its transaction as it is now."""

    position: Position
    kind: str
    at: datetime
    row: TransactionRow

    def data(self) -> dict[str, Any]:
        """The JSON of the event: never a payload, a reason for operators or a digest."""
        return {"kind": self.kind, "at": moment(self.at), "transaction": self.row.item()}


_STATEMENT = """
WITH looked_at AS (
    SELECT xid, seq, at, tx, kind, lead(1) OVER (ORDER BY xid, seq) IS NULL AS last FROM (
        SELECT xid, seq, at, tx, kind FROM entries
        WHERE (xid, seq) > ($1::xid8, $2::integer) AND (xid, seq) <= ($3::xid8, $4::integer)
        ORDER BY xid, seq LIMIT {most:d}) e
)
SELECT e.xid, e.seq, e.at, e.kind, {selected}, t.tx IS NOT NULL AS fits
FROM looked_at e LEFT JOIN transactions t ON t.tx = e.tx{conditions}
WHERE t.tx IS NOT NULL OR e.last ORDER BY e.xid, e.seq"""


class Follower:
    """Reads on from `after`; from what is in the log now where it is None."""

    def __init__(
        self, pool: asyncpg.Pool, filters: Filters, after: Position | None, most_at_once: int = MOST_AT_ONCE
    ) -> None:
        self._pool, self._most = pool, most_at_once
        self._filtering = Arguments((0, 0, 0, 0))
        wanted = "".join(f" AND {condition}" for condition in conditions(filters, self._filtering))
        self._sql = _STATEMENT.format(most=most_at_once, selected=SELECTED, conditions=wanted)
        self.position = after
        """Everything up to here was given or did not fit."""

    async def read(self) -> tuple[list[Event], bool]:
        """What is new, in order, and whether there may be more at once. At most `MOST_AT_ONCE` entries are looked at.

        The filters are taken against the transactions as they are now: an `outcome` is the one they have by then.
        """
        reached = Position(*await self._pool.fetchrow("SELECT xid, seq FROM projection WHERE id = 1"))
        if self.position is None:
            self.position = reached
        if reached <= self.position:
            return [], False
        values = (*self.position, *reached, *self._filtering[4:])
        records = await self._pool.fetch(self._sql, *values)
        if not records:
            self.position = reached
            return [], False
        self.position = Position(records[-1]["xid"], records[-1]["seq"])
        return [_event(record) for record in records if record["fits"]], self.position < reached


def _event(record: asyncpg.Record) -> Event:
    kind = KINDS.get(record["kind"], str(record["kind"]))
    return Event(Position(record["xid"], record["seq"]), kind, record["at"], row_of(record))
