"""Publishing: a provider's client hands over events; each is a transaction, durable with the event itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ngsp.access import authorise_publication
from ngsp.errors import BodyTooLarge, KeyExpired, NgspError, ReplyErased
from ngsp.events.cloudevents import CloudEvent, read
from ngsp.exchange import harmless
from ngsp.messages import uuid7
from ngsp.metrics import Metrics
from ngsp.registry.model import Client, Grant
from ngsp.registry.store import Registry
from ngsp.repeats import Repeats
from ngsp.transactions import entry
from ngsp.transactions.log import TransactionLog, trace_id
from ngsp.transactions.work import Published, Transaction
from ngsp.vault import Vault

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

        Each event is whole or not there; where the log fails among several, some may be there, and the same again
        finds them (`repeated`). Raises what is wrong as the `NgspError` it is, with an entry in the log where it is
        the client's fault.
        """
        first = uuid7()
        call = _kept(client, traceparent)
        try:
            grant = authorise_publication(self._registry.snapshot, client, path, entry.now())
            events = [
                self._checked(grant, value, body, "" if alone else f"/{index}")
                for index, (value, body) in enumerate(sent)
            ]
        except NgspError as error:
            error.transaction = first
            self._metrics.refused(error.code)
            asked = {"service": known} if (known := harmless(path)) else {}
            await self._log.refuse(first, call, asked, error)
            raise
        ids = [first, *(uuid7() for _ in events[1:])]
        done = [self._publish_one(grant, call, tx, event, traceparent) for tx, event in zip(ids, events, strict=True)]
        return list(await asyncio.gather(*done))

    def _checked(self, grant: Grant, value: Any, body: bytes | None, at: str) -> CloudEvent:
        event = read(value, body, grant.service, at)
        if len(event.body) > grant.service.max_body_bytes:
            raise BodyTooLarge(reason="an event is too large")
        return event

    async def _publish_one(
        self, grant: Grant, call: dict[str, str], tx: str, event: CloudEvent, traceparent: str
    ) -> Publication:
        at = entry.now()
        transaction = Transaction(
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
        if await self._log.publish(transaction, Published(event.type, event.body, event.key)) == "accepted":
            self._metrics.ended(grant.service.path, "succeeded", "")
            self._on_published()
            return Publication(event.id, tx, repeated=False)
        try:
            found = await self._repeats.answer(transaction, self._log.key_names(transaction))
        except (KeyExpired, ReplyErased) as error:  # published so long ago that no more of it is kept
            return Publication(event.id, error.transaction, repeated=True)
        return Publication(event.id, found.transaction, repeated=True)


def _kept(client: Client, traceparent: str) -> dict[str, str]:
    """What the entries keep of who published."""
    found = {"client": client.id, "member": client.member, "trace": trace_id(traceparent)}
    return {name: value for name, value in found.items() if value}
