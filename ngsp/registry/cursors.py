"""Places in the log of events: how they are written, and where a subscription begins.

A place is (xid, seq); a subscription stands at the last one of which it has had a delivery made, and goes on after it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.errors import Fault, InvalidRegistration
from ngsp.registry.texts import Wrong, read_moment
from ngsp.text import Text

LAST_SEQ: Final = 2_147_483_647
_CURSOR = re.compile(r"(0|[1-9][0-9]{0,18})-(0|[1-9][0-9]{0,9})")
_MOST_XID = 2**63 - 1


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """After every event at or before (`xid`, `seq`)."""

    xid: int
    seq: int

    def __str__(self) -> str:
        return f"{self.xid}-{self.seq}"


Start = Literal["now", "earliest"] | datetime | Place


def read_start(value: str) -> Start:
    """What `now`, `earliest`, a moment (RFC 3339; a day in Viet Nam) or a cursor (`xid-seq`) means; else `Wrong`."""
    if value == "now":
        return "now"
    if value == "earliest":
        return "earliest"
    if found := _CURSOR.fullmatch(value):
        xid, seq = int(found[1]), int(found[2])
        if xid <= _MOST_XID and seq <= LAST_SEQ:
            return Place(xid, seq)
    try:
        return read_moment(value)
    except Wrong:
        raise Wrong(
            Text(
                "Phải là now, earliest, một thời điểm hoặc một con trỏ (cursor).",
                "Must be now, earliest, a moment or a cursor.",
            )
        ) from None


_BOUNDS = text("""
SELECT CAST(CAST(pg_snapshot_xmin(now) AS text) AS bigint), CAST(CAST(pg_snapshot_xmax(now) AS text) AS bigint)
FROM pg_current_snapshot() now""")
_FIRST = text("""
SELECT CAST(CAST(xid AS text) AS bigint), seq FROM events WHERE service = :service AND at >= :at
ORDER BY xid, seq LIMIT 1""")


async def start_place(connection: AsyncConnection, service: str, wanted: str) -> Place:
    """Where a subscription to `service` stands that begins at `wanted` (see `read_start`).

    `now`: below every transaction that is not over, so that nothing is missed that is acknowledged after this; what is
    in flight at this moment may come too. A moment: before the first event at or after it, and not behind what is in
    flight.
    `InvalidRegistration` (422) for a cursor beyond all that there is.
    """
    start = read_start(wanted)
    if start == "earliest":
        return Place(0, 0)
    # Before the events are looked at: what is not found among them has a higher xid.
    xmin, xmax = (await connection.execute(_BOUNDS)).one()
    if isinstance(start, Place):
        if start.xid >= xmax:
            said = Text("Con trỏ nằm sau mọi sự kiện.", "The cursor is beyond all events.")
            raise InvalidRegistration(faults=(Fault("/from", said),), reason="a cursor of the future")
        return start
    if isinstance(start, datetime):
        first = (await connection.execute(_FIRST, {"service": service, "at": start})).first()
        if first is not None:
            xid, seq = first
            before = Place(xid, seq - 1) if seq > 0 else Place(xid - 1, LAST_SEQ)
            return min(before, Place(xmin - 1, LAST_SEQ))  # what commits later may stand before what is found
    return Place(xmin - 1, LAST_SEQ)
