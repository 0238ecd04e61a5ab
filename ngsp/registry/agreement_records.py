"""Agreements as the registry shows them: every version, every event. Find and list."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.errors import NotFound
from ngsp.registry import rows
from ngsp.registry.change import Row, Stored, fetch, find
from ngsp.registry.model import Agreement, AgreementState
from ngsp.registry.tables import agreement_events, agreement_versions, agreements


@dataclass(frozen=True, slots=True)
class EventRecord:
    """What was done to a version, when, by which client of which member; `reason`, `legal_basis` where given."""

    version: int
    event: str
    at: datetime
    client: str
    member: str
    reason: str
    legal_basis: str


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """One version: its terms, who proposed it, and its row, from which the state at a moment follows."""

    agreement: Agreement
    proposed_by: str
    row: Row

    def state(self, now: datetime) -> AgreementState:
        return rows.state_at(self.row, now)


@dataclass(frozen=True, slots=True)
class AgreementRecord:
    """An agreement with its versions, oldest first, and its events, oldest first."""

    id: str
    reference: str | None
    consumer: str
    provider: str
    service: str
    created_at: datetime
    versions: tuple[VersionRecord, ...]
    events: tuple[EventRecord, ...]

    @property
    def governing(self) -> VersionRecord:
        row = rows.governing([version.row for version in self.versions])
        return next(version for version in self.versions if version.row is row)


async def get_agreement(
    connection: AsyncConnection, agreement_id: str, *, created: bool = False
) -> Stored[AgreementRecord]:
    """`NotFound` where there is none."""
    row = await find(connection, agreements, id=agreement_id)
    if row is None:
        raise NotFound(reason="no such agreement")
    stored = (await _records(connection, [row]))[0]
    return Stored(stored.value, stored.row_version, created)


async def find_by_reference(
    connection: AsyncConnection, consumer: str, reference: str
) -> Stored[AgreementRecord] | None:
    row = await find(connection, agreements, consumer=consumer, reference=reference)
    return (await _records(connection, [row]))[0] if row is not None else None


async def list_agreements(
    connection: AsyncConnection, after: str | None, limit: int, member: str | None
) -> list[Stored[AgreementRecord]]:
    """At most `limit` agreements whose id comes after `after`, by id; of `member` at either end, where one is given."""
    statement = select(agreements).order_by(agreements.c.id).limit(limit)
    if after is not None:
        statement = statement.where(agreements.c.id > after)
    if member is not None:
        statement = statement.where(or_(agreements.c.consumer == member, agreements.c.provider == member))
    return await _records(connection, await fetch(connection, statement))


async def list_consumed(connection: AsyncConnection, consumer: str, service: str) -> list[Stored[AgreementRecord]]:
    """All that `consumer` has ever had with `service`, by id."""
    statement = select(agreements).where(agreements.c.consumer == consumer, agreements.c.service == service)
    return await _records(connection, await fetch(connection, statement.order_by(agreements.c.id)))


async def _records(connection: AsyncConnection, found: list[Row]) -> list[Stored[AgreementRecord]]:
    ids = [row["id"] for row in found]
    versions = await _grouped(
        connection,
        select(agreement_versions)
        .where(agreement_versions.c.agreement.in_(ids))
        .order_by(agreement_versions.c.agreement, agreement_versions.c.version),
    )
    events = await _grouped(
        connection,
        select(agreement_events).where(agreement_events.c.agreement.in_(ids)).order_by(agreement_events.c.id),
    )
    return [Stored(_record(row, versions[row["id"]], events[row["id"]]), row["row_version"]) for row in found]


async def _grouped(connection: AsyncConnection, statement: Any) -> defaultdict[str, list[Row]]:
    grouped: defaultdict[str, list[Row]] = defaultdict(list)
    for row in await fetch(connection, statement):
        grouped[row["agreement"]].append(row)
    return grouped


def _record(row: Row, versions: list[Row], events: list[Row]) -> AgreementRecord:
    return AgreementRecord(
        id=row["id"],
        reference=row["reference"],
        consumer=row["consumer"],
        provider=row["provider"],
        service=row["service"],
        created_at=row["created_at"],
        versions=tuple(
            VersionRecord(rows.agreement(row, version), version["proposed_by"], version) for version in versions
        ),
        events=tuple(
            EventRecord(
                version=event["version"],
                event=event["event"],
                at=event["at"],
                client=event["client"],
                member=event["member"],
                reason=event["reason"],
                legal_basis=event["legal_basis"],
            )
            for event in events
        ),
    )
