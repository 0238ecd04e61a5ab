"""Members: put, find, list."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.errors import NotFound, ScopeMissing
from ngsp.registry import rows
from ngsp.registry.change import ANY, Change, Condition, Stored, fetch, find
from ngsp.registry.documents import MemberDocument
from ngsp.registry.model import Member
from ngsp.registry.tables import members
from ngsp.text import Text


async def put_member(change: Change, code: str, document: MemberDocument, condition: Condition = ANY) -> Stored[Member]:
    """Creates or replaces a member. An operator may do all of it; a member's own registry client, its names only."""
    row = await change.find(members, code=code)
    actor = change.actor
    if not actor.is_operator and (row is None or actor.member != code):
        raise _operators_only()
    condition.check(row["row_version"] if row else None)
    values = {
        "old_code": document.old_code,
        "name_vi": document.name.vi,
        "name_en": document.name.en,
        "valid_from": document.valid_from,
        "valid_to": document.valid_to,
        "zone": document.zone,
    }
    if row is not None and not actor.is_operator:
        changed = {name for name, value in values.items() if row[name] != value}
        if changed - {"name_vi", "name_en"}:
            raise _operators_only()
    version, changes = await change.put(members, {"code": code}, values, row)
    return Stored(rows.member({"code": code, **values}), version, row is None, changes)


def _operators_only() -> ScopeMissing:
    return ScopeMissing(
        Text(
            "Chỉ người vận hành (scope operator) được thêm cơ quan, đổi thời hạn, mã cũ hay vùng mạng của cơ quan.",
            "Only an operator (scope operator) may add a member or change its dates, older code or network zone.",
        ),
        reason="not an operator",
    )


async def get_member(connection: AsyncConnection, code: str) -> Stored[Member]:
    """`NotFound` where there is none."""
    row = await find(connection, members, code=code)
    if row is None:
        raise NotFound(reason="no such member")
    return Stored(rows.member(row), row["row_version"])


async def list_members(connection: AsyncConnection, after: str, limit: int) -> list[Stored[Member]]:
    """At most `limit` members whose code comes after `after`, by code."""
    statement = select(members).where(members.c.code > after).order_by(members.c.code).limit(limit)
    return [Stored(rows.member(row), row["row_version"]) for row in await fetch(connection, statement)]
