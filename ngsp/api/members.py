"""`/v1/members`: the organisations on the bus."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from ngsp.api.caller import Caller, requires
from ngsp.api.conditions import Expected, etag
from ngsp.api.names import MemberPath, actor, member_code
from ngsp.api.paging import Page, Paging
from ngsp.api.parts import parts
from ngsp.api.strict import StrictRoute
from ngsp.registry.change import Stored
from ngsp.registry.documents import MemberDocument
from ngsp.registry.members import get_member, list_members
from ngsp.registry.model import Member, Zone
from ngsp.text import Text

router = APIRouter(prefix="/v1/members", route_class=StrictRoute, tags=["registry"])


class TextView(BaseModel):
    """A text in Vietnamese and English."""

    vi: str
    en: str

    @classmethod
    def of(cls, text: Text) -> TextView:
        return cls(vi=text.vi, en=text.en)


class MemberView(BaseModel):
    """A member. `valid_to` is exclusive."""

    code: str
    old_code: str
    name: TextView
    valid_from: date
    valid_to: date | None
    zone: Zone


def _view(stored: Stored[Member]) -> MemberView:
    member = stored.value
    return MemberView(
        code=member.code,
        old_code=member.old_code,
        name=TextView.of(member.name),
        valid_from=member.valid_from,
        valid_to=member.valid_to,
        zone=member.zone,
    )


@router.put("/{code:path}", responses={201: {"model": MemberView}})
async def put_member(
    request: Request,
    response: Response,
    code: MemberPath,
    document: MemberDocument,
    expected: Expected,
    caller: Annotated[Caller, Depends(requires("registry", "operator"))],
) -> MemberView:
    """Tạo hoặc thay thế một cơ quan. / Creates or replaces a member."""
    stored = await parts(request).registry.put_member(actor(caller), member_code(code), document, expected)
    response.status_code = 201 if stored.created else 200
    response.headers["ETag"] = etag(stored.row_version)
    return _view(stored)


@router.get("/{code:path}")
async def read_member(
    request: Request, response: Response, code: MemberPath, caller: Annotated[Caller, Depends(requires())]
) -> MemberView:
    """Một cơ quan. / One member."""
    async with parts(request).registry.reading() as connection:
        stored = await get_member(connection, member_code(code))
    response.headers["ETag"] = etag(stored.row_version)
    return _view(stored)


@router.get("")
async def read_members(
    request: Request, paging: Paging, caller: Annotated[Caller, Depends(requires())]
) -> Page[MemberView]:
    """Các cơ quan, xếp theo mã. / The members, by code."""
    async with parts(request).registry.reading() as connection:
        found = await list_members(connection, paging.after("members") or "", paging.limit + 1)
    return paging.page("members", found, lambda stored: stored.value.code, _view)
