"""`/v1/quarantine`: what was put aside, with its reason; an operator releases or discards it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from ngsp.api.caller import Caller, requires
from ngsp.api.paging import Page, Paging
from ngsp.api.parts import parts
from ngsp.api.strict import StrictRoute
from ngsp.errors import MalformedParameter
from ngsp.text import Text
from ngsp.transactions import quarantine
from ngsp.transactions.quarantine import LAST_ID, Quarantined, State

router = APIRouter(prefix="/v1/quarantine", route_class=StrictRoute, tags=["operating"])

Operator = Annotated[Caller, Depends(requires("operator"))]
RowId = Annotated[int, Path(ge=1, le=LAST_ID, description="Mã mục / Id of the row")]
_ID = re.compile(r"[1-9][0-9]{0,18}")


class QuarantineItem(BaseModel):
    """Something put aside. Never its payload."""

    id: int
    transaction: str | None
    service: str | None
    what: str
    reason: str
    at: datetime
    state: State
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None


class Decision(BaseModel):
    """Why it is released or discarded; kept with it."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=3, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")


@router.get("", response_model=Page[QuarantineItem])
async def read_quarantine(
    request: Request,
    paging: Paging,
    caller: Operator,
    state: Annotated[State, Query(description="Tình trạng / State")] = "held",
) -> Response:
    """Những gì đã bị cách ly, mới nhất trước. / What was put aside, newest first."""
    what = f"quarantine:{state}"
    below = int(paging.after(what, _ID) or LAST_ID)
    if below > LAST_ID:
        raise MalformedParameter(_NO_SUCH_PLACE, reason="cursor out of range")
    found = await quarantine.list_quarantined(parts(request).pool, state, below, paging.limit + 1)
    page = paging.page(what, found, lambda row: str(row.id), Quarantined.item)
    return _json({"items": page.items, "next": page.next})


@router.post("/{id}/discard", response_model=QuarantineItem)
async def discard(request: Request, id: RowId, decision: Decision, caller: Operator) -> Response:
    """Hủy bỏ: nội dung bị xóa, lý do được giữ lại. / Discards it: the payload is deleted, the reason kept."""
    decided = await quarantine.decide(parts(request).pool, id, "discarded", caller.client.id, decision.reason)
    return _json(decided.item())


@router.post("/{id}/release", response_model=QuarantineItem)
async def release(request: Request, id: RowId, decision: Decision, caller: Operator) -> Response:
    """Giải phóng: yêu cầu được gửi lại ngay. / Releases it: the submission is due again at once."""
    decided = await quarantine.decide(parts(request).pool, id, "released", caller.client.id, decision.reason)
    return _json(decided.item())


def _json(document: dict[str, Any]) -> Response:
    return Response(orjson.dumps(document), media_type="application/json", headers={"Cache-Control": "no-store"})


_NO_SUCH_PLACE = Text("Tham số cursor không hợp lệ.", "The cursor is not valid.")
