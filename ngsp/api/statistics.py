"""`/v1/statistics`: how much went over the bus and how it ended, by what the caller chooses."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from ngsp.api.caller import Caller, requires
from ngsp.api.names import only_member
from ngsp.api.paging import Page, Paging
from ngsp.api.parts import parts
from ngsp.api.strict import StrictRoute
from ngsp.api.transactions import STATES, asked_service, asked_time
from ngsp.errors import MalformedParameter, ScopeMissing
from ngsp.messages import IDENTIFIER, MEMBER_CODE
from ngsp.text import Text
from ngsp.transactions.entry import now
from ngsp.transactions.statistics import DIMENSIONS, HOURS_KEPT, SPANS, Figures, Span, Wanted, begin_of

router = APIRouter(prefix="/v1/statistics", route_class=StrictRoute, tags=["operating"])

Reader = Annotated[Caller, Depends(requires("exchange", "operator", "auditor"))]
MOST_DIMENSIONS: Final = 4
DAYS_BY_DEFAULT: Final = 7

_MOMENT: Final = timedelta(microseconds=1)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_KEY = re.compile(r"[\x20-\x7e]*")
_BETWEEN = "|"
"""Stands between the values of a group's key in a cursor; no value can hold it."""
_NAMES = ", ".join(DIMENSIONS)


class StatisticsItem(BaseModel):
    """One group. total = open + succeeded + all of `failures`; late successes (*resolved*) are successes.

    `outcomes`: state → transactions. `failures`: class → transactions that ended otherwise than well. `p50_ms`,
    `p95_ms`: from acceptance to outcome, of what was accepted and has ended, within 4.5 %. `dossiers`: different ones,
    with a standard error of 2 %; null where it is not known (by hours, or by or with a filter on adapter, mode,
    outcome, failure or code).
    """

    group: dict[str, str | None]
    total: int
    open: int
    succeeded: int
    outcomes: dict[str, int]
    failures: dict[str, int]
    p50_ms: float | None
    p95_ms: float | None
    last_success_at: datetime | None
    dossiers: int | None


class StatisticsPage(Page[StatisticsItem]):
    """`from`, `to`: what was counted, in whole hours or days."""

    since: datetime = Field(serialization_alias="from")
    until: datetime = Field(serialization_alias="to")


def _wanted(
    caller: Reader,
    since: Annotated[
        str | None,
        Query(alias="from", max_length=40, description="Ngày, hoặc / day (UTC+7), or RFC 3339"),
    ] = None,
    until: Annotated[str | None, Query(alias="to", max_length=40, description="Không gồm / exclusive")] = None,
    by: Annotated[str, Query(max_length=100, description=f"Tối đa {MOST_DIMENSIONS} / at most, of: {_NAMES}")] = "",
    consumer: Annotated[str, Query(max_length=35, pattern=f"^({MEMBER_CODE.pattern})$")] = "",
    provider: Annotated[str, Query(max_length=35, pattern=f"^({MEMBER_CODE.pattern})$")] = "",
    service: Annotated[str, Query(max_length=120, description="Tên, hoặc / name, or provider/name/version")] = "",
    adapter: Annotated[str, Query(max_length=64, pattern=f"^({IDENTIFIER.pattern})$")] = "",
    mode: Annotated[str, Query(max_length=20, pattern="^(query|submission)$")] = "",
    outcome: Annotated[str, Query(max_length=20, pattern=f"^({STATES})$", description="Trạng thái / State")] = "",
) -> Wanted:
    if caller.client.sandbox:
        raise ScopeMissing(_NOT_COUNTED, reason="a client of the sandbox sees nothing real")
    dimensions = tuple(by.split(",")) if by else ()
    if not set(dimensions) <= set(DIMENSIONS) or len(set(dimensions)) < len(dimensions):
        raise MalformedParameter(_BY.format(names=_NAMES), reason="by names no dimension, or one twice")
    if len(dimensions) > MOST_DIMENSIONS:
        raise MalformedParameter(_TOO_MANY, reason="too many dimensions")
    span, begin, end = _range(_asked("from", since), _asked("to", until), "hour" in dimensions)
    path = asked_service(service, provider)
    return Wanted(
        span=span,
        since=begin,
        until=end,
        by=dimensions,
        consumer=consumer,
        provider=path[0],
        service=path[1],
        version=path[2],
        adapter=adapter,
        mode=mode,
        state=outcome,
        member=only_member(caller, "auditor"),
    )


@router.get("")
async def read_statistics(
    request: Request, paging: Paging, wanted: Annotated[Wanted, Depends(_wanted)], caller: Reader
) -> StatisticsPage:
    """Số giao dịch, kết quả, loại lỗi, p50, p95, lần thành công cuối và số hồ sơ, theo các chiều tự chọn (ví dụ
    `by=consumer,service,day`): của cơ quan mình, hoặc tất cả với quyền vận hành, kiểm toán. Mặc định bảy ngày gần nhất.

    Counts, outcomes, failure classes, p50, p95, last success and dossiers, by what you choose (e.g.
    `by=consumer,service,day`): one's own member's, or all for operators and auditors. The last seven days by default.
    """
    listed = f"statistics {','.join(wanted.by)}"
    cursor = paging.after(listed, _KEY)
    after = None if cursor is None else tuple(cursor.split(_BETWEEN))
    if after is not None and len(after) != len(wanted.by):
        raise MalformedParameter(reason="cursor of another list")
    found = await parts(request).statistics.page(wanted, after, paging.limit + 1)
    page = paging.page(listed, found, lambda group: _BETWEEN.join(group.key), lambda group: _item(wanted.by, group))
    return StatisticsPage(items=page.items, next=page.next, since=wanted.since, until=wanted.until)


def _item(by: tuple[str, ...], found: Figures) -> StatisticsItem:
    return StatisticsItem(
        group={name: value or None for name, value in zip(by, found.key, strict=True)},
        total=found.total,
        open=found.open,
        succeeded=found.succeeded,
        outcomes=found.outcomes,
        failures=found.failures,
        p50_ms=found.percentile_ms(0.50),
        p95_ms=found.percentile_ms(0.95),
        last_success_at=found.last_success_at,
        dossiers=found.dossiers,
    )


def _asked(name: str, value: str | None) -> datetime | None:
    """A day is its beginning in Việt Nam."""
    if value is not None and _DAY.fullmatch(value):
        value += "T00:00:00+07:00"
    return asked_time(name, value)


def _range(since: datetime | None, until: datetime | None, hourly: bool) -> tuple[Span, datetime, datetime]:
    """Whole days where the bounds are days' or left out; whole hours, as far back as they are kept, where not."""
    today = begin_of(now(), "day")
    until = today + SPANS["day"] if until is None else until
    since = begin_of(until - _MOMENT, "day") - (DAYS_BY_DEFAULT - 1) * SPANS["day"] if since is None else since
    daily = not hourly and since == begin_of(since, "day") and until == begin_of(until, "day")
    span: Span = "day" if daily else "hour"
    begin, end = begin_of(since, span), begin_of(until + SPANS[span] - _MOMENT, span)
    if span == "hour" and begin < begin_of(now() - HOURS_KEPT, "hour"):
        raise MalformedParameter(_HOURS.format(days=HOURS_KEPT.days), reason="hours that are not kept any more")
    return span, begin.astimezone(UTC), end.astimezone(UTC)


_NOT_COUNTED = Text(
    "Hệ thống thử nghiệm không được tính vào thống kê.",
    "The sandbox has no statistics: what it answers is not counted.",
)
_BY = Text(
    "Tham số by gồm các chiều sau, cách nhau bằng dấu phẩy, không lặp lại: {names}.",
    "The parameter by lists some of these, separated by commas, none twice: {names}.",
)
_TOO_MANY = Text(
    f"Tham số by có tối đa {MOST_DIMENSIONS} chiều.", f"The parameter by takes at most {MOST_DIMENSIONS} dimensions."
)
_HOURS = Text(
    "Số liệu theo giờ chỉ có trong {days} ngày gần nhất; xa hơn thì from và to phải là ngày (ví dụ 2026-11-22).",
    "Figures by hours are kept for the last {days} days; further back from and to must be days (e.g. 2026-11-22).",
)
