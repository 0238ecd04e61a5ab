"""`Adapter`, `Request` and the errors an adapter may raise."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

import orjson

from ngsp.adapter.breakers import Breakers
from ngsp.adapter.events import DEFAULT_EVERY_S, LONGEST_EVERY_S, Found, Source
from ngsp.adapter.manifest import EventServiceManifest, Manifest, ManifestError, ServiceManifest, checked, load_manifest
from ngsp.messages import Envelope, ReplyStatus, ServiceKey
from ngsp.text import tr

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from ngsp.adapter.answer import Answer
    from ngsp.adapter.backends.base import Backend
    from ngsp.adapter.typed import Promise


class AdapterError(Exception):
    """Raise one of its four kinds. `code`: the provider's own, at most 64 plain characters, never personal data."""

    status: ReplyStatus = "failed"

    def __init__(self, code: str = "") -> None:
        super().__init__(code)
        self.code = code[:64]


class RecordNotFound(AdapterError):
    """There is no such record: the caller gets 404 `record-not-found`."""

    status: ReplyStatus = "not-found"


class Refused(AdapterError):
    """The provider says no: 409 `provider-refused` with its code."""

    status: ReplyStatus = "refused"


class Unavailable(AdapterError):
    """The provider's system cannot be reached and nothing was done: a query gets 502, a submission comes again."""

    status: ReplyStatus = "retry"


class Failed(AdapterError):
    """The provider's system answered with nonsense or an error of its own; final."""

    status: ReplyStatus = "failed"


class Interrupted(AdapterError):
    """It may or may not have been done: the outcome is *unknown* and is never repeated by itself."""

    status: ReplyStatus = "unknown"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as a service function sees it; valid by the request schema when it gets here.

    `connection`: for effect `transactional` the open transaction in the provider's database that holds the inbox row
    too; whatever is written through it is committed with that row or not at all.
    """

    envelope: Envelope
    resources: Any = None
    connection: AsyncConnection | None = None

    @property
    def id(self) -> str:
        """The transaction's id, the same at every delivery: pass it on where the provider honours message ids."""
        return self.envelope.id

    @property
    def payload(self) -> Any:
        return orjson.loads(self.envelope.body)

    @property
    def body(self) -> bytes:
        return self.envelope.body

    @property
    def purpose(self) -> str:
        return self.envelope.purpose

    @property
    def fields(self) -> tuple[str, ...]:
        """The granted JSON pointers. The gateway cuts the reply in any case; asking for less spares the provider."""
        return self.envelope.fields

    @property
    def officer(self) -> str:
        return self.envelope.officer

    @property
    def dossier(self) -> str:
        return self.envelope.dossier

    @property
    def deadline(self) -> datetime:
        return datetime.fromtimestamp(self.envelope.deadline_ms / 1000, UTC)

    def remaining_s(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.envelope.deadline_ms / 1000 - time.time())

    def transaction(self) -> AsyncConnection:
        """`connection`, where the manifest declares the effect transactional; TypeError elsewhere."""
        if self.connection is None:
            raise TypeError("only a service with `effect: transactional` has a connection")
        return self.connection


Serve = Callable[[Request], Awaitable[object]]
ReplyFunction = Callable[["Answer", Request], object]
Function = TypeVar("Function", bound=Callable[..., Awaitable[object]])
Finding = TypeVar("Finding", bound=Callable[..., Awaitable[Found]])


class Adapter:
    """A set of services beside one provider's system."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._serve: dict[str, Serve] = {}
        self.replies: dict[str, ReplyFunction] = {}
        """Service path → what makes the reply of a declared service, where that is a function (see `reply`)."""
        self.sources: dict[str, Source] = {}
        """Service path → where its events come from."""
        self._resources: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext
        self.backend: Backend[Any, Any] | None = None
        """The provider's system, where the manifest declares one."""
        self.breakers = Breakers(lambda: self.id)
        """Those of the systems behind it, by name; `backend` is that of `self.backend`. Told with each heartbeat."""
        self.folder = Path()
        """Where the manifest stands; its references to files are relative to it."""
        self._without_manifest = False

    @classmethod
    def load(cls, path: Path) -> Adapter:
        """The adapter of a manifest; where that has a `backend`, services with `call` need no function.

        ManifestError with every mistake in it.
        """
        manifest, source = load_manifest(path)
        adapter = cls(manifest)
        adapter.folder = path.parent
        if manifest.backend is not None or manifest.outcomes or any(service.declares for service in manifest.services):
            from ngsp.adapter.declaring import declare

            declare(adapter, source)
        return adapter

    @classmethod
    def named(cls, id: str, provider: str, *, database_url_env: str | None = None) -> Adapter:
        """An adapter without a manifest's file: its functions declare their services (see `service`).

        `id`, `provider` and `database_url_env` as in a manifest; they are checked with the first service.
        """
        empty = Manifest.model_construct(id=id, provider=provider, database_url_env=database_url_env, services=[])
        adapter = cls(empty)
        adapter._without_manifest = True
        return adapter

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def source_name(self) -> str:
        """What its events have for a `source` where they have none of their own."""
        return f"/{self.manifest.provider}/{self.id}"

    def key(self, service: ServiceManifest | EventServiceManifest) -> ServiceKey:
        return ServiceKey(self.manifest.provider, service.service, service.version)

    def declared(self) -> dict[str, ServiceManifest]:
        """Service path → its manifest: what this adapter serves."""
        return {self.key(service).path: service for service in self.manifest.called}

    def published(self) -> dict[str, EventServiceManifest]:
        """Service path → its manifest: the services of events, which need no function."""
        events = (service for service in self.manifest.services if isinstance(service, EventServiceManifest))
        return {self.key(service).path: service for service in events}

    @overload
    def service(self, name: str, version: str) -> Callable[[Serve], Serve]: ...
    @overload
    def service(self, name: str, version: str, **promise: Unpack[Promise]) -> Callable[[Function], Function]: ...
    def service(self, name: str, version: str, **promise: Unpack[Promise]) -> Callable[[Any], Any]:
        """Marks the async function that serves `name`/`version`.

        Where the adapter has a manifest, the service is declared there. Where it has none (`Adapter.named`), the
        function declares it: see `ngsp.adapter.typed`.
        """
        path = ServiceKey(self.manifest.provider, name, version).path
        if not self._without_manifest and (promise or path not in self.declared()):
            raise ManifestError(
                tr(
                    f"{self.id}: {path} đã khai báo trong bản khai: bỏ các đối số khác của service()",
                    f"{self.id}: what {path} promises stands in the manifest: drop service()'s other arguments",
                )
                if promise
                else f"the manifest of {self.id} declares no service {path}"
            )

        def mark(function: Any) -> Any:
            if path in self._serve:
                raise ManifestError(f"{path} is served twice")
            self._serve[path] = (
                self._declared_by(name, version, promise, function) if self._without_manifest else function
            )
            return function

        return mark

    def reply(self, name: str, version: str) -> Callable[[ReplyFunction], ReplyFunction]:
        """Marks the function that makes the reply of a service with `call`: for what is harder than expressions.

        It takes the place of the manifest's `reply`, gets the answer that `outcomes` let through and the request, and
        may raise the same errors as a service.
        """
        path = ServiceKey(self.manifest.provider, name, version).path
        service = self.declared().get(path)
        if service is None or service.call is None or service.reply is not None:
            raise ManifestError(
                tr(
                    f"{self.id}: {path} phải có call và không có reply trong bản khai",
                    f"{self.id}: {path} must have call, and no reply, in the manifest",
                )
            )

        def mark(make: ReplyFunction) -> ReplyFunction:
            self.replies[path] = make
            return make

        return mark

    def source(self, name: str, version: str, *, every_s: float = DEFAULT_EVERY_S) -> Callable[[Finding], Finding]:
        """Marks the async function that says what changed after a cursor: a `Changes` (see `ngsp.adapter.events`).

        Its events are published as those of `name`/`version`, a service of mode `event`; what it may take behind the
        cursor are the adapter's resources. It is asked every `every_s` seconds, and at once while there is more.
        """
        path = ServiceKey(self.manifest.provider, name, version).path
        if path not in self.published():
            raise ManifestError(
                tr(
                    f"{self.id}: bản khai không có dịch vụ sự kiện {path} (mode: event)",
                    f"{self.id}: the manifest declares no service of events {path} (mode: event)",
                )
            )
        if not 0 < every_s <= LONGEST_EVERY_S:
            raise ManifestError(f"{self.id}: {path}: every_s is more than 0, at most {LONGEST_EVERY_S:g}")

        def mark(function: Finding) -> Finding:
            if path in self.sources:
                raise ManifestError(f"{path} has two sources")
            wants_resources = len(inspect.signature(function).parameters) > 1
            self.sources[path] = Source(path, every_s, function, wants_resources)
            return function

        return mark

    def _declared_by(self, name: str, version: str, promise: Promise, function: Any) -> Serve:
        from ngsp.adapter.typed import typed

        service, serve, source = typed(name, version, promise, function)
        before = self.manifest.model_dump(mode="json", exclude_none=True)
        self.manifest = checked(replace(source, value=before | {"services": [*before["services"], service]}))
        return serve

    def resources(self, opens: Callable[[], AsyncIterator[Any]]) -> Callable[[], AsyncIterator[Any]]:
        """Marks the async generator that opens what every call needs (a pool, a table); closed when serving ends."""
        self._resources = asynccontextmanager(opens)
        return opens

    @asynccontextmanager
    async def open_resources(self, environment: Callable[[str], str | None] = os.environ.get) -> AsyncIterator[Any]:
        """Holds the back end and the author's resources open; gives the latter.

        `environment`: where the manifest's references to variables lead.
        """
        async with AsyncExitStack() as stack:
            if self.backend is not None:
                from ngsp.adapter.references import Surroundings

                await self.backend.open(Surroundings(self.folder, environment))
                stack.push_async_callback(self.backend.close)
            yield await stack.enter_async_context(self._resources())

    def database_url(self, environment: Callable[[str], str | None]) -> str:
        """Where effects `transactional` are committed. ManifestError where manifest or environment leave it open."""
        from ngsp.adapter.references import Surroundings

        name = self.manifest.database_url_env
        of_backend = self.backend and self.backend.database_url(Surroundings(self.folder, environment))
        if of_backend:
            if name:
                raise ManifestError(
                    tr(
                        f"{self.id}: backend.url đã là cơ sở dữ liệu: hãy bỏ «database_url_env»",
                        f"{self.id}: backend.url is the database: drop «database_url_env»",
                    )
                )
            return of_backend
        if not name:
            raise ManifestError(f"{self.id}: effect transactional needs «database_url_env» in the manifest")
        url = environment(name)
        if not url:
            raise ManifestError(f"{self.id}: effect transactional needs the variable {name} set")
        return url

    def function(self, path: str) -> Serve:
        """What serves `path`. ManifestError where a declared service has no function."""
        found = self._serve.get(path)
        if found is None:
            raise ManifestError(f"{self.id}: no function serves {path}")
        return found
