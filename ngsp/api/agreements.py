"""`/v1/agreements`: propose, amend, answer, suspend, resume, revoke; every version and every step kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel

from ngsp.api.caller import Caller, requires
from ngsp.api.conditions import Expected, etag
from ngsp.api.names import AgreementPath, actor, agreement_id, only_member
from ngsp.api.paging import Page, Paging
from ngsp.api.parts import parts
from ngsp.api.strict import StrictRoute
from ngsp.errors import NotFound
from ngsp.messages import TRANSACTION_ID
from ngsp.registry.agreement_records import AgreementRecord, EventRecord, VersionRecord, get_agreement, list_agreements
from ngsp.registry.change import Condition, Stored
from ngsp.registry.documents import ProposalDocument, ReasonDocument, RefusalDocument, TermsDocument
from ngsp.registry.life import Action
from ngsp.registry.model import AgreementState

router = APIRouter(prefix="/v1/agreements", route_class=StrictRoute, tags=["registry"])

Party = Annotated[Caller, Depends(requires("registry", "operator"))]


class VersionView(BaseModel):
    """One version. `ends_at`: when a later version takes, or took, its place; `valid_to` is exclusive."""

    version: int
    state: AgreementState
    proposed_by: str
    purposes: list[str]
    legal_basis: str
    fields: list[str]
    quota_per_minute: int | None
    quota_per_day: int | None
    valid_from: datetime
    valid_to: datetime | None
    ends_at: datetime | None
    consent_required: bool

    @classmethod
    def of(cls, record: VersionRecord, now: datetime) -> VersionView:
        row = record.row
        return cls(
            version=row["version"],
            state=record.state(now),
            proposed_by=record.proposed_by,
            purposes=row["purposes"],
            legal_basis=row["legal_basis"],
            fields=row["fields"],
            quota_per_minute=row["quota_per_minute"],
            quota_per_day=row["quota_per_day"],
            valid_from=row["valid_from"],
            valid_to=row["valid_to"],
            ends_at=row["ends_at"],
            consent_required=row["consent_required"],
        )


class EventView(BaseModel):
    """Who did what to which version, when and why."""

    version: int
    event: str
    at: datetime
    client: str
    member: str
    reason: str
    legal_basis: str

    @classmethod
    def of(cls, event: EventRecord) -> EventView:
        return cls(
            version=event.version,
            event=event.event,
            at=event.at,
            client=event.client,
            member=event.member,
            reason=event.reason,
            legal_basis=event.legal_basis,
        )


class AgreementView(BaseModel):
    """An agreement. `version`, `state`: of the version that governs: the newest ever accepted, else the newest."""

    id: str
    reference: str | None
    consumer: str
    provider: str
    service: str
    created_at: datetime
    version: int
    state: AgreementState
    versions: list[VersionView]
    events: list[EventView]


def _view(stored: Stored[AgreementRecord]) -> AgreementView:
    record, now = stored.value, datetime.now(UTC)
    return AgreementView(
        id=record.id,
        reference=record.reference,
        consumer=record.consumer,
        provider=record.provider,
        service=record.service,
        created_at=record.created_at,
        version=record.governing.agreement.version,
        state=record.governing.state(now),
        versions=[VersionView.of(version, now) for version in record.versions],
        events=[EventView.of(event) for event in record.events],
    )


def _answer(response: Response, stored: Stored[AgreementRecord]) -> AgreementView:
    response.headers["ETag"] = etag(stored.row_version)
    return _view(stored)


@router.post("", status_code=201)
async def post_agreement(
    request: Request, response: Response, document: ProposalDocument, caller: Party
) -> AgreementView:
    """Cơ quan khai thác đề nghị một thỏa thuận. / The consumer proposes an agreement."""
    stored = await parts(request).registry.propose(actor(caller), document)
    response.headers["Location"] = f"/v1/agreements/{stored.value.id}"
    return _answer(response, stored)


@router.post("/{id:path}/versions", status_code=201)
async def post_version(
    request: Request,
    response: Response,
    id: AgreementPath,
    document: TermsDocument,
    expected: Expected,
    caller: Party,
) -> AgreementView:
    """Đề nghị phiên bản mới; phiên bản cũ còn hiệu lực đến khi bên kia chấp nhận. / Proposes a further version; what
    was accepted holds until the other side accepts it."""
    stored = await parts(request).registry.amend(actor(caller), agreement_id(id), document, expected)
    return _answer(response, stored)


@router.post("/{id:path}/accept")
async def post_accept(
    request: Request, response: Response, id: AgreementPath, expected: Expected, caller: Party
) -> AgreementView:
    """Bên kia chấp nhận đề nghị. / The other side accepts the proposal."""
    return await _act(request, response, id, "accept", None, expected, caller)


@router.post("/{id:path}/refuse")
async def post_refuse(
    request: Request,
    response: Response,
    id: AgreementPath,
    document: RefusalDocument,
    expected: Expected,
    caller: Party,
) -> AgreementView:
    """Bên kia từ chối, nêu lý do và căn cứ pháp lý. / The other side refuses, with its reason and legal basis."""
    return await _act(request, response, id, "refuse", document, expected, caller)


@router.post("/{id:path}/withdraw")
async def post_withdraw(
    request: Request,
    response: Response,
    id: AgreementPath,
    expected: Expected,
    caller: Party,
    document: ReasonDocument | None = None,
) -> AgreementView:
    """Bên đề nghị rút lại đề nghị. / The proposer takes the proposal back."""
    return await _act(request, response, id, "withdraw", document, expected, caller)


@router.post("/{id:path}/suspend")
async def post_suspend(
    request: Request,
    response: Response,
    id: AgreementPath,
    expected: Expected,
    caller: Party,
    document: ReasonDocument | None = None,
) -> AgreementView:
    """Một bên tạm dừng. / Either side suspends."""
    return await _act(request, response, id, "suspend", document, expected, caller)


@router.post("/{id:path}/resume")
async def post_resume(
    request: Request,
    response: Response,
    id: AgreementPath,
    expected: Expected,
    caller: Party,
    document: ReasonDocument | None = None,
) -> AgreementView:
    """Bên đã tạm dừng cho tiếp tục. / The side that suspended resumes."""
    return await _act(request, response, id, "resume", document, expected, caller)


@router.post("/{id:path}/revoke")
async def post_revoke(
    request: Request,
    response: Response,
    id: AgreementPath,
    expected: Expected,
    caller: Party,
    document: ReasonDocument | None = None,
) -> AgreementView:
    """Một bên chấm dứt; những gì đang chờ cũng dừng lại. / Either side ends it; what is queued stops too."""
    return await _act(request, response, id, "revoke", document, expected, caller)


async def _act(
    request: Request,
    response: Response,
    id: str,
    action: Action,
    document: ReasonDocument | RefusalDocument | None,
    expected: Condition,
    caller: Caller,
) -> AgreementView:
    stored = await parts(request).registry.act(
        actor(caller),
        agreement_id(id),
        action,
        reason=document.reason if document else "",
        legal_basis=document.legal_basis if document else "",
        condition=expected,
    )
    return _answer(response, stored)


@router.get("/{id:path}")
async def read_agreement(
    request: Request, response: Response, id: AgreementPath, caller: Annotated[Caller, Depends(requires())]
) -> AgreementView:
    """Một thỏa thuận mà cơ quan mình là một bên. / One agreement that the caller's own member is a party to."""
    async with parts(request).registry.reading() as connection:
        stored = await get_agreement(connection, agreement_id(id))
    if only_member(caller, "auditor") not in (None, stored.value.consumer, stored.value.provider):
        raise NotFound(reason="agreement of other members")
    return _answer(response, stored)


@router.get("")
async def read_agreements(
    request: Request, paging: Paging, caller: Annotated[Caller, Depends(requires())]
) -> Page[AgreementView]:
    """Các thỏa thuận của cơ quan mình, cũ trước mới sau. / The caller's own member's agreements, oldest first."""
    after = paging.after("agreements", TRANSACTION_ID)
    async with parts(request).registry.reading() as connection:
        found = await list_agreements(connection, after, paging.limit + 1, only_member(caller, "auditor"))
    return paging.page("agreements", found, lambda stored: stored.value.id, _view)
