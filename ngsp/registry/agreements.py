"""Agreements: propose, amend, answer, suspend, revoke. Versions are numbered and kept; every step is an event."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update

from ngsp.errors import Fault, InvalidIdentifier, InvalidRegistration, NotFound, ScopeMissing, StateConflict
from ngsp.messages import ServiceKey, uuid7
from ngsp.registry import life, rows
from ngsp.registry.agreement_records import AgreementRecord, get_agreement
from ngsp.registry.change import ANY, Change, Condition, Row, Stored, fetch, find
from ngsp.registry.documents import ProposalDocument, TermsDocument
from ngsp.registry.event_schemas import any_has_room
from ngsp.registry.pointers import has_room
from ngsp.registry.tables import agreement_events, agreement_versions, agreements, services
from ngsp.text import Text


async def propose(change: Change, document: ProposalDocument) -> Stored[AgreementRecord]:
    """A new agreement with version 1 *proposed* by the consumer. 422 for a service or field that is not there."""
    if not (change.actor.is_operator or change.actor.member == document.consumer):
        raise ScopeMissing(
            Text("Chỉ cơ quan khai thác được đề nghị.", "Only the consumer proposes."), reason="not the consumer"
        )
    await change.need_member(document.consumer, "/consumer")
    service = await _service(change, document.service)
    _check_fields(document, service)
    await _check_reference(change, document)
    agreement_id = uuid7()
    change.touched = True
    await change.connection.execute(
        insert(agreements).values(
            id=agreement_id,
            reference=document.reference,
            consumer=document.consumer,
            provider=service["provider"],
            service=service["path"],
            row_version=1,
            revision=change.revision,
            created_at=change.now,
            updated_at=change.now,
        )
    )
    await _add_version(change, agreement_id, 1, document.consumer, document)
    return await get_agreement(change.connection, agreement_id, created=True)


async def amend(
    change: Change, agreement_id: str, document: TermsDocument, condition: Condition = ANY
) -> Stored[AgreementRecord]:
    """A further version, *proposed*; what is accepted holds until it is. Either side may propose, the other answers."""
    row, versions = await _open(change, agreement_id, condition)
    for version in (versions[-1], rows.governing(versions)):
        life.check_amendable(rows.state_at(version, change.now))
    _check_fields(document, await _service(change, row["service"]))
    operator_outside = change.actor.member not in (row["consumer"], row["provider"])
    proposer = row["consumer"] if operator_outside else change.actor.member
    await _add_version(change, agreement_id, versions[-1]["version"] + 1, proposer, document)
    return await _touched(change, row)


async def act(
    change: Change,
    agreement_id: str,
    action: life.Action,
    *,
    reason: str = "",
    legal_basis: str = "",
    condition: Condition = ANY,
) -> Stored[AgreementRecord]:
    """One step of `life.STEPS`: on the open proposal, or on every version that holds. 409 where it is not possible."""
    row, versions = await _open(change, agreement_id, condition)
    targets = _targets(versions, action, change.now)
    for version in targets:
        step = life.step(rows.state_at(version, change.now), action)
        life.check_side(
            change.actor,
            step.by,
            consumer=row["consumer"],
            provider=row["provider"],
            proposed_by=version["proposed_by"],
            suspended_by=await _suspended_by(change, agreement_id) if step.by == "suspender" else "",
        )
    for version in targets:
        step = life.step(rows.state_at(version, change.now), action)
        await _set_state(change, version, step.to)
        await _note(change, version, step.event, reason, legal_basis)
    if action == "accept":
        await _supersede(change, versions, targets[-1])
    if action == "revoke":
        await _withdraw_proposals(change, versions, reason)
    return await _touched(change, row)


async def _open(change: Change, agreement_id: str, condition: Condition) -> tuple[Row, list[Row]]:
    row = await change.find(agreements, id=agreement_id)
    if row is None:
        raise NotFound(reason="no such agreement")
    life.check_party(change.actor, row["consumer"], row["provider"])
    condition.check(row["row_version"])
    statement = select(agreement_versions).where(agreement_versions.c.agreement == agreement_id)
    return row, await fetch(change.connection, statement.order_by(agreement_versions.c.version))


def _targets(versions: list[Row], action: life.Action, now: datetime) -> list[Row]:
    """The versions an action is about, oldest first; never empty. What governs comes last."""
    if action in life.ON_PROPOSAL:
        if action == "accept" and rows.governing(versions)["state"] == "suspended":
            return [rows.governing(versions)]  # resumed first: accepting would end the suspension unasked
        return [versions[-1]]
    governing = rows.governing(versions)
    holding = [one for one in versions if rows.state_at(one, now) in ("accepted", "suspended")]
    return [*(one for one in holding if one is not governing), governing]


async def _supersede(change: Change, versions: list[Row], accepted: Row) -> None:
    """What held until now ends when the accepted version begins."""
    ends_at = max(change.now, accepted["valid_from"])
    for version in versions:
        if version is accepted or version["state"] != "accepted":
            continue
        if ends_at <= change.now:
            await _set_state(change, version, "superseded", ends_at=ends_at)
            await _note(change, version, "superseded")
        elif version["ends_at"] is None or ends_at < version["ends_at"]:
            await _set_state(change, version, "accepted", ends_at=ends_at)


async def _withdraw_proposals(change: Change, versions: list[Row], reason: str) -> None:
    for version in versions:
        if version["state"] == "proposed":
            await _set_state(change, version, "withdrawn")
            await _note(change, version, "withdrawn", reason)


async def _set_state(change: Change, version: Row, state: str, **values: Any) -> None:
    change.touched = True
    table = agreement_versions
    await change.connection.execute(
        update(table)
        .where(table.c.agreement == version["agreement"], table.c.version == version["version"])
        .values(state=state, **values)
    )


async def _note(change: Change, version: Any, event: str, reason: str = "", legal_basis: str = "") -> None:
    await change.connection.execute(
        insert(agreement_events).values(
            agreement=version["agreement"],
            version=version["version"],
            event=event,
            at=change.now,
            client=change.actor.client,
            member=change.actor.member,
            reason=reason,
            legal_basis=legal_basis,
        )
    )


async def _add_version(change: Change, agreement_id: str, number: int, proposer: str, terms: TermsDocument) -> None:
    valid_from = terms.valid_from or change.now
    if terms.valid_to is not None and terms.valid_to <= max(valid_from, change.now):
        past = Text("valid_to phải ở tương lai và sau valid_from.", "valid_to must be in the future, after valid_from.")
        raise InvalidRegistration(faults=(Fault("/valid_to", past),), reason="ends before it begins")
    change.touched = True
    version = {"agreement": agreement_id, "version": number}
    await change.connection.execute(
        insert(agreement_versions).values(
            **version,
            proposed_by=proposer,
            purposes=terms.purposes,
            legal_basis=terms.legal_basis,
            fields=terms.fields,
            quota_per_minute=terms.quota_per_minute,
            quota_per_day=terms.quota_per_day,
            valid_from=valid_from,
            valid_to=terms.valid_to,
            consent_required=terms.consent_required,
            state="proposed",
        )
    )
    await _note(change, version, "proposed")


async def _service(change: Change, path: str) -> Row:
    """The service at `path`, a disabled one too: an agreement may be what it waits for. `InvalidRegistration` (422)
    where the catalogue would show none."""
    try:
        row = await find(change.connection, services, path=ServiceKey.parse(path).path)
    except InvalidIdentifier:
        row = None
    if row is None or row["state"] == "retired":
        unknown = Text("Không có dịch vụ này, hoặc đã ngừng.", "There is no such service, or it is retired.")
        raise InvalidRegistration(faults=(Fault("/service", unknown),), reason="unknown service")
    return row


def _check_fields(terms: TermsDocument, service: Row) -> None:
    """Fields are of the reply; of a service of events, of the `data` of any of its types."""
    missing = Text("Lược đồ trả lời không có trường này.", "The reply schema has no such field.")
    if service["mode"] == "event":
        missing = Text("Không loại sự kiện nào có trường này trong data.", "No type of event has this field in data.")
    faults = tuple(
        Fault(f"/fields/{index}", missing) for index, field in enumerate(terms.fields) if not _is_there(service, field)
    )
    if faults:
        raise InvalidRegistration(faults=faults, reason="fields outside the schemas")


def _is_there(service: Row, field: str) -> bool:
    if service["mode"] == "event":
        return any_has_room(service["events"], field)
    return has_room(service["reply_schema"], field)


async def _check_reference(change: Change, document: ProposalDocument) -> None:
    if document.reference is None:
        return
    if await change.find(agreements, consumer=document.consumer, reference=document.reference) is not None:
        raise StateConflict(
            Text("Số tham chiếu này đã được dùng.", "This reference is taken already."), reason="reference taken"
        )


async def _suspended_by(change: Change, agreement_id: str) -> str:
    """The member that last suspended the agreement."""
    statement = (
        select(agreement_events.c.member)
        .where(agreement_events.c.agreement == agreement_id, agreement_events.c.event == "suspended")
        .order_by(agreement_events.c.id.desc())
        .limit(1)
    )
    found: str | None = await change.connection.scalar(statement)
    return found or ""


async def _touched(change: Change, row: Row) -> Stored[AgreementRecord]:
    change.touched = True
    await change.connection.execute(
        update(agreements)
        .where(agreements.c.id == row["id"])
        .values(row_version=row["row_version"] + 1, revision=change.revision, updated_at=change.now)
    )
    return await get_agreement(change.connection, row["id"])
