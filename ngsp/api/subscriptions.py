"""`/v1/subscriptions`: who is sent which events, where to, and how far that has come."""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel

from ngsp.api.caller import Caller, requires
from ngsp.api.conditions import Expected, etag
from ngsp.api.names import SubscriptionPath, actor, only_member, subscription_id, transaction_id
from ngsp.api.paging import Page, Paging, encode, malformed
from ngsp.api.parts import parts
from ngsp.api.strict import StrictRoute
from ngsp.errors import NotFound
from ngsp.registry.change import Stored
from ngsp.registry.deliveries import LAST_PLACE, Attempt, Delivery, list_attempts, list_deliveries
from ngsp.registry.subscription_documents import NewSecretDocument, ReplayDocument, SubscriptionDocument
from ngsp.registry.subscription_records import (
    SubscriptionRecord,
    SubscriptionState,
    get_subscription,
    list_subscriptions,
)
from ngsp.registry.subscriptions import own_row
from ngsp.transactions.entry import now

router = APIRouter(prefix="/v1/subscriptions", route_class=StrictRoute, tags=["events"])

Subscribing = Annotated[Caller, Depends(requires("registry", "operator"))]
AnyCaller = Annotated[Caller, Depends(requires())]
_PLACE = re.compile(r"[1-9][0-9]{0,18}")
DeliveryState = Literal["accepted", "delivered", "succeeded", "failed", "refused", "expired", "unknown", "resolved"]


class SubscriptionView(BaseModel):
    """A subscription. `state`: `inactive`, where it says so itself; `stopped`, where nothing is delivered until it is
    changed, resumed or replayed; `gap`, where what comes next is no longer kept; `waiting`, where something it needs is
    not in force; else `active`. `reason`: why it is stopped or waits, a code.

    `cursor`: of the last event of which a delivery was made, in the `run` that began with the last replay. `open`:
    deliveries that are not ended. Its provider sees neither `client` nor `receiver`, `url`, `agreement`.
    """

    id: str
    member: str
    service: str
    agreement: str | None
    purpose: str
    types: list[str]
    receiver: str | None
    url: str | None
    client: str | None
    active: bool
    state: SubscriptionState
    reason: str | None
    cursor: str
    run: int
    open: int
    delivered_at: datetime | None
    failing_since: datetime | None


class SubscriptionPutView(SubscriptionView):
    """The same, and the secret of the webhook where one was made: it is never shown again."""

    secret: str | None


class AttemptView(BaseModel):
    """One attempt at a webhook. `status`: of HTTP; null where no answer came, and `problem` says what was wrong."""

    attempt: int
    at: datetime
    status: int | None
    problem: str | None
    duration_ms: float

    @classmethod
    def of(cls, attempt: Attempt) -> AttemptView:
        return cls(
            attempt=attempt.attempt,
            at=attempt.at,
            status=attempt.status,
            problem=attempt.problem or None,
            duration_ms=attempt.duration_us / 1000,
        )


class DeliveryView(BaseModel):
    """One event to one subscription: a transaction of its own. `event`: the publication's. `last`: the last attempt."""

    transaction: str
    event: str
    type: str
    cursor: str
    run: int
    at: datetime
    state: DeliveryState
    code: str | None
    attempts: int
    next_attempt_at: datetime | None
    last: AttemptView | None

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryView:
        return cls(
            transaction=delivery.transaction,
            event=delivery.publication,
            type=delivery.type,
            cursor=str(delivery.cursor),
            run=delivery.run,
            at=delivery.at,
            state=delivery.state,
            code=delivery.code or None,
            attempts=delivery.attempts,
            next_attempt_at=delivery.next_at,
            last=AttemptView.of(delivery.last) if delivery.last else None,
        )


class AttemptsView(BaseModel):
    """Newest first."""

    items: list[AttemptView]


def _view(request: Request, caller: Caller, stored: Stored[SubscriptionRecord]) -> SubscriptionView:
    record = stored.value
    subscription, progress = record.subscription, record.progress
    member = only_member(caller, "auditor")
    own = member in (None, subscription.member)
    state, reason = record.state(parts(request).registry.snapshot, now())
    return SubscriptionView(
        id=subscription.id,
        member=subscription.member,
        service=subscription.service,
        agreement=subscription.agreement if own else None,
        purpose=subscription.purpose,
        types=sorted(subscription.types),
        receiver=(subscription.receiver or None) if own else None,
        url=(subscription.url or None) if own else None,
        client=subscription.client if own else None,
        active=subscription.active,
        state=state,
        reason=reason or None,
        cursor=str(progress.cursor),
        run=progress.run,
        open=progress.open,
        delivered_at=progress.delivered_at,
        failing_since=progress.failing_since,
    )


async def _shown(request: Request, response: Response, id: str, caller: Caller) -> SubscriptionView:
    async with parts(request).registry.reading() as connection:
        stored = await get_subscription(connection, id, only_member(caller, "auditor"))
    response.headers["ETag"] = etag(stored.row_version)
    return _view(request, caller, stored)


@router.post("/{id:path}/secret")
async def renew_secret(
    request: Request,
    response: Response,
    id: SubscriptionPath,
    document: NewSecretDocument,
    expected: Expected,
    caller: Subscribing,
) -> SubscriptionPutView:
    """Cấp khóa ký mới cho webhook; khóa cũ còn ký kèm trong overlap_s giây. Khóa chỉ hiện một lần.

    A new secret for a webhook; the one before signs beside it for overlap_s seconds. It is shown once.
    """
    name = subscription_id(id)
    _, secret = await parts(request).registry.new_webhook_secret(actor(caller), name, document, expected)
    response.headers["Cache-Control"] = "no-store"
    return SubscriptionPutView(**dict(await _shown(request, response, name, caller)), secret=secret)


@router.post("/{id:path}/replay")
async def replay_subscription(
    request: Request,
    response: Response,
    id: SubscriptionPath,
    document: ReplayDocument,
    expected: Expected,
    caller: Subscribing,
) -> SubscriptionView:
    """Gửi lại từ một thời điểm hoặc một con trỏ. / Delivers again, from a moment or a cursor on."""
    name = subscription_id(id)
    await parts(request).registry.replay(actor(caller), name, document, expected)
    return await _shown(request, response, name, caller)


@router.post("/{id:path}/resume")
async def resume_subscription(
    request: Request, response: Response, id: SubscriptionPath, expected: Expected, caller: Subscribing
) -> SubscriptionView:
    """Tiếp tục một đăng ký đã bị dừng. / Goes on with a subscription that was stopped."""
    name = subscription_id(id)
    await parts(request).registry.resume(actor(caller), name, expected)
    return await _shown(request, response, name, caller)


def _check_real(caller: Caller) -> None:
    """Deliveries are real transactions."""
    if caller.client.sandbox:
        raise NotFound(reason="a client of the sandbox sees nothing real")


@router.get("/{id:path}/deliveries/{transaction}/attempts")
async def read_attempts(request: Request, id: SubscriptionPath, transaction: str, caller: AnyCaller) -> AttemptsView:
    """Các lần gửi đến webhook của một lần giao, mới nhất trước. / The attempts at one delivery, newest first."""
    name, wanted = subscription_id(id), transaction_id(transaction)
    _check_real(caller)
    async with parts(request).registry.reading() as connection:
        await own_row(connection, actor(caller), name, sees_all=only_member(caller, "auditor") is None)
        found = await list_attempts(connection, name, wanted)
    return AttemptsView(items=[AttemptView.of(attempt) for attempt in found])


@router.get("/{id:path}/deliveries")
async def read_deliveries(
    request: Request,
    id: SubscriptionPath,
    paging: Paging,
    caller: AnyCaller,
    state: Annotated[DeliveryState | None, Query(description="Trạng thái / State")] = None,
) -> Page[DeliveryView]:
    """Các lần giao của một đăng ký, mới nhất trước; một trang có thể ngắn. / The deliveries of a subscription, newest
    first; a page may be short."""
    name = subscription_id(id)
    _check_real(caller)
    what = f"deliveries {name} {state or ''}".strip()
    below = int(paging.after(what, _PLACE) or LAST_PLACE)
    if below > LAST_PLACE:
        raise malformed()
    async with parts(request).registry.reading() as connection:
        await own_row(connection, actor(caller), name, sees_all=only_member(caller, "auditor") is None)
        found, further = await list_deliveries(connection, name, state or "", below, paging.limit)
    return Page(
        items=[DeliveryView.of(delivery) for delivery in found],
        next=None if further is None else encode(what, str(further)),
    )


@router.put("/{id:path}", responses={201: {"model": SubscriptionPutView}})
async def put_subscription(
    request: Request,
    response: Response,
    id: SubscriptionPath,
    document: SubscriptionDocument,
    expected: Expected,
    caller: Subscribing,
) -> SubscriptionPutView:
    """Tạo hoặc thay thế một đăng ký nhận sự kiện; khóa ký của webhook chỉ hiện một lần.

    Creates or replaces a subscription to events; the secret of a webhook is shown once.
    """
    name = subscription_id(id)
    stored, secret = await parts(request).registry.put_subscription(actor(caller), name, document, expected)
    response.status_code = 201 if stored.created else 200
    response.headers["Cache-Control"] = "no-store"
    return SubscriptionPutView(**dict(await _shown(request, response, name, caller)), secret=secret)


@router.get("/{id:path}")
async def read_subscription(
    request: Request, response: Response, id: SubscriptionPath, caller: AnyCaller
) -> SubscriptionView:
    """Một đăng ký của cơ quan mình, hoặc vào dịch vụ của mình. / One subscription of the caller's own member, or to a
    service of its own."""
    return await _shown(request, response, subscription_id(id), caller)


@router.get("")
async def read_subscriptions(request: Request, paging: Paging, caller: AnyCaller) -> Page[SubscriptionView]:
    """Các đăng ký của cơ quan mình và vào dịch vụ của mình, xếp theo định danh. / The subscriptions of the caller's own
    member and those to its services, by id."""
    async with parts(request).registry.reading() as connection:
        found = await list_subscriptions(
            connection, paging.after("subscriptions") or "", paging.limit + 1, only_member(caller, "auditor")
        )
    view = partial(_view, request, caller)
    return paging.page("subscriptions", found, lambda stored: stored.value.subscription.id, view)
