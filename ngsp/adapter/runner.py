"""The runner: takes requests from the bus, guards the effect, calls the author's function, sends the reply.

Everything that may be done to a message on its way belongs here, never in an adapter.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from ngsp import __version__
from ngsp.adapter.addresses import Addresses
from ngsp.adapter.clock import OFF, Clock
from ngsp.adapter.cursors import Cursors
from ngsp.adapter.databases import Allows, passing
from ngsp.adapter.definition import Adapter, AdapterError, Request
from ngsp.adapter.events import Changes
from ngsp.adapter.fill import DEFAULT_BOUNDS, FULL, Bounds
from ngsp.adapter.inbox import TransactionalInbox, UncertainInbox
from ngsp.adapter.manifest import ServiceManifest
from ngsp.adapter.probing import answer_probe
from ngsp.adapter.raised import place_of
from ngsp.adapter.sources import Publish, Sources
from ngsp.adapter.turns import Turns
from ngsp.bus.base import Bus, Message, Subscription
from ngsp.errors import BusUnavailable, NgspError
from ngsp.messages import (
    IN_DOUBT,
    OUTCOMES_TOPIC,
    REPLY_TOPIC_PREFIX,
    TOO_OLD,
    TRANSACTION_ID,
    Envelope,
    Reply,
    ReplyStatus,
    group_of,
)
from ngsp.registry.event_schemas import event_schema_version
from ngsp.registry.schemas import compiled, digest
from ngsp.seldom import Seldom
from ngsp.strictjson import parse
from ngsp.vault import Vault

DEFAULT_IN_WORK = 256
LATEST_START_S = 0.005
"""Less than this before the deadline, work is not begun any more."""
SEND_AGAIN_S = 0.5
LARGEST_REPLY_BYTES = 2_000_000
"""The bus carries messages of 2 MiB, headers included."""
LATEST_DEADLINE_MS = 2**53
MOST_ATTEMPTS = 2**31

_REPLY_TOPIC = re.compile(re.escape(REPLY_TOPIC_PREFIX) + r"[0-9]{1,5}")
_ORDER = re.compile(r"[0-9a-f]{32}")
_PLAIN = re.compile(r"[^A-Za-z0-9._/-]")

_PROCESS = f"{re.sub(r'[^A-Za-z0-9.-]', '-', platform.node())[:60] or 'process'}-{os.getpid()}"

log = structlog.get_logger(__name__)


class AdapterRunner:
    """Serves one adapter from one bus until stopped.

    `vault` seals the replies kept in the inbox. `folder` holds the inbox of services with an uncertain effect, and the
    cursors of sources. `publish`: what its sources give to; None: they are not asked.
    """

    def __init__(
        self,
        adapter: Adapter,
        bus: Bus,
        vault: Vault,
        folder: Path,
        *,
        max_in_work: int = DEFAULT_IN_WORK,
        bounds: Bounds = DEFAULT_BOUNDS,
        clock: Clock | None = None,
        environment: Callable[[str], str | None] = os.environ.get,
        publish: Publish | None = None,
    ) -> None:
        self._adapter, self._bus, self._vault, self._folder = adapter, bus, vault, folder
        self._max_in_work, self._environment, self._bounds = max_in_work, environment, bounds
        self._publish = publish
        self.clock = clock or Clock()
        self._declared = adapter.declared()
        self._requests = {path: compiled(service.request_schema) for path, service in self._declared.items()}
        self._versions = {
            path: f"{digest(service.request_schema)[:16]}.{digest(service.reply_schema)[:16]}"
            for path, service in self._declared.items()
        }
        self._versions |= {path: event_schema_version(service.schemas) for path, service in adapter.published().items()}
        self._topics = {path: adapter.key(service).request_topic for path, service in self._declared.items()}
        self._stack = AsyncExitStack()
        self._resources: Any = None
        self._transactional: TransactionalInbox | None = None
        self._uncertain: UncertainInbox | None = None
        self._subscription: Subscription | None = None
        self._sources: Sources | None = None
        self._seldom = Seldom()
        self._turns = Turns()
        self.handled = 0
        """Requests answered since the start."""

    async def start(self) -> None:
        """Open resources and inboxes, then take messages. ManifestError where the adapter is not complete."""
        for path in self._declared:
            self._adapter.function(path)
        try:
            await self._open_inboxes({service.effect for service in self._declared.values()})
            self._resources = await self._stack.enter_async_context(self._adapter.open_resources(self._environment))
            if self._publish and self._adapter.sources:
                self._sources = await self._open_sources(self._publish)
            limits = {
                self._topics[path]: service.max_in_work
                for path, service in self._declared.items()
                if service.max_in_work
            }
            ordered = [self._topics[path] for path, service in self._declared.items() if service.order != "none"]
            if self._topics:
                self._subscription = await self._bus.work(
                    self._topics.values(), group_of(self._adapter.id), self._handle, self._max_in_work, limits, ordered
                )
            if self._sources:
                self._sources.begin()
        except BaseException:
            await self._stack.aclose()
            raise
        log.info("adapter serves", adapter=self._adapter.id, services=sorted(self._declared))

    async def _open_inboxes(self, effects: set[str]) -> None:
        if "transactional" in effects:
            url, allows = self._database()
            services = [path for path, service in self._declared.items() if service.effect == "transactional"]
            self._transactional = TransactionalInbox(
                url, self._vault, self.clock, allows, self._bounds, self._may_forget, services
            )
            self._stack.push_async_callback(self._transactional.close)
            await self._transactional.prepare()
        if "uncertain" in effects:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{self._adapter.id}-inbox.sqlite3"
            self._uncertain = UncertainInbox(path, self._vault, self.clock, self._bounds, self._may_forget)
            self._stack.push_async_callback(self._uncertain.close)
            await self._uncertain.prepare()

    def _database(self) -> tuple[str, Allows | None]:
        """The provider's database, and which addresses it may have."""
        # A back end's address is its manifest's choice; that of a variable of its own is the operator's.
        of_backend = self._adapter.manifest.database_url_env is None
        url = self._adapter.database_url(self._environment)
        return url, Addresses.of(self._environment).allows if of_backend else None

    async def _open_sources(self, publish: Publish) -> Sources:
        # Beside the inbox, where there is one: a database that we may not make a table in is left alone.
        if self._transactional or self._adapter.manifest.database_url_env:
            url, allows = self._database()
            cursors = Cursors.at(url, self.clock, allows)
        else:
            cursors = Cursors.beside(self._folder / f"{self._adapter.id}-sources.sqlite3", self.clock)
        self._stack.push_async_callback(cursors.close)
        await cursors.prepare()
        return Sources(self._adapter, self._resources, cursors, publish)

    def changes(self, service: str) -> Changes:
        """What the source of the service at a path gives, while this runs. KeyError where it has none."""
        return self._adapter.sources[service].over(self._resources)

    def _may_forget(self) -> bool:
        return not self.clock.is_off

    @property
    def id(self) -> str:
        return self._adapter.id

    async def stop(self, timeout_s: float = 30.0) -> None:
        """Take no more, finish what is in work, close everything."""
        working = (part for part in (self._sources, self._subscription) if part is not None)
        await asyncio.gather(*(part.stop(timeout_s) for part in working))
        await self._stack.aclose()
        log.info("adapter stopped", adapter=self._adapter.id, handled=self.handled)

    @property
    def subscription(self) -> Subscription | None:
        return self._subscription

    @property
    def in_work(self) -> int:
        """Requests that were taken and are not answered yet."""
        return self._subscription.in_work if self._subscription else 0

    @property
    def paused(self) -> list[str]:
        """Services of which no more requests are taken now, because as many as may be are in work."""
        full = set(self._subscription.paused) if self._subscription else set()
        return sorted(path for path, topic in self._topics.items() if topic in full)

    def troubles(self) -> list[str]:
        """Codes of what is wrong with this process: `clock-off`, `inbox-full`, `source-failing`, `source-refused`."""
        inboxes = (self._transactional, self._uncertain)
        full = any(inbox is not None and inbox.fill.is_full for inbox in inboxes)
        codes = [code for code, holds in ((OFF, self.clock.is_off), (FULL, full)) if holds]
        return codes + (self._sources.troubles() if self._sources else [])

    def sign_of_life(self) -> dict[str, Any]:
        """What a heartbeat says of this process (`POST /v1/adapters/{id}/heartbeat`)."""
        return {
            "process": _PROCESS,
            "build": __version__,
            "schemas": self._versions,
            "breakers": self._adapter.breakers.states(),
            "in_work": self.in_work,
            "paused": self.paused,
            "troubles": self.troubles(),
            "probe": True,
        }

    async def _handle(self, message: Message) -> None:
        try:
            envelope = Envelope.read(message.headers, message.value)
        except (KeyError, ValueError, TypeError, AttributeError) as error:  # the last two: a header without a value
            # Not an envelope: nobody to answer. The transaction it may belong to ends by its deadline.
            log.error("a message that is no request was dropped", topic=message.topic, error=type(error).__name__)
            return
        if not _well_formed(envelope) or self._topics.get(envelope.service) != message.topic:
            log.error("a message that asks nothing of this adapter was dropped", topic=message.topic)
            return
        if envelope.order:
            async with self._turns.turn(f"{envelope.service} {envelope.order}"):
                await self._work(envelope)
        else:
            await self._work(envelope)

    async def _work(self, envelope: Envelope) -> None:
        if envelope.probe:
            reply = await answer_probe(self._adapter, envelope)
        elif self._is_valid(envelope):
            reply = await self._reply(self._declared[envelope.service], envelope)
        else:
            log.warning("a request off its schema was not begun", adapter=self.id, transaction=envelope.id)
            reply = Reply(envelope.id, envelope.service, "failed", code="request-off-schema")
        signed = Reply(
            reply.id,
            reply.service,
            reply.status,
            reply.body,
            reply.code,
            self._adapter.id,
            envelope.attempt,
            reply.probe,
        )
        await self._answer(envelope, signed)
        self.handled += 1

    def _is_valid(self, envelope: Envelope) -> bool:
        """The gateway has checked it; whoever else may write to the topic has not, and schemas may have parted."""
        try:
            return self._requests[envelope.service].validator.is_valid(parse(envelope.body))
        except NgspError:
            return False

    async def _reply(self, service: ServiceManifest, envelope: Envelope) -> Reply:
        begun = False

        async def execute(connection: AsyncConnection | None) -> Reply:
            nonlocal begun
            if envelope.deadline_ms / 1000 - self.clock() < LATEST_START_S:
                if self.clock.is_off:
                    return Reply(envelope.id, envelope.service, "retry", code=OFF)  # it may have time yet
                return Reply(envelope.id, envelope.service, "expired")
            if 0 < envelope.begin_by_ms < self.clock() * 1000:
                # It may have been revoked since it was sent; the gateway looks again and sends it anew.
                return Reply(envelope.id, envelope.service, "retry", code=TOO_OLD)
            begun = True
            return await self._execute(service, envelope, connection)

        try:
            if service.effect == "transactional" and self._transactional:
                return await self._transactional.once(envelope, execute)
            if service.effect == "uncertain" and self._uncertain:
                return await self._uncertain.once(envelope, execute)
            return await execute(None)
        except Exception as error:  # noqa: BLE001  # of the inbox: read, written or committed
            # A repeat would find what was done; only a submission comes again.
            again = not begun or envelope.reply_to == OUTCOMES_TOPIC
            where, kind = place_of(error), type(error).__name__
            log.error("inbox unavailable", adapter=self.id, error=kind, place=where, transaction=envelope.id)
            code = IN_DOUBT if begun and again else "inbox-unavailable"
            return Reply(envelope.id, envelope.service, "retry" if again else "unknown", code=code)

    async def _execute(self, service: ServiceManifest, envelope: Envelope, connection: AsyncConnection | None) -> Reply:
        serve = self._adapter.function(envelope.service)
        try:
            result = await serve(Request(envelope, self._resources, connection))
            body = result if isinstance(result, bytes) else orjson.dumps(result)
        except AdapterError as error:
            return Reply(envelope.id, envelope.service, error.status, code=_PLAIN.sub("", error.code))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return self._fault(service, envelope, error)  # of something the function waited for, not of this task
        except Exception as error:  # noqa: BLE001  # whatever an author's code raises is an outcome
            if connection is not None and isinstance(error, DBAPIError) and passing(error):
                return Reply(envelope.id, envelope.service, "retry", code="database-unavailable")
            return self._fault(service, envelope, error)
        if len(body) > LARGEST_REPLY_BYTES:
            log.error("a reply is too large", adapter=self.id, bytes=len(body), transaction=envelope.id)
            return Reply(envelope.id, envelope.service, _broken(service), code="reply-too-large")
        return Reply(envelope.id, envelope.service, "ok", body)

    def _fault(self, service: ServiceManifest, envelope: Envelope, error: BaseException) -> Reply:
        # Neither the message nor the trace is logged: both may hold the citizen's data.
        where, kind = place_of(error), type(error).__name__
        log.error("a service function failed", adapter=self.id, error=kind, place=where, transaction=envelope.id)
        return Reply(envelope.id, envelope.service, _broken(service), code="adapter-error")

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
        while True:
            try:
                await self._bus.send(envelope.reply_to, reply.headers(), reply.body)
            except BusUnavailable as error:
                # Sent again from here: a message given back to the bus would be asked of the provider once more.
                if (held := self._seldom.held_back("outcome")) is not None:
                    log.warning("an outcome waits for the bus", adapter=self.id, reason=error.reason, held_back=held)
                await asyncio.sleep(SEND_AGAIN_S)
            else:
                return


def _well_formed(envelope: Envelope) -> bool:
    """False where an id, number or reply topic is none that a gateway gives."""
    return (
        TRANSACTION_ID.fullmatch(envelope.id) is not None
        and 0 < envelope.deadline_ms < LATEST_DEADLINE_MS
        and 0 < envelope.attempt < MOST_ATTEMPTS
        and (not envelope.order or _ORDER.fullmatch(envelope.order) is not None)
        and (envelope.reply_to == OUTCOMES_TOPIC or _REPLY_TOPIC.fullmatch(envelope.reply_to) is not None)
    )


def _broken(service: ServiceManifest) -> ReplyStatus:
    """How a function's own fault ends: an effect that nothing undoes may be there all the same."""
    return "unknown" if service.effect == "uncertain" else "failed"


def _watch(done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (error := done.exception()):
        log.warning("a reply was not acknowledged by the bus", error=type(error).__name__)
