"""`Client`: the bus from a program that blocks. May be shared by threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
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


class Client(Common[httpx.Client]):
    """A client (hệ thống của cơ quan) that calls services.

    `base_url`: of the gateway. `issuer`: what assertions name as their audience, where that is another address.
    `scope`: asked for with the token; all of the client's where empty. `language`: of error texts. `sandbox`: these
    credentials are of the sandbox, whose answers are examples; both sides must say so. `http`: an `httpx.Client` of
    your own (proxies, certificates), which stays yours to close. `defaults`: options of every call.

    Every method raises a `CallError`; what is harmless to repeat has been repeated by then.
    """

    def _drive(self, base_url: str, http: httpx.Client | None, language: Language) -> None:
        self._driver = _Driver(base_url, http, language)

    def close(self) -> None:
        self._driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def call(self, service: str, payload: object, **options: Unpack[Options]) -> Reply:
        """Calls a query (truy vấn) and gives its reply. `service`: provider/name/version. `payload`: JSON, or bytes."""
        return self._driver.run(self._core.call(service, payload, options))

    def submit(self, service: str, payload: object, **options: Unpack[Options]) -> Submission:
        """Sends a submission (gửi hồ sơ); returns when it is durably accepted. A query is answered later, likewise.

        Made with a key of its own where `key` is not given; it is in the result, and in a `CallError`.
        """
        return self._driver.run(self._core.submit(service, payload, options))

    def send(self, prepared: Prepared) -> Submission:
        """Sends what was prepared; as often as you like, it is done once."""
        return self._driver.run(self._core.send(prepared))

    def publish(
        self,
        service: str,
        events: NewEvent | Sequence[NewEvent],
        *,
        traceparent: str = "",
        deadline_s: float | None = None,
    ) -> list[Published]:
        """Publishes events (công bố sự kiện) of the client's own member, 1 to 100, in their order.

        Returns when all are durable. Where an error ends it, some of several may be so: the same once more is right.
        """
        return self._driver.run(self._core.publish(service, events, traceparent, deadline_s))

    def wait(
        self,
        submission: Submission | str,
        *,
        deadline_s: float | None = None,
        on_state: Callable[[Transaction], None] | None = None,
    ) -> Reply:
        """The reply of a submission (or of a transaction's id) once it is there; the error it ended with.

        `on_state` is told of each change of its state. `StillUnderWay` at the deadline.
        """
        return self._driver.run(self._core.wait(submission, deadline_s, on_state))

    def states(self, submission: Submission | str, *, deadline_s: float | None = None) -> Iterator[Transaction]:
        """The transaction at each change of its state, the last time with its outcome. `StillUnderWay` as above."""
        return self._driver.iterate(self._core.states(submission, deadline_s))

    def transaction(self, id: str) -> Transaction:
        """A transaction with its log entries."""
        return self._driver.run(self._core.transaction(id))

    def reply(self, id: str) -> Reply:
        """The stored reply of a transaction; the error it ended with."""
        return self._driver.run(self._core.reply(id))

    def transactions(self, filters: Filters | None = None, *, page_size: int = 100) -> Iterator[Transaction]:
        """All transactions that fit, newest first, fetched page by page."""
        return self._driver.iterate(self._core.transactions(filters, page_size))

    def page(self, filters: Filters | None = None, *, limit: int = 50, cursor: str | None = None) -> Page:
        """One page of the same list, and the cursor of the next."""
        return self._driver.run(self._core.page(filters, limit, cursor))

    def follow(
        self,
        filters: Filters | None = None,
        *,
        after: str = "",
        on_trouble: Callable[[CallError, float], None] | None = None,
    ) -> Iterator[Event]:
        """What is logged from now on, or after the position `after`, without end; a lost connection is resumed.

        `on_trouble` is told of each break and of the seconds before it is tried again.
        """
        return self._driver.iterate(self._core.follow(filters, after, on_trouble))

    def service(self, service: str) -> dict[str, Any]:
        """The service's entry in the catalogue: schemas, mode, deadline, examples."""
        return self._driver.run(self._core.service(service))

    def services(self) -> Iterator[dict[str, Any]]:
        """The whole catalogue, entry by entry."""
        return self.items("/v1/services")

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """Whatever else the interface has at `path` (`/openapi.json`), as JSON."""
        return self._driver.run(self._core.get(path, parameters))

    def ask(self, method: str, path: str, document: object = None) -> Answer:
        """Any other request of the interface, `document` as its JSON: its good answer. GET, PUT and DELETE are repeated
        where no answer came; others only where surely nothing was done."""
        return self._driver.run(self._core.ask(method, path, document))

    def items(self, path: str, **parameters: str) -> Iterator[dict[str, Any]]:
        """Every item of the list at `path`, fetched page by page."""
        return self._driver.iterate(self._core.items(path, parameters))


class _Driver:
    """Takes the steps of flows over `httpx.Client`."""

    def __init__(self, base_url: str, http: httpx.Client | None, language: Language) -> None:
        self._base_url, self._language = base_url, language
        self._http = http or httpx.Client(verify=trusted(base_url))
        self._owned = http is None
        self._alone = threading.Lock()

    def close(self) -> None:
        if self._owned:
            self._http.close()

    def run(self, flow: Flow[T]) -> T:
        with ExitStack() as opened:
            ended = self._advance(Running(flow), opened)
            assert isinstance(ended, Ended), "a flow that emits is iterated"
            return ended.result

    def iterate(self, flow: Flow[None]) -> Iterator[Any]:
        running = Running(flow)
        with ExitStack() as opened:
            while isinstance(emitted := self._advance(running, opened), Emit):
                yield emitted.item

    def _advance(self, running: Running[T], opened: ExitStack) -> Emit | Ended[T]:
        """Takes steps until the flow has an item to hand out, or ends."""
        while True:
            step = running.step()
            if isinstance(step, Emit | Ended):
                return step
            try:
                running.result = self._take(step, running, opened)
            except httpx.RequestError as error:
                running.failure = trouble(error, self._language)
            except CallError as error:
                running.failure = error

    def _take(self, step: Step, running: Running[T], opened: ExitStack) -> object:
        match step:
            case Send():
                with self._streaming(step) as response:
                    return answer_of(response, self._whole(response, step.timeout_s))
            case Open():
                opened.close()
                response = opened.enter_context(self._streaming(step.request))
                if response.status_code != 200:
                    return answer_of(response, self._whole(response, step.request.timeout_s))
                running.reading = response.iter_bytes()
                return answer_of(response)
            case Read():
                return next(running.reading, b"")
            case Pause():
                time.sleep(step.seconds)
            case Alone():
                with self._alone:
                    return self.run(step.flow())
        return None

    def _streaming(self, request: Send) -> AbstractContextManager[httpx.Response]:
        return self._http.stream(
            request.method,
            self._base_url + request.path,
            headers=request.headers,
            params=request.parameters or None,
            content=request.body or None,
            timeout=request.timeout_s,
            follow_redirects=False,
        )

    def _whole(self, response: httpx.Response, timeout_s: float) -> bytes:
        until_s = time.monotonic() + timeout_s + GRACE_S
        parts, size = [], 0
        for part in response.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > MOST_ANSWER_BYTES or time.monotonic() > until_s:
                raise ConnectionLost(language=self._language)
        return b"".join(parts)
