"""`/v1/transactions`: what happened, for the two ends of it, for operators and auditors."""

from __future__ import annotations

import asyncio
import base64
import re
from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from pydantic import BaseModel

from ngsp.api.caller import Caller, requires
from ngsp.api.names import only_member
from ngsp.api.paging import Page, Paging
from ngsp.api.parts import parts
from ngsp.api.problems import response
from ngsp.api.streaming import EventStream, open_stream
from ngsp.api.strict import PROBLEMS, StrictRoute, single_header
from ngsp.errors import Internal, InvalidIdentifier, MalformedParameter, NgspError, NotFound
from ngsp.messages import IDENTIFIER, MEMBER_CODE, SERVICE_NAME, TRANSACTION_ID, ServiceKey
from ngsp.text import Text
from ngsp.transactions.filters import Filters
from ngsp.transactions.find import Finder, TransactionView, earliest_of
from ngsp.transactions.follow import Position

router = APIRouter(prefix="/v1/transactions", route_class=StrictRoute, tags=["transactions"])

MOST_WAIT_S = 60
Reader = Annotated[Caller, Depends(requires("exchange", "operator", "auditor"))]
TransactionPath = Annotated[str, Path(description="Mã giao dịch (UUIDv7) / Transaction id")]

_WAIT = re.compile(r"(?:^|[,;])\s*wait=(\d{1,4})\b", re.ASCII)
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)", re.ASCII)
STATES = "accepted|delivered|succeeded|refused|failed|expired|unknown|resolved"


class AgreementReference(BaseModel):
    """`version` is null where a call that was refused only named the agreement."""

    id: str
    version: int | None


class TransactionItem(BaseModel):
    """A transaction. `code`, `failure_class`, `status`: of what its state came from, null on success or before."""

    id: str
    state: str
    mode: str
    accepted_at: datetime
    ended_at: datetime | None
    client: str
    consumer: str | None
    provider: str | None
    service: str | None
    adapter: str | None
    agreement: AgreementReference | None
    purpose: str | None
    officer: str | None
    dossier: str | None
    procedure: str | None
    trace: str | None
    code: str | None
    failure_class: str | None
    provider_code: str | None
    status: int | None
    request_bytes: int | None
    reply_bytes: int | None
    duration_ms: float | None
    sandbox: bool


class TransactionDocument(TransactionItem):
    """A transaction with its entries: their members, and `canonical`, the exact bytes in base64."""

    entries: list[dict[str, Any]]


def _filters(
    caller: Reader,
    since: Annotated[str | None, Query(alias="from", max_length=40, description="RFC 3339")] = None,
    until: Annotated[
        str | None, Query(alias="to", max_length=40, description="RFC 3339, không gồm / exclusive")
    ] = None,
    consumer: Annotated[str, Query(max_length=35, pattern=f"^({MEMBER_CODE.pattern})$")] = "",
    provider: Annotated[str, Query(max_length=35, pattern=f"^({MEMBER_CODE.pattern})$")] = "",
    service: Annotated[str, Query(max_length=120, description="Tên, hoặc / name, or provider/name/version")] = "",
    outcome: Annotated[str, Query(max_length=20, pattern=f"^({STATES})$", description="Trạng thái / State")] = "",
    purpose: Annotated[str, Query(max_length=64, pattern=f"^({IDENTIFIER.pattern})$")] = "",
    dossier: Annotated[str, Query(max_length=64, pattern=r"^[\x21-\x7e]+$")] = "",
    trace: Annotated[str, Query(max_length=32, pattern=r"^[0-9a-f]{32}$", description="W3C trace-id")] = "",
    officer: Annotated[str, Query(max_length=64, pattern=r"^[\x21-\x7e]+$")] = "",
    sandbox: Annotated[bool, Query(description="Chỉ của hệ thống thử nghiệm / Those of the sandbox only")] = False,
) -> Filters:
    path = asked_service(service, provider)
    return Filters(
        since=asked_time("from", since),
        until=asked_time("to", until),
        consumer=consumer,
        provider=path[0],
        service=path[1],
        version=path[2],
        state=outcome,
        purpose=purpose,
        dossier=dossier,
        trace=trace,
        officer=officer,
        member=only_member(caller, "auditor"),
        sandbox=sandbox or caller.client.sandbox,
    )


Wanted = Annotated[Filters, Depends(_filters)]


@router.get("", response_model=Page[TransactionItem])
async def read_transactions(request: Request, paging: Paging, wanted: Wanted, caller: Reader) -> Response:
    """Các giao dịch, mới nhất trước: của cơ quan mình, hoặc tất cả với quyền vận hành, kiểm toán. Một trang có thể
    ngắn hơn `limit`, kể cả rỗng: còn `next` là còn tiếp.

    Transactions, newest first: one's own member's, or all for operators and auditors. A page may be shorter than
    `limit`, even empty: there is more as long as there is a `next`.
    """
    page = await parts(request).finder.page(wanted, paging.cursor, paging.limit)
    return _json({"items": [row.item() for row in page.rows], "next": page.next})


@router.get(
    "/stream",
    response_model=None,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
    openapi_extra={PROBLEMS: [429]},
)
async def stream_transactions(
    request: Request,
    wanted: Wanted,
    caller: Reader,
    last_event_id: Annotated[str | None, Header(description="id của sự kiện cuối / id of the last event")] = None,
) -> EventStream:
    """Luồng sự kiện (SSE) theo thứ tự của nhật ký, nối lại được bằng `Last-Event-ID`; kết thúc khi mã truy cập hết hạn.

    Server-sent events in the log's order, resumable with `Last-Event-ID`; ends when the access token expires.
    """
    after = single_header(request, "last-event-id")
    return open_stream(request, caller, wanted, Position.parse(after) if after else None)


@router.get("/{id}", response_model=TransactionDocument)
async def read_transaction(
    request: Request,
    id: TransactionPath,
    caller: Reader,
    prefer: Annotated[str | None, Header(description="wait=30: chờ kết quả / wait for the outcome")] = None,
) -> Response:
    """Một giao dịch với các bản ghi của nó; `Prefer: wait=N` chờ kết quả, tối đa 60 giây.

    One transaction with its entries; `Prefer: wait=N` waits for the outcome, at most 60 seconds.
    """
    finder = parts(request).finder
    view = await _visible(finder, id, caller)
    headers = {}
    asked = _WAIT.search(prefer) if prefer else None
    if asked and not finder.waiting.full:
        wait_s = min(int(asked[1]), MOST_WAIT_S)
        headers["Preference-Applied"] = f"wait={wait_s}"
        if view.row.open and wait_s:
            await _wait(request, finder, id, wait_s)
            view = await _visible(finder, id, caller)
    if view.row.open:
        headers["Retry-After"] = "1"
    return _json(_document(view, reasons=only_member(caller, "auditor") is None), headers)


@router.get(
    "/{id}/reply",
    response_model=None,
    responses={200: {"content": {"application/json": {}}}},
    openapi_extra={PROBLEMS: [409, 410, 502, 504]},
)
async def read_reply(
    request: Request, id: TransactionPath, caller: Annotated[Caller, Depends(requires("exchange"))]
) -> Response:
    """Dữ liệu trả lời đã lưu, nguyên từng byte, cho bên gọi; nếu kết quả là từ chối hay lỗi thì là lỗi đó.

    The stored reply, byte for byte, to its caller; where the outcome was a no or a failure, that error.
    """
    finder = parts(request).finder
    view = await _visible(finder, id, caller)
    if view.row.consumer != caller.client.member:
        raise NotFound(reason="the reply is for the calling end only")
    try:
        body = await finder.reply(view)
    except Internal:
        raise
    except NgspError as error:
        error.sandbox = view.row.sandbox
        return response(error, request, f"/v1/transactions/{id}", [(b"ngsp-transaction", id.encode())])
    headers = {"Cache-Control": "no-store", "Ngsp-Transaction": id}
    if view.row.sandbox:
        headers["Ngsp-Sandbox"] = "true"
    return Response(body, media_type="application/json", headers=headers)


async def _visible(finder: Finder, id: str, caller: Caller) -> TransactionView:
    """One and the same 404 for a transaction that is not there and one that is not the caller's to see."""
    view = await finder.get(id) if TRANSACTION_ID.fullmatch(id) else None
    if view is None:
        raise NotFound(reason="no such transaction")
    member = only_member(caller, "auditor")
    if member is not None and not view.row.may_be_seen_by(member):
        raise NotFound(reason="not an end of the transaction")
    if caller.client.sandbox and not view.row.sandbox:
        raise NotFound(reason="a client of the sandbox sees nothing real")
    return view


async def _wait(request: Request, finder: Finder, id: str, wait_s: float) -> None:
    """Until the outcome is there, the time is over, the caller is gone, or the gateway closes."""
    earliest = earliest_of(id)
    assert earliest is not None  # it was found by it
    waits = [
        asyncio.create_task(finder.waiting.ended(id, earliest)),
        asyncio.create_task(_caller_gone(request)),
        asyncio.create_task(parts(request).closing.wait()),
    ]
    try:
        await asyncio.wait(waits, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _caller_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        continue


def _document(view: TransactionView, *, reasons: bool) -> dict[str, Any]:
    """`reasons`: with the exact reason of a refusal, which is for operators and auditors; the bytes hold it too."""
    entries = []
    for entry in view.entries:
        members = entry.members
        outcome = members.get("outcome")
        if reasons or not (isinstance(outcome, dict) and "reason" in outcome):
            members = members | {"canonical": base64.b64encode(entry.canonical).decode()}
        else:
            members = members | {"outcome": {name: value for name, value in outcome.items() if name != "reason"}}
        entries.append(members)
    return view.row.item() | {"entries": entries}


def asked_service(service: str, provider: str) -> tuple[str, str, str]:
    """Provider, name and version that are asked for; empty for any."""
    if not service or ("/" not in service and SERVICE_NAME.fullmatch(service)):
        return provider, service, ""
    try:
        key = ServiceKey.parse(service)
    except InvalidIdentifier:
        raise MalformedParameter(_SERVICE_FORM, reason="service malformed") from None
    if provider and key.provider != provider:
        raise MalformedParameter(_TWO_PROVIDERS, reason="service and provider disagree")
    return key.provider, key.name, key.version


def asked_time(name: str, value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        if _RFC_3339.fullmatch(value):
            return datetime.fromisoformat(value)
    except ValueError:
        pass
    raise MalformedParameter(_TIME_FORM.format(name=name), reason=f"{name} is not RFC 3339")


def _json(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    told = {"Cache-Control": "no-store", **(headers or {})}
    return Response(orjson.dumps(document), media_type="application/json", headers=told)


_SERVICE_FORM = Text(
    "Tham số service phải là tên dịch vụ hoặc cơ-quan/tên/phiên-bản.",
    "The parameter service must be a service's name or provider/name/version.",
)
_TWO_PROVIDERS = Text(
    "Tham số service và provider chỉ hai cơ quan khác nhau.",
    "The parameters service and provider name two different members.",
)
_TIME_FORM = Text(
    "Tham số {name} phải là thời điểm RFC 3339, ví dụ 2026-11-22T00:00:00Z (dấu + trong múi giờ viết là %2B).",
    "The parameter {name} must be a time by RFC 3339, e.g. 2026-11-22T00:00:00Z (a + in the zone is written %2B).",
)
