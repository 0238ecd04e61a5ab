"""Subscriptions to events: put, new secrets, replay, resume. Finding them is `subscription_records.py`."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.errors import Fault, InvalidRegistration, NotFound, StateConflict
from ngsp.messages import TRANSACTION_ID
from ngsp.registry import rows
from ngsp.registry.agreement_records import AgreementRecord, get_agreement, list_consumed
from ngsp.registry.change import ANY, Actor, Change, Condition, Row, Stored, find
from ngsp.registry.cursors import Place, start_place
from ngsp.registry.model import GAP, Subscription, webhook_secret_name
from ngsp.registry.pointers import has_room
from ngsp.registry.sealing import Seal
from ngsp.registry.subscription_documents import NewSecretDocument, ReplayDocument, SubscriptionDocument
from ngsp.registry.tables import agreements, clients, services, subscriptions
from ngsp.registry.webhook_addresses import url_fault
from ngsp.text import Text

SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 - how one begins
"""How Standard Webhooks writes a secret: this, and the bytes in base64."""
MOST_SECRETS = 2
_ENDED = frozenset(("refused", "withdrawn", "revoked", "expired", "superseded"))
_CLOUD_EVENT = ("/specversion", "/id", "/source", "/type", "/data")

_BEGIN = text("""
INSERT INTO subscription_progress (subscription, xid, seq, run)
VALUES (:id, CAST(CAST(:xid AS text) AS xid8), :seq, 1)""")
_GO_ON = text("UPDATE subscription_progress SET stopped = '', failing_since = NULL WHERE subscription = :id")
_TRY_ANEW = text("""
UPDATE subscription_progress SET stopped = '', failing_since = NULL WHERE subscription = :id AND stopped <> :gap""")
"""A gap is never passed over by the way: its owner says where to go on from."""
_RESTART = text("""
UPDATE subscription_progress
SET xid = CAST(CAST(:xid AS text) AS xid8), seq = :seq, run = run + 1, moved_at = clock_timestamp(), stopped = '',
    failing_since = NULL
WHERE subscription = :id""")


@dataclass(frozen=True, slots=True)
class Given:
    """What the registry brings along. `networks`: where webhooks may be though it is not public."""

    seal: Seal
    networks: str


async def put_subscription(
    change: Change, id: str, document: SubscriptionDocument, given: Given, condition: Condition = ANY
) -> tuple[Stored[Subscription], str | None]:
    """Makes or replaces a subscription; the secret where one was made: there is no other moment at which it is seen.

    `NotFound` where it is another member's; 422 with every fault; 409 where the service would be another.
    """
    row = await change.find(subscriptions, id=id)
    member = await _member(change, document, row)
    condition.check(row["row_version"] if row else None)
    if row is not None and row["service"] != document.service:
        raise StateConflict(
            Text("Đăng ký không chuyển sang dịch vụ khác.", "A subscription stays with its service."),
            reason="another service under the same id",
        )
    check = _Check(change, document, member, row, [])
    agreement = await check.all(given.networks)
    secret, secrets = None, list(row["secrets"]) if row is not None and document.url is not None else []
    if document.url is not None and not secrets:
        secret, secrets = _new_secret(id, secrets, given.seal, None)
    values = {
        "member": member,
        "client": check.client,
        "service": document.service,
        "agreement": agreement,
        "purpose": document.purpose,
        "types": sorted(document.types),
        "receiver": document.receiver,
        "url": document.url or "",
        "secrets": secrets,
        "active": document.active,
    }
    version, changes = await change.put(subscriptions, {"id": id}, values, row)
    if row is None:
        place = await start_place(change.connection, document.service, document.from_)
        await change.connection.execute(_BEGIN, {"id": id, "xid": str(place.xid), "seq": place.seq})
    elif changes.keys() & {"url", "receiver", "active"}:
        await change.connection.execute(_TRY_ANEW, {"id": id, "gap": GAP})
    shown = {name: pair for name, pair in changes.items() if name != "secrets"}
    stored = rows.subscription({"id": id, **values, "row_version": version})
    return Stored(stored, version, row is None, shown), secret


async def new_secret(
    change: Change, id: str, document: NewSecretDocument, given: Given, condition: Condition = ANY
) -> tuple[Stored[Subscription], str]:
    """A further secret, with which everything is signed from now on; the one before it for `overlap_s` yet.

    `NotFound` where it is not the caller's member's; 409 where it is no webhook.
    """
    row = await own_row(change.connection, change.actor, id)
    condition.check(row["row_version"])
    if not row["url"]:
        raise StateConflict(
            Text("Đăng ký này không phải webhook.", "This subscription is no webhook."), reason="not a webhook"
        )
    until = change.now + timedelta(seconds=document.overlap_s)
    kept = [one for one in row["secrets"] if _valid(one, change.now)] if document.overlap_s else []
    secret, secrets = _new_secret(id, kept[: MOST_SECRETS - 1], given.seal, until)
    version, _ = await change.put(subscriptions, {"id": id}, {"secrets": secrets}, row)
    stored = rows.subscription(dict(row) | {"secrets": secrets, "row_version": version})
    return Stored(stored, version), secret


async def replay(change: Change, id: str, document: ReplayDocument, condition: Condition = ANY) -> Place:
    """Sets the cursor to `from` and raises the run: what was delivered from there on is delivered again."""
    row = await _taken(change, id, condition)
    place = await start_place(change.connection, row["service"], document.from_)
    await change.connection.execute(_RESTART, {"id": id, "xid": str(place.xid), "seq": place.seq})
    return place


async def resume(change: Change, id: str, condition: Condition = ANY) -> None:
    """Goes on where it was stopped."""
    await _taken(change, id, condition)
    await change.connection.execute(_GO_ON, {"id": id})


async def _taken(change: Change, id: str, condition: Condition) -> Row:
    """A subscription of the actor's that something is done with: its version is another from now on."""
    row = await own_row(change.connection, change.actor, id)
    condition.check(row["row_version"])
    change.touched = True
    stamp = {"row_version": row["row_version"] + 1, "revision": change.revision, "updated_at": change.now}
    await change.connection.execute(update(subscriptions).where(subscriptions.c.id == id).values(**stamp))
    return row


async def own_row(connection: AsyncConnection, actor: Actor, id: str, *, sees_all: bool = False) -> Row:
    """`NotFound` where there is none, or it is another member's and the caller neither an operator nor `sees_all`."""
    row = await find(connection, subscriptions, id=id)
    if row is None or not (sees_all or actor.is_operator or row["member"] == actor.member):
        raise NotFound(reason="no such subscription of this member")
    return row


def _new_secret(id: str, kept: Sequence[Row], seal: Seal, until: datetime | None) -> tuple[str, list[dict[str, Any]]]:
    """The secret as it is shown, and the column `secrets` with it in front."""
    secret = os.urandom(SECRET_BYTES)
    sealed = b64encode(seal(webhook_secret_name(id), secret)).decode()
    older = [dict(one) | {"valid_to": until.isoformat() if until else None} for one in kept]
    return SECRET_PREFIX + b64encode(secret).decode(), [{"sealed": sealed, "valid_to": None}, *older]


def _valid(secret: Row, now: datetime) -> bool:
    return secret["valid_to"] is None or datetime.fromisoformat(secret["valid_to"]) > now


async def _member(change: Change, document: SubscriptionDocument, row: Row | None) -> str:
    """Whose subscription it is or becomes."""
    actor = change.actor
    if row is not None and not (actor.is_operator or row["member"] == actor.member):
        raise NotFound(reason="a subscription of another member")
    wanted = document.member or (row["member"] if row is not None else None if actor.is_operator else actor.member)
    if wanted is None:
        said = Text("Người vận hành phải ghi cơ quan.", "An operator says whose it is.")
        raise InvalidRegistration(faults=(Fault("/member", said),), reason="no member given")
    if row is not None and wanted != row["member"]:
        said = Text("Đăng ký không chuyển cơ quan.", "A subscription stays with its member.")
        raise InvalidRegistration(faults=(Fault("/member", said),), reason="another member under the same id")
    if not actor.is_operator and wanted != actor.member:
        said = Text("Chỉ đăng ký cho cơ quan mình.", "Only for the member of your own.")
        raise InvalidRegistration(faults=(Fault("/member", said),), reason="a subscription for another member")
    await change.need_member(wanted, "/member")
    return wanted


@dataclass(slots=True)
class _Check:
    """One document against what is registered; what is wrong is gathered, so that it is told at once."""

    change: Change
    document: SubscriptionDocument
    member: str
    row: Row | None
    faults: list[Fault]
    client: str = ""

    async def all(self, networks: str) -> str:
        """The agreement's id; `InvalidRegistration` with every fault."""
        service = await self.change.find(services, path=self.document.service)
        if service is None or service["mode"] != "event" or (self.row is None and service["state"] == "retired"):
            self._wrong("/service", Text("Không có dịch vụ sự kiện này.", "There is no such service of events."))
        else:
            for index, name in enumerate(self.document.types):
                if name not in service["events"]:
                    self._wrong(f"/types/{index}", Text("Không có loại này.", "The service has no such type."))
        agreement = await self._agreement() if not self.faults else None
        if self.document.url is not None and (wrong := url_fault(self.document.url, networks)):
            self._wrong("/url", wrong)
        if self.document.receiver is not None:
            await self._receiver(self.document.receiver)
        await self._client()
        if self.faults or agreement is None:
            raise InvalidRegistration(faults=tuple(self.faults), reason="subscription refused")
        return agreement

    def _wrong(self, pointer: str, text: Text) -> None:
        self.faults.append(Fault(pointer, text))

    async def _agreement(self) -> str | None:
        document, named = self.document, self.document.agreement
        if named is None:
            return await self._fitting()
        key = {"id": named} if TRANSACTION_ID.fullmatch(named) else {"consumer": self.member, "reference": named}
        row = await self.change.find(agreements, **key)
        if row is None or row["consumer"] != self.member or row["service"] != document.service:
            said = Text("Không có thỏa thuận này cho dịch vụ.", "There is no such agreement for the service.")
            self._wrong("/agreement", said)
            return None
        found = (await get_agreement(self.change.connection, str(row["id"]))).value
        if self._is_old(found):
            return found.id
        if found.governing.state(self.change.now) in _ENDED:
            self._wrong("/agreement", Text("Thỏa thuận đã kết thúc.", "The agreement has ended."))
        elif document.purpose not in found.governing.agreement.purposes:
            self._wrong("/purpose", Text("Ngoài mục đích của thỏa thuận.", "Not a purpose of the agreement."))
        elif found.governing.agreement.consent_required:
            said = Text("Thỏa thuận đòi đồng ý cho từng lần.", "The agreement asks for a consent to each.")
            self._wrong("/agreement", said)
        return found.id

    async def _fitting(self) -> str | None:
        """The one agreement that fits; the one that holds already, where the purpose stays."""
        known = await list_consumed(self.change.connection, self.member, self.document.service)
        if old := next((stored.value for stored in known if self._is_old(stored.value)), None):
            return old.id
        fitting = [
            record.id
            for record in (stored.value for stored in known)
            if record.governing.state(self.change.now) in ("accepted", "suspended")
            and self.document.purpose in record.governing.agreement.purposes
            and not record.governing.agreement.consent_required
        ]
        if len(fitting) != 1:
            none = Text("Không có thỏa thuận nào phù hợp.", "No agreement fits.")
            several = Text("Nhiều thỏa thuận phù hợp: hãy ghi rõ.", "Several agreements fit: say which.")
            self._wrong("/agreement", several if fitting else none)
            return None
        return fitting[0]

    def _is_old(self, found: AgreementRecord) -> bool:
        """Whether the subscription rests on it already, for the same purpose: then it may have ended meanwhile."""
        row = self.row
        return row is not None and str(row["agreement"]) == found.id and row["purpose"] == self.document.purpose

    async def _receiver(self, path: str) -> None:
        found = await self.change.find(services, path=path)
        if found is None or found["provider"] != self.member or found["mode"] != "submission":
            self._wrong(
                "/receiver",
                Text(
                    "Cơ quan không có dịch vụ nhận (submission) này.",
                    "The member has no such service of mode submission.",
                ),
            )
            return
        kept = self.row is not None and self.row["receiver"] == path and self.row["active"]
        if found["state"] != "active" and self.document.active and not kept:
            self._wrong("/receiver", Text("Dịch vụ nhận chưa hoạt động.", "The receiving service is not active."))
        if found["officer_required"]:
            said = Text("Sự kiện không có cán bộ gửi.", "No officer sends an event, and this service needs one.")
            self._wrong("/receiver", said)
        if not all(has_room(found["request_schema"], place) for place in _CLOUD_EVENT):
            said = Text("Yêu cầu của dịch vụ nhận phải là một CloudEvent.", "The service's request is no CloudEvent.")
            self._wrong("/receiver", said)

    async def _client(self) -> None:
        actor = self.change.actor
        kept = self.row["client"] if self.row is not None else actor.client if actor.member == self.member else None
        self.client = self.document.client or kept or ""
        row = await self.change.find(clients, id=self.client)
        if row is None or row["member"] != self.member or row["sandbox"]:
            self._wrong("/client", Text("Cơ quan không có hệ thống này.", "The member has no such client."))
