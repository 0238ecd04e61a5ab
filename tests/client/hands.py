"""The same hands for both clients, so that each test runs with the one that blocks and the one on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

import httpx

from ngsp.client import (
    AsyncClient,
    Client,
    ClientSecret,
    Credentials,
    Defaults,
    Prepared,
    Reply,
    Retry,
    Submission,
    Transaction,
)
from tests.support.gateway import Rig

KIND = Literal["blocking", "asyncio"]
LOOK_UP, SEND = "H41/look-up/v1", "H41/send/v1"
QUICK = Retry(most=4, first_s=0.01, longest_s=0.05)


@dataclass
class Requests:
    """What a client sent: method and path of each request, and its headers. `before` is awaited before each."""

    sent: list[tuple[str, str]] = field(default_factory=list)
    headers: list[httpx.Headers] = field(default_factory=list)
    before: Callable[[int], Awaitable[None]] | None = None

    def count(self, path: str) -> int:
        return sum(seen.startswith(path) for _, seen in self.sent)

    async def note(self, request: httpx.Request) -> None:
        self.sent.append((request.method, request.url.path))
        self.headers.append(request.headers)
        if self.before is not None:
            await self.before(len(self.sent))


class Hands:
    """Awaitable methods over either client; those that iterate give what `until` says is enough, at most 100."""

    def __init__(self, client: Client | AsyncClient, requests: Requests) -> None:
        self.client, self.requests = client, requests

    async def do(self, name: str, *given: Any, **options: Any) -> Any:
        method = getattr(self.client, name)
        if isinstance(self.client, Client):
            return await asyncio.to_thread(method, *given, **options)
        found = method(*given, **options)
        return await found if asyncio.iscoroutine(found) else found

    async def call(self, service: str = LOOK_UP, payload: object = None, **options: Any) -> Reply:
        return cast("Reply", await self.do("call", service, {"do": "it"} if payload is None else payload, **options))

    async def submit(self, service: str = SEND, payload: object = None, **options: Any) -> Submission:
        sent = {"do": "it"} if payload is None else payload
        return cast("Submission", await self.do("submit", service, sent, **options))

    async def send(self, prepared: Prepared) -> Submission:
        return cast("Submission", await self.do("send", prepared))

    async def wait(self, submission: Submission | str, **options: Any) -> Reply:
        return cast("Reply", await self.do("wait", submission, **options))

    def having(self, **defaults: Any) -> Hands:
        return Hands(self.client.having(**cast("Defaults", defaults)), self.requests)

    async def items(
        self, name: str, *given: Any, enough: Callable[[list[Any]], bool] | None = None, **options: Any
    ) -> list[Any]:
        """What `name` iterates over, until it ends or is enough."""
        if isinstance(self.client, Client):
            iterator = getattr(self.client, name)(*given, **options)
            return await asyncio.to_thread(_taken, iterator, enough)
        found: list[Any] = []
        iterating: AsyncIterator[Any] = getattr(self.client, name)(*given, **options)
        async for item in iterating:
            found.append(item)
            if enough and enough(found):
                await cast("Any", iterating).aclose()
                break
        return found

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.do("close")


def _taken(iterator: Iterator[Any], enough: Callable[[list[Any]], bool] | None) -> list[Any]:
    found: list[Any] = []
    for item in iterator:
        found.append(item)
        if enough and enough(found):
            cast("Any", iterator).close()
            break
    return found


class Noted(Hands):
    """Hands whose own `httpx` client notes each request."""

    def __init__(self, kind: KIND, base_url: str, credentials: Credentials, **options: Any) -> None:
        requests = Requests()
        chosen: dict[str, Any] = {"purpose": "testing", "language": "en", "retry": QUICK, "deadline_s": 20.0} | options
        loop = asyncio.get_running_loop()

        def note(request: httpx.Request) -> None:
            asyncio.run_coroutine_threadsafe(requests.note(request), loop).result(20)

        if kind == "blocking":
            self.http: httpx.Client | httpx.AsyncClient = httpx.Client(event_hooks={"request": [note]})
            client: Client | AsyncClient = Client(base_url, credentials, http=self.http, **chosen)
        else:
            self.http = httpx.AsyncClient(event_hooks={"request": [requests.note]})
            client = AsyncClient(base_url, credentials, http=self.http, **chosen)
        super().__init__(client, requests)

    async def __aexit__(self, *_: object) -> None:
        await self.do("close")
        assert not self.http.is_closed, "whoever brings the connections closes them"
        if isinstance(self.http, httpx.Client):
            self.http.close()
        else:
            await self.http.aclose()


def hands(kind: KIND, rig: Rig, url: str = "", *, by: str = "caller", **options: Any) -> Noted:
    """A client of the rig, at `url` where that is not the gateway itself."""
    return Noted(kind, url or rig.base_url, ClientSecret(by, rig.secrets[by]), **options)


def states(found: list[Transaction]) -> list[str]:
    return [transaction.state for transaction in found]
