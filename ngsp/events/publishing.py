"""Publishing: a provider's client hands over events; each is a transaction, durable with the event itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ngsp.access import authorise_publication
from ngsp.errors import BodyTooLarge, Fault, IdempotencyMismatch, KeyExpired, NgspError, ReplyErased
from ngsp.events.cloudevents import CloudEvent, read
from ngsp.exchange import harmless
from ngsp.messages import uuid7
from ngsp.metrics import Metrics
from ngsp.registry.model import Client, Grant
from ngsp.registry.store import Registry
from ngsp.repeats import Repeats
from ngsp.text import Text
from ngsp.transactions import entry
from ngsp.transactions.log import TransactionLog, trace_id
from ngsp.transactions.work import Published, Transaction
from ngsp.vault import Vault

_ANOTHER = Text(
    "Cùng source và id nhưng nội dung khác với sự kiện đã công bố.",
    "The same source and id, with other content than the event that was published.",
)
Sent = Sequence[tuple[Any, bytes | None]]
"""Events as they came: the value of each, and its bytes where it came alone."""


@dataclass(frozen=True, slots=True)
class Publication:
    """That an event is durable. `id`: its own; `transaction`: of the publication. `repeated`: it was before."""

    id: str
    transaction: str
    repeated: bool


class Publisher:
    """Publishes on one gateway. `on_published` is called after each event that is new."""

    def __init__(
        self, registry: Registry, log: TransactionLog, repeats: Repeats, vault: Vault, metrics: Metrics,
        on_published: Callable[[], None],
    ) -> None:  # fmt: skip
        self._registry, self._log, self._repeats = registry, log, repeats
        self._vault, self._metrics, self._on_published = vault, metrics, on_published

    async def publish(
        self, client: Client, path: str, sent: Sent, *, alone: bool, traceparent: str = ""
    ) -> list[Publication]:
        """Publishes `sent` in its order, all of it checked before anything is stored. `alone`: it is no batch.

        Each event is whole or not there; where the log fails among several, or somebody publishes the same at this
        moment, some may be there, and the same again finds them (`repeated`). Raises what is wrong as the `NgspError`
        it is, with an entry in the log where it is the client's fault.
        """
        first, at = uuid7(), [""] if alone else [f"/{index}" for index in range(len(sent))]
        call = _kept(client, traceparent)
        try:
            grant = authorise_publication(self._registry.snapshot, client, path, entry.now())
            events = [self._checked(grant, *one, pointer) for one, pointer in zip(sent, at, strict=True)]
        except NgspError as error:
            await self._refused(error, first, call, path)
            raise
        ids = [first, *(uuid7() for _ in events[1:])]
        found = [self._transaction(grant, call, tx, event, traceparent) for tx, event in zip(ids, events, strict=True)]
        if len(found) > 1:
            names = [self._log.key_names(transaction) for transaction in found]
            if others := await self._repeats.mismatched(grant.service.path, names):
                raise await self._refused(_another([at[index] for index in others]), first, call, path)
        done = map(self._publish_one, found, events, at)
        return list(await asyncio.gather(*done))

    async def _refused(self, error: NgspError, tx: str, call: dict[str, str], path: str) -> NgspError:
        """`error`, once it stands in the log as the transaction `tx`."""
        error.transaction = tx
        self._metrics.refused(error.code)
        asked = {"service": known} if (known := harmless(path)) else {}
        await self._log.refuse(tx, call, asked, error)
        return error

    def _checked(self, grant: Grant, value: Any, body: bytes | None, at: str) -> CloudEvent:
        event = read(value, body, grant.service, at)
        if len(event.body) > grant.service.max_body_bytes:
            raise BodyTooLarge(reason="an event is too large")
        return event

    def _transaction(
        self, grant: Grant, call: dict[str, str], tx: str, event: CloudEvent, traceparent: str
    ) -> Transaction:
        at = entry.now()
        return Transaction(
            id=tx,
            at=at,
            grant=grant,
            mode="publication",
            call=call,
            deadline=at,
            body=event.canonical(),
            key=self._vault.new_record_key(tx),
            idempotency_key=event.identity().decode(),
            claimant=grant.service.path,
            traceparent=traceparent,
            subjects=event.subjects(grant.service) if grant.service.subjects else [],
        )

    async def _publish_one(self, transaction: Transaction, event: CloudEvent, at: str) -> Publication:
        """`at`: the event's pointer in what was sent."""
        path = transaction.grant.service.path
        if await self._log.publish(transaction, Published(event.type, event.body, event.key)) == "accepted":
            self._metrics.ended(path, "succeeded", "")
            self._on_published()
            return Publication(event.id, transaction.id, repeated=False)
        try:
            found = await self._repeats.answer(transaction, self._log.key_names(transaction))
        except (KeyExpired, ReplyErased) as error:  # published so long ago that no more of it is kept
            return Publication(event.id, error.transaction, repeated=True)
        except IdempotencyMismatch:
            raise await self._refused(_another([at]), transaction.id, transaction.call, path) from None
        return Publication(event.id, found.transaction, repeated=True)


def _another(at: Sequence[str]) -> IdempotencyMismatch:
    return IdempotencyMismatch(_ANOTHER, faults=tuple(Fault(f"{pointer}/id", _ANOTHER) for pointer in at))


def _kept(client: Client, traceparent: str) -> dict[str, str]:
    """What the entries keep of who published."""
    found = {"client": client.id, "member": client.member, "trace": trace_id(traceparent)}
    return {name: value for name, value in found.items() if value}
