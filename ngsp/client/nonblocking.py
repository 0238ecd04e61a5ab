"""`AsyncClient`: the bus from a program on asyncio. What each method does is said at `Client`, its twin that blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx

from ngsp.client.calls import Options, Prepared, Reply, Submission
from ngsp.client.common import Common
from ngsp.client.errors import CallError, ConnectionLost
from ngsp.client.following import Event, Filters, Page, Transaction
from ngsp.client.publishing import NewEvent, Published
from ngsp.client.wire import (
    GRACE_S,
    MOST_ANSWER_BYTES,
    Alone,
    Answer,
    Emit,
    Ended,
    Flow,
    Open,
    Pause,
    Read,
    Running,
    Send,
    Step,
    answer_of,
    trouble,
    trusted,
)
from ngsp.text import Language

T = TypeVar("T")


class AsyncClient(Common[httpx.AsyncClient]):
    """As `Client`, for asyncio; `http`: an `httpx.AsyncClient`. Belongs to one event loop. No call logs anything."""

    def _drive(self, base_url: str, http: httpx.AsyncClient | None, language: Language) -> None:
        self._driver = _Driver(base_url, http, language)

    async def close(self) -> None:
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def call(self, service: str, payload: object, **options: Unpack[Options]) -> Reply:
        return await self._driver.run(self._core.call(service, payload, options))

    async def submit(self, service: str, payload: object, **options: Unpack[Options]) -> Submission:
        return await self._driver.run(self._core.submit(service, payload, options))

    async def send(self, prepared: Prepared) -> Submission:
        return await self._driver.run(self._core.send(prepared))

    async def publish(
        self,
        service: str,
        events: NewEvent | Sequence[NewEvent],
        *,
        traceparent: str = "",
        deadline_s: float | None = None,
    ) -> list[Published]:
        return await self._driver.run(self._core.publish(service, events, traceparent, deadline_s))

    async def wait(
        self,
        submission: Submission | str,
        *,
        deadline_s: float | None = None,
        on_state: Callable[[Transaction], None] | None = None,
    ) -> Reply:
        return await self._driver.run(self._core.wait(submission, deadline_s, on_state))

    def states(self, submission: Submission | str, *, deadline_s: float | None = None) -> AsyncIterator[Transaction]:
        return self._driver.iterate(self._core.states(submission, deadline_s))

    async def transaction(self, id: str) -> Transaction:
        return await self._driver.run(self._core.transaction(id))

    async def reply(self, id: str) -> Reply:
        return await self._driver.run(self._core.reply(id))

    def transactions(self, filters: Filters | None = None, *, page_size: int = 100) -> AsyncIterator[Transaction]:
        return self._driver.iterate(self._core.transactions(filters, page_size))

    async def page(self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None) -> Page:
        return await self._driver.run(self._core.page(filters, limit, cursor))

    def follow(
        self,
        filters: Filters | None = None,
        *,
        after: str = "",
        on_trouble: Callable[[CallError, float], None] | None = None,
    ) -> AsyncIterator[Event]:
        return self._driver.iterate(self._core.follow(filters, after, on_trouble))

    async def service(self, service: str) -> dict[str, Any]:
        return await self._driver.run(self._core.service(service))

    def services(self) -> AsyncIterator[dict[str, Any]]:
        return self.items("/v1/services")

    async def get(self, path: str, **parameters: str) -> dict[str, Any]:
        return await self._driver.run(self._core.get(path, parameters))

    async def ask(self, method: str, path: str, document: object = None) -> Answer:
        return await self._driver.run(self._core.ask(method, path, document))

    def items(self, path: str, **parameters: str) -> AsyncIterator[dict[str, Any]]:
        return self._driver.iterate(self._core.items(path, parameters))


class _Driver:
    """Takes the steps of flows over `httpx.AsyncClient`."""

    def __init__(self, base_url: str, http: httpx.AsyncClient | None, language: Language) -> None:
        self._base_url, self._language = base_url, language
        self._http = http or httpx.AsyncClient(verify=trusted(base_url))
        self._owned = http is None
        self._alone = asyncio.Lock()

    async def close(self) -> None:
        if self._owned:
            await self._http.aclose()

    async def run(self, flow: Flow[T]) -> T:
        async with AsyncExitStack() as opened:
            ended = await self._advance(Running(flow), opened)
            assert isinstance(ended, Ended), "a flow that emits is iterated"
            return ended.result

    async def iterate(self, flow: Flow[None]) -> AsyncIterator[Any]:
        running = Running(flow)
        async with AsyncExitStack() as opened:
            while isinstance(emitted := await self._advance(running, opened), Emit):
                yield emitted.item

    async def _advance(self, running: Running[T], opened: AsyncExitStack) -> Emit | Ended[T]:
        """Takes steps until the flow has an item to hand out, or ends."""
        while True:
            step = running.step()
            if isinstance(step, Emit | Ended):
                return step
            try:
                running.result = await self._take(step, running, opened)
            except httpx.RequestError as error:
                running.failure = trouble(error, self._language)
            except CallError as error:
                running.failure = error

    async def _take(self, step: Step, running: Running[T], opened: AsyncExitStack) -> object:
        match step:
            case Send():
                async with self._streaming(step) as response:
                    return answer_of(response, await self._whole(response, step.timeout_s))
            case Open():
                await opened.aclose()
                response = await opened.enter_async_context(self._streaming(step.request))
                if response.status_code != 200:
                    return answer_of(response, await self._whole(response, step.request.timeout_s))
                running.reading = response.aiter_bytes()
                return answer_of(response)
            case Read():
                return await anext(running.reading, b"")
            case Pause():
                await asyncio.sleep(step.seconds)
            case Alone():
                async with self._alone:
                    return await self.run(step.flow())
        return None

    def _streaming(self, request: Send) -> AbstractAsyncContextManager[httpx.Response]:
        return self._http.stream(
            request.method,
            self._base_url + request.path,
            headers=request.headers,
            params=request.parameters or None,
            content=request.body or None,
            timeout=request.timeout_s,
            follow_redirects=False,
        )

    async def _whole(self, response: httpx.Response, timeout_s: float) -> bytes:
        parts, size = [], 0
        try:
            async with asyncio.timeout(timeout_s + GRACE_S):
                async for part in response.aiter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > MOST_ANSWER_BYTES:
                        raise ConnectionLost(language=self._language)
        except TimeoutError:
            raise ConnectionLost(language=self._language) from None
        return b"".join(parts)
