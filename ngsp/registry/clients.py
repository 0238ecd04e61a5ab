"""Clients and their keys: put, find, list, add a key, revoke one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp.errors import Fault, InvalidRegistration, NotFound, ScopeMissing, StateConflict
from ngsp.registry import rows
from ngsp.registry.change import ANY, Change, Condition, Row, Stored, fetch, find
from ngsp.registry.documents import ClientDocument, KeyDocument
from ngsp.registry.jwk import public_jwk, thumbprint
from ngsp.registry.model import Client, ClientKey
from ngsp.registry.tables import client_keys, clients
from ngsp.registry.texts import Wrong
from ngsp.text import Text

MEMBERS_OWN_SCOPES = frozenset(("exchange", "adapter", "registry"))
"""What a member's registry client may give to clients of its member; the others are an operator's to give."""
MOST_KEYS = 20


async def put_client(
    change: Change, client_id: str, document: ClientDocument, secret_hash: str, condition: Condition = ANY
) -> Stored[Client]:
    """Creates or replaces a client. `secret_hash`: of the secret made for it, used where the document asks for one.

    `changes` holds `secret_hash` where the secret changed; tokens issued before that are then refused.
    """
    row = await change.find(clients, id=client_id)
    _check_right(change, document.member, frozenset(document.scopes))
    if row is not None:
        _check_right(change, row["member"], frozenset(row["scopes"]))
    condition.check(row["row_version"] if row else None)
    if row is not None and row["member"] != document.member:
        raise InvalidRegistration(
            faults=(Fault("/member", Text("Hệ thống không chuyển cơ quan.", "A client stays with its member.")),),
            reason="a client cannot change its member",
        )
    if row is not None and row["sandbox"] != document.sandbox:
        # Under its idempotency keys stand outcomes of the other kind.
        stays = Text("Hệ thống không đổi loại: hãy tạo hệ thống khác.", "A client stays what it is: make another.")
        raise InvalidRegistration(faults=(Fault("/sandbox", stays),), reason="a client entering or leaving the sandbox")
    await change.need_member(document.member, "/member")
    values: dict[str, Any] = {
        "member": document.member,
        "name_vi": document.name.vi,
        "name_en": document.name.en,
        "scopes": sorted(set(document.scopes)),
        "active": document.active,
        "sandbox": document.sandbox,
        "secret_hash": _new_hash(row["secret_hash"] if row else None, document, secret_hash),
        "tokens_valid_from": row["tokens_valid_from"] if row else None,
    }
    if row is not None and (
        (row["secret_hash"] and row["secret_hash"] != values["secret_hash"]) or (row["active"] and not document.active)
    ):
        values["tokens_valid_from"] = change.now
    version, changes = await change.put(clients, {"id": client_id}, values, row)
    keys = await _keys(change.connection, [client_id])
    return Stored(rows.client({"id": client_id, **values}, keys[client_id]), version, row is None, changes)


def _new_hash(old: str | None, document: ClientDocument, fresh: str) -> str:
    wish = document.secret or ("generate" if old is None else "keep")
    if wish == "generate":
        return fresh
    return "" if wish == "none" else old or ""


def _check_right(change: Change, member: str, scopes: frozenset[str]) -> None:
    """A member's registry client keeps its own member's clients, and never makes or takes over a stronger one."""
    actor = change.actor
    if not actor.is_operator and (actor.member != member or not scopes <= MEMBERS_OWN_SCOPES):
        raise ScopeMissing(
            Text(
                "Chỉ được quản lý hệ thống của cơ quan mình với các quyền exchange, adapter, registry; "
                "việc khác cần người vận hành.",
                "You may keep clients of your own member with the scopes exchange, adapter and registry; "
                "anything else takes an operator.",
            ),
            reason="another member's client, or a scope of operators",
        )


async def add_key(
    change: Change, client_id: str, document: KeyDocument, condition: Condition = ANY
) -> tuple[ClientKey, Stored[Client]]:
    """Adds a public key; the same key again changes nothing. 409 where the `kid` is taken by another key."""
    row = await _own_client(change, client_id, condition)
    try:
        jwk = public_jwk(document.alg, document.jwk)
    except Wrong as wrong:
        raise InvalidRegistration(faults=(Fault("/jwk", wrong.text),), reason="not a public key") from None
    kid = document.kid or thumbprint(jwk)
    existing = (await _keys(change.connection, [client_id]))[client_id]
    same = next((key for key in existing if key["kid"] == kid), None)
    if same is not None:
        if same["revoked_at"] is not None or same["jwk"] != jwk:
            raise StateConflict(
                Text("Mã khóa (kid) này đã được dùng.", "This kid is already taken."), reason="kid taken or revoked"
            )
        return rows.client_key(same), Stored(rows.client(row, existing), row["row_version"])
    if sum(key["revoked_at"] is None for key in existing) >= MOST_KEYS:
        raise StateConflict(
            Text(f"Mỗi hệ thống có nhiều nhất {MOST_KEYS} khóa.", f"A client has at most {MOST_KEYS} keys."),
            reason="too many keys",
        )
    values = {
        "kid": kid,
        "alg": document.alg,
        "jwk": jwk,
        "valid_from": document.valid_from or change.now,
        "valid_to": document.valid_to,
    }
    await change.connection.execute(insert(client_keys).values(client=client_id, **values))
    stored = await _touch(change, row)
    return rows.client_key(values), stored


async def revoke_key(change: Change, client_id: str, kid: str, condition: Condition = ANY) -> Stored[Client]:
    """Revokes a key for good: its `kid` is never free again, and tokens issued so far are refused."""
    row = await _own_client(change, client_id, condition)
    key = await change.find(client_keys, client=client_id, kid=kid)
    if key is None or key["revoked_at"] is not None:
        raise NotFound(reason="no such key")
    await change.connection.execute(
        update(client_keys)
        .where(client_keys.c.client == client_id, client_keys.c.kid == kid)
        .values(revoked_at=change.now)
    )
    return await _touch(change, row, tokens_valid_from=change.now)


async def _own_client(change: Change, client_id: str, condition: Condition) -> Row:
    row = await change.find(clients, id=client_id)
    if row is None or not (change.actor.is_operator or change.actor.member == row["member"]):
        raise NotFound(reason="no such client of this member")
    _check_right(change, row["member"], frozenset(row["scopes"]))
    condition.check(row["row_version"])
    return row


async def _touch(change: Change, row: Row, **values: Any) -> Stored[Client]:
    """The client's row moves with its keys, so that its ETag and the snapshot do."""
    change.touched = True
    moved = {**values, "row_version": row["row_version"] + 1, "revision": change.revision, "updated_at": change.now}
    await change.connection.execute(update(clients).where(clients.c.id == row["id"]).values(**moved))
    return await get_client(change.connection, row["id"])


async def get_client(connection: AsyncConnection, client_id: str) -> Stored[Client]:
    """`NotFound` where there is none."""
    row = await find(connection, clients, id=client_id)
    if row is None:
        raise NotFound(reason="no such client")
    keys = await _keys(connection, [client_id])
    return Stored(rows.client(row, keys[client_id]), row["row_version"])


async def list_clients(connection: AsyncConnection, after: str, limit: int, member: str | None) -> list[Stored[Client]]:
    """At most `limit` clients whose id comes after `after`, by id; of `member` only, where one is given."""
    statement = select(clients).where(clients.c.id > after).order_by(clients.c.id).limit(limit)
    if member is not None:
        statement = statement.where(clients.c.member == member)
    found = await fetch(connection, statement)
    keys = await _keys(connection, [row["id"] for row in found])
    return [Stored(rows.client(row, keys[row["id"]]), row["row_version"]) for row in found]


async def _keys(connection: AsyncConnection, ids: Sequence[str]) -> defaultdict[str, list[Row]]:
    statement = select(client_keys).where(client_keys.c.client.in_(ids)).order_by(client_keys.c.kid)
    grouped: defaultdict[str, list[Row]] = defaultdict(list)
    for row in await fetch(connection, statement):
        grouped[row["client"]].append(row)
    return grouped
