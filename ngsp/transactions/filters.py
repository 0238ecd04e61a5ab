"""What transactions a list or a stream is asked for, and how a list finds them: along one index, a bounded way.

A list goes down the places of the projection (newest first) along the index that fits best, and looks at no more than
a fixed number of rows for one page: where the other filters leave little of them, the page is short and its cursor
leads on. So no combination of filters can make a page dear, however long the log is.
"""

from __future__ import annotations

import hashlib
import re
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from ngsp.errors import MalformedParameter
from ngsp.text import Text
from ngsp.transactions.rows import SELECTED

LAST_PLACE: Final = (1 << 63) - 1
SKEW: Final = timedelta(minutes=5)
"""How far `accepted_at` may lie from the order of places: clocks of gateways, and waits for a commit."""


@dataclass(frozen=True, slots=True)
class Filters:
    """All must hold; empty text: no such filter. `since` is inclusive, `until` exclusive.

    `state`: outcome. `service`: the name alone; a path is `provider`, `service` and `version`. `member`: the end on
    whose behalf is asked: it sees only transactions that it is an end of, and None sees all. `sandbox`: those of the
    sandbox, and no real ones; otherwise real ones only.
    """

    since: datetime | None = None
    until: datetime | None = None
    consumer: str = ""
    provider: str = ""
    service: str = ""
    version: str = ""
    state: str = ""
    purpose: str = ""
    dossier: str = ""
    trace: str = ""
    officer: str = ""
    member: str | None = None
    sandbox: bool = False

    def equalities(self) -> dict[str, str]:
        """Column → the value it must have."""
        names = ("consumer", "provider", "service", "version", "state", "purpose", "dossier", "trace", "officer")
        return {name: value for name in names if (value := getattr(self, name))}

    def digest(self) -> bytes:
        """Eight bytes that tell one list from another."""
        return hashlib.sha256(repr(astuple(self)).encode()).digest()[:8]


class Arguments(list[Any]):
    """Values bound to a statement; `add` returns the place holder."""

    def add(self, value: Any) -> str:
        self.append(value)
        return f"${len(self)}"


def conditions(filters: Filters, arguments: Arguments) -> list[str]:
    """What a row `t` of `transactions` must fulfil, whatever index it was found by."""
    found = ["t.sandbox" if filters.sandbox else "NOT t.sandbox"]
    found += [f"t.{column} = {arguments.add(value)}" for column, value in filters.equalities().items()]
    if filters.since is not None:
        found.append(f"t.accepted_at >= {arguments.add(filters.since)}")
    if filters.until is not None:
        found.append(f"t.accepted_at < {arguments.add(filters.until)}")
    if filters.member is not None:
        own = arguments.add(filters.member)
        # A call refused before acceptance, or of the sandbox, never reached its provider and is not shown to it.
        reached = f"t.provider = {own} AND t.agreement_version > 0 AND NOT t.sandbox"
        found.append(f"(t.consumer = {own} OR ({reached}))")
    return found


@dataclass(frozen=True, slots=True)
class Branch:
    """One way down an index: `column` is its first, with `value`; empty: the index of places alone.

    `partial`: the index's predicate. `besides`: a condition that keeps two branches apart; `{own}` is the member.
    """

    column: str = ""
    value: str = ""
    partial: str = ""
    besides: str = ""


def branches(filters: Filters) -> list[Branch]:
    """The ways that together lead to everything the filters allow, each row on one of them; none where nothing can."""
    if filters.sandbox:
        own = filters.member or filters.consumer
        return [Branch("consumer", own, "t.sandbox") if own else Branch(partial="t.sandbox")]
    for column in ("trace", "dossier", "officer"):
        if value := getattr(filters, column):
            return [Branch(column, value, f"t.{column} IS NOT NULL AND NOT t.sandbox")]
    if filters.member is not None:
        return list(_own(filters, filters.member))
    if filters.state and filters.state != "succeeded":
        return [Branch("state", filters.state, "t.state <> 'succeeded' AND NOT t.sandbox")]
    for column in ("service", "consumer", "provider"):
        if value := getattr(filters, column):
            return [Branch(column, value, "NOT t.sandbox")]
    return [Branch()]


def _own(filters: Filters, member: str) -> Iterator[Branch]:
    if filters.consumer in ("", member):
        yield Branch("consumer", member, "NOT t.sandbox")
    if filters.provider in ("", member) and filters.consumer != member:
        yield Branch("provider", member, "NOT t.sandbox", besides="t.consumer <> {own}")


def statement(
    branch: Branch, filters: Filters, below: int, from_place: int, most_scanned: int, limit: int
) -> tuple[str, Arguments]:
    """The rows on `branch` with a place in [from_place, below), highest first, and where the search had to stop.

    The row that is `stopped` at comes whether it `fits` or not; what is beyond it is unknown.
    """
    arguments = Arguments()
    high, low = arguments.add(below), arguments.add(from_place)
    if branch.column:
        # As rows of two columns: only the index on both gives this order, so that no plan can walk another.
        value = arguments.add(branch.value)
        order = f"t.{branch.column} DESC, t.place DESC"
        within = [
            f"(t.{branch.column}, t.place) < ({value}, {high}::bigint)",
            f"(t.{branch.column}, t.place) >= ({value}, {low}::bigint)",
        ]
    else:
        order = "t.place DESC"
        within = [f"t.place < {high}::bigint", f"t.place >= {low}::bigint"]
    if branch.partial:
        within.append(branch.partial)
    wanted = conditions(filters, arguments)
    if branch.besides:
        wanted.append(branch.besides.format(own=arguments.add(filters.member)))
    fits = " AND ".join(wanted) or "TRUE"
    sql = f"""
        SELECT {SELECTED}, t.place, ({fits}) AS fits, t.looked_at = {most_scanned:d} AS stopped FROM (
            SELECT t.*, row_number() OVER (ORDER BY {order}) AS looked_at FROM transactions t
            WHERE {" AND ".join(within)} ORDER BY {order} LIMIT {most_scanned:d}
        ) t WHERE ({fits}) OR t.looked_at = {most_scanned:d} ORDER BY {order} LIMIT {limit:d}"""  # noqa: S608
    return sql, arguments


ALONG_INDEXES: Final = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL jit = off"""
"""For the transaction of a list: the planner would rather sort everything that matches than go down an index."""

FIRST_PLACE: Final = """
WITH RECURSIVE step (low, high) AS (
    SELECT min(place), max(place) + 1 FROM transactions
    UNION ALL
    SELECT CASE WHEN m.accepted_at < $1 THEN m.place + 1 ELSE s.low END,
           CASE WHEN m.accepted_at < $1 THEN s.high ELSE (s.low + s.high) / 2 END
    FROM step s CROSS JOIN LATERAL (
        SELECT place, accepted_at FROM transactions WHERE place >= (s.low + s.high) / 2 ORDER BY place LIMIT 1) m
    WHERE s.low < s.high)
SELECT low FROM step WHERE low = high"""
"""The place at which transactions accepted at $1 or later begin, by halving: places and times rise together, nearly."""

_CURSOR = struct.Struct(">B8sQ")
_CURSOR_VERSION = 1
_CURSOR_FORM = re.compile(r"[A-Za-z0-9_-]{23}")


def write_cursor(filters: Filters, place: int) -> str:
    """A cursor that leads to what lies below `place` in this list and no other; it holds nothing secret."""
    return urlsafe_b64encode(_CURSOR.pack(_CURSOR_VERSION, filters.digest(), place)).rstrip(b"=").decode()


def read_cursor(filters: Filters, cursor: str) -> int:
    """The place in a cursor. `MalformedParameter` (400) where it is not one, or one of another list."""
    if _CURSOR_FORM.fullmatch(cursor):
        version, digest, place = _CURSOR.unpack(urlsafe_b64decode(cursor + "="))
        if version == _CURSOR_VERSION and digest == filters.digest() and 0 < place <= LAST_PLACE:
            return int(place)
    raise MalformedParameter(
        Text("Tham số cursor không phải do danh sách này trả về.", "The cursor is not one that this list gave."),
        reason="cursor malformed or of another list",
    )
