"""The runner: takes requests from the bus, guards the effect, calls the author's function, sends the reply.

Everything that may be done to a message on its way belongs here, never in an adapter.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ngsp.adapter.definition import Adapter, AdapterError, Request
from ngsp.adapter.inbox import TransactionalInbox, UncertainInbox
from ngsp.adapter.manifest import ManifestError, ServiceManifest
from ngsp.bus.base import Bus, Message, Subscription
from ngsp.database import engine
from ngsp.errors import BusUnavailable
from ngsp.messages import OUTCOMES_TOPIC, REPLY_TOPIC_PREFIX, Envelope, Reply
from ngsp.vault import Vault

DEFAULT_IN_WORK = 256
LATEST_START_S = 0.005
"""Less than this before the deadline, work is not begun any more."""

_REPLY_TOPIC = re.compile(re.escape(REPLY_TOPIC_PREFIX) + r"\d{1,5}")
_PLAIN = re.compile(r"[^A-Za-z0-9._/-]")

log = structlog.get_logger(__name__)


class AdapterRunner:
    """Serves one adapter from one bus until stopped.

    `vault` seals the replies kept in the inbox. `folder` holds the inbox of services with an uncertain effect.
    """

    def __init__(
        self,
        adapter: Adapter,
        bus: Bus,
        vault: Vault,
        folder: Path,
        *,
        max_in_work: int = DEFAULT_IN_WORK,
        environment: Callable[[str], str | None] = os.environ.get,
    ) -> None:
        self._adapter, self._bus, self._vault, self._folder = adapter, bus, vault, folder
        self._max_in_work, self._environment = max_in_work, environment
        self._declared = adapter.declared()
        self._stack = AsyncExitStack()
        self._resources: Any = None
        self._transactional: TransactionalInbox | None = None
        self._uncertain: UncertainInbox | None = None
        self._subscription: Subscription | None = None
        self.handled = 0
        """Requests answered since the start."""

    async def start(self) -> None:
        """Open resources and inboxes, then take messages. ManifestError where the adapter is not complete."""
        for path in self._declared:
            self._adapter.function(path)
        await self._open_inboxes({service.effect for service in self._declared.values()})
        self._resources = await self._stack.enter_async_context(self._adapter.open_resources())
        topics = [self._adapter.key(service).request_topic for service in self._adapter.manifest.services]
        self._subscription = await self._bus.work(
            topics, f"ngsp.adapter.{self._adapter.id}", self._handle, self._max_in_work
        )
        log.info("adapter serves", adapter=self._adapter.id, services=sorted(self._declared))

    async def _open_inboxes(self, effects: set[str]) -> None:
        if "transactional" in effects:
            name = self._adapter.manifest.database_url_env
            url = self._environment(name) if name else None
            if not url:
                raise ManifestError(f"{self._adapter.id}: effect transactional needs the variable {name} set")
            database: AsyncEngine = engine(url)
            self._stack.push_async_callback(database.dispose)
            self._transactional = TransactionalInbox(database, self._vault)
            await self._transactional.prepare()
        if "uncertain" in effects:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._uncertain = UncertainInbox(self._folder / f"{self._adapter.id}-inbox.sqlite3", self._vault)
            await self._uncertain.prepare()
            self._stack.push_async_callback(self._uncertain.close)

    @property
    def id(self) -> str:
        return self._adapter.id

    async def stop(self, timeout_s: float = 30.0) -> None:
        """Take no more, finish what is in work, close everything."""
        if self._subscription:
            await self._subscription.stop(timeout_s)
        await self._stack.aclose()
        log.info("adapter stopped", adapter=self._adapter.id, handled=self.handled)

    @property
    def subscription(self) -> Subscription | None:
        return self._subscription

    async def _handle(self, message: Message) -> None:
        try:
            envelope = Envelope.read(message.headers, message.value)
        except (KeyError, ValueError) as error:
            # Not an envelope: nobody to answer. The transaction it may belong to ends by its deadline.
            log.error("a message that is no request was dropped", topic=message.topic, error=type(error).__name__)
            return
        service = self._declared.get(envelope.service)
        if service is None or not (envelope.reply_to == OUTCOMES_TOPIC or _REPLY_TOPIC.fullmatch(envelope.reply_to)):
            log.error("a request for another adapter was dropped", topic=message.topic, transaction=envelope.id)
            return
        reply = await self._reply(service, envelope)
        await self._answer(envelope, replace(reply, adapter=self._adapter.id, attempt=envelope.attempt))
        self.handled += 1

    async def _reply(self, service: ServiceManifest, envelope: Envelope) -> Reply:
        late = envelope.deadline_ms / 1000 - time.time() < LATEST_START_S
        expired = Reply(envelope.id, envelope.service, "expired") if late else None

        async def execute(connection: AsyncConnection | None) -> Reply:
            return await self._execute(envelope, connection)

        try:
            if service.effect == "transactional" and self._transactional:
                return await self._transactional.once(envelope, expired, execute)
            if service.effect == "uncertain" and self._uncertain:
                return await self._uncertain.once(envelope, expired, execute)
        except Exception:
            # The inbox could not be read or committed: nothing was done that a repeat would not find.
            log.exception("inbox unavailable", adapter=self._adapter.id, transaction=envelope.id)
            return Reply(envelope.id, envelope.service, "retry", code="inbox-unavailable")
        return expired or await execute(None)

    async def _execute(self, envelope: Envelope, connection: AsyncConnection | None) -> Reply:
        serve = self._adapter.function(envelope.service)
        try:
            result = await serve(Request(envelope, self._resources, connection))
            body = result if isinstance(result, bytes) else orjson.dumps(result)
            return Reply(envelope.id, envelope.service, "ok", body)
        except AdapterError as error:
            return Reply(envelope.id, envelope.service, error.status, code=_PLAIN.sub("", error.code))
        except Exception as error:  # noqa: BLE001  # whatever an author's code raises is an outcome
            # Neither the message nor the trace is logged: both may hold the citizen's data.
            where, kind = _place(error), type(error).__name__
            log.error("a service function failed", adapter=self.id, error=kind, place=where, transaction=envelope.id)
            return Reply(envelope.id, envelope.service, "failed", code="adapter-error")

    async def _answer(self, envelope: Envelope, reply: Reply) -> None:
        if envelope.reply_to != OUTCOMES_TOPIC:
            # A query's reply is worth something until its deadline only: sent once, watched, never waited for.
            try:
                done = await self._bus.post(envelope.reply_to, reply.headers(), reply.body)
            except BusUnavailable as error:
                log.warning("a reply could not be sent", transaction=envelope.id, reason=error.reason)
                return
            done.add_done_callback(_watch)
            return
        await self._bus.send(envelope.reply_to, reply.headers(), reply.body)


def _place(error: Exception) -> str:
    """File and line where `error` was raised, without its message."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else ""


def _watch(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()):
        log.warning("a reply was not acknowledged by the bus", error=type(error).__name__)
