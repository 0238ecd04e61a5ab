"""What is decided of a service and of an adapter: active, disabled, in maintenance until when, retired.

    decided     by     means
    active      –      in force as long as its adapter serves it; ends a maintenance too
    disabled    operator  nobody may call it: registered, but without its legal basis yet, or stopped
    maintenance provider or operator  in force, but its system is away until a given time
    retired     provider or operator  ended; its version is never given to anything else

A decision outlives manifests: a service that a manifest leaves out is retired, and comes back with it as it was
decided.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import update

from ngsp.errors import AccessDenied, Fault, InvalidRegistration, NotFound, StateConflict
from ngsp.registry.adapters import AdapterRecord, get_adapter, state_of
from ngsp.registry.change import ANY, Change, Condition, Row, Stored
from ngsp.registry.documents import ReasonDocument, StateDocument
from ngsp.registry.model import Maintenance, ServiceState
from ngsp.registry.rows import maintenance
from ngsp.registry.tables import adapters, services
from ngsp.text import Text


@dataclass(frozen=True, slots=True)
class Decision:
    """What stands decided of the service at `path`. `state`: as stored; maintenance follows from its times."""

    path: str
    state: ServiceState
    reason: str
    legal_basis: str
    maintenance: Maintenance | None


async def put_state(change: Change, path: str, document: StateDocument, condition: Condition = ANY) -> Stored[Decision]:
    """403 where another member's client decides, or where it takes an operator; 409 where nothing serves it."""
    row = await change.find(services, path=path)
    if row is None:
        raise NotFound(reason="no such service")
    _check_may(change, row, document)
    condition.check(row["row_version"])
    wanted = _wanted(change, row, document)
    differs = {name: (row[name], value) for name, value in wanted.items() if row[name] != value}
    if not differs:
        return Stored(_decision(row), row["row_version"])
    change.touched = True
    stored = dict(row) | wanted | {"decided_by": change.actor.client, "decided_at": change.now}
    stored |= {"row_version": row["row_version"] + 1, "revision": change.revision, "updated_at": change.now}
    await change.connection.execute(update(services).where(services.c.path == path).values(**stored))
    return Stored(_decision(stored), stored["row_version"], changes=differs)


def _check_may(change: Change, row: Row, document: StateDocument) -> None:
    if change.actor.is_operator:
        return
    if change.actor.member != row["provider"]:
        raise AccessDenied(reason="a service of another member")
    if "disabled" in (document.state, row["decided"]):
        raise AccessDenied(
            Text("Việc này do đơn vị vận hành quyết định.", "This is for the node's operators to decide."),
            reason="only operators disable and enable",
        )


def _wanted(change: Change, row: Row, document: StateDocument) -> dict[str, Any]:
    decided = "active" if document.state == "maintenance" else document.state
    if document.state == "maintenance":
        if row["decided"] != "active":
            raise StateConflict(
                Text("Dịch vụ không ở trạng thái hoạt động.", "The service is not active."),
                reason=f"maintenance of a service that is {row['decided']}",
            )
        if document.until is not None and document.until <= change.now:
            past = Text("Phải ở tương lai.", "Must be in the future.")
            raise InvalidRegistration(faults=(Fault("/until", past),), reason="a maintenance that is over")
    if document.state in ("active", "maintenance") and not row["served"]:
        raise StateConflict(
            Text("Không có bộ kết nối nào phục vụ dịch vụ này.", "No adapter serves this service."),
            reason="nothing serves the service",
        )
    until = document.until if document.state == "maintenance" else None
    begins = (document.from_ or _begun(row, change.now)) if until is not None else None
    return {
        "decided": decided,
        "state": state_of(row["served"], decided),
        "reason": document.reason,
        "legal_basis": document.legal_basis,
        "maintenance_from": begins,
        "maintenance_until": until,
    }


def _begun(row: Row, now: datetime) -> datetime:
    """A maintenance that goes on keeps its beginning, so that saying the same again changes nothing."""
    begun, until = row["maintenance_from"], row["maintenance_until"]
    return begun if begun is not None and until is not None and begun <= now < until else now


def _decision(row: Row) -> Decision:
    return Decision(
        path=row["path"],
        state=row["state"],
        reason=row["reason"],
        legal_basis=row["legal_basis"],
        maintenance=maintenance(row),
    )


async def retire_adapter(
    change: Change, adapter_id: str, document: ReasonDocument, condition: Condition = ANY
) -> Stored[AdapterRecord]:
    """Ends an adapter and all that it serves; from then on only an operator can register it again.

    `NotFound` where it is not the caller's own member's. Retired already: nothing changes.
    """
    row = await change.find(adapters, id=adapter_id)
    if row is None or not (change.actor.is_operator or change.actor.member == row["provider"]):
        raise NotFound(reason="no such adapter of this member")
    condition.check(row["row_version"])
    if row["retired_at"] is not None:
        return await get_adapter(change.connection, adapter_id)
    change.touched = True
    await change.connection.execute(
        update(adapters)
        .where(adapters.c.id == adapter_id)
        .values(
            retired_at=change.now,
            retired_by=change.actor.client,
            retired_reason=document.reason,
            row_version=row["row_version"] + 1,
        )
    )
    await change.connection.execute(
        update(services)
        .where(services.c.adapter == adapter_id, services.c.served)
        .values(
            served=False,
            state="retired",
            row_version=services.c.row_version + 1,
            revision=change.revision,
            updated_at=change.now,
        )
    )
    return await get_adapter(change.connection, adapter_id)
