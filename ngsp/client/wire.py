"""What the core asks of a driver, and what it gets back: the seam between the client's logic and the network.

The core is written once, as generators (`Flow`) that yield steps and are sent their results. A driver takes the steps:
`blocking.py` with `httpx.Client` and threads, `nonblocking.py` with `httpx.AsyncClient`. Neither decides anything.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, TypeVar

import httpx

from ngsp.client.failures import CallError, ConnectionLost, Unreachable
from ngsp.text import Language

T = TypeVar("T")

MOST_ANSWER_BYTES = 64 << 20
"""No answer of the bus comes near it; what is larger is another server's."""
GRACE_S = 0.5
"""Beyond the time-outs of httpx, each of which begins anew with every byte."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer. `headers`: names in lower case. `body`: empty for one that is read step by step."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Send:
    """Send this request and give back the whole `Answer`, in at most `timeout_s`.

    Raises `Unreachable` where nothing was sent, `ConnectionLost` where no whole answer came.
    """

    method: str
    path: str
    timeout_s: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Open:
    """Send this request, give back the `Answer`, and keep it open for `Read` where its status is 200.

    What was open before is closed, and at the end of the flow this too. `Send.timeout_s` is the longest that nothing
    may come.
    """

    request: Send


@dataclass(frozen=True, slots=True)
class Read:
    """The next bytes of what is open; empty at its end. Raises `ConnectionLost`."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Alone:
    """Run this flow while no other one does; gives back its result."""

    flow: Callable[[], Flow[Any]]


@dataclass(frozen=True, slots=True)
class Emit:
    """Hand `item` to whoever iterates."""

    item: Any


Step = Send | Open | Read | Pause | Alone | Emit
Flow = Generator[Step, Any, T]


@dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """A flow has ended with this result."""

    result: T


class Running(Generic[T]):
    """A flow that a driver is taking the steps of. `result` or `failure`: of the last step, for the flow."""

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow
        self.result: Any = None
        self.failure: CallError | None = None
        self.reading: Any = None
        """The driver's own: the bytes of what is open."""

    def step(self) -> Step | Ended[T]:
        """What the flow wants next. Raises what the flow raises."""
        result, failure = self.result, self.failure
        self.result = self.failure = None
        try:
            return self._flow.throw(failure) if failure else self._flow.send(result)
        except StopIteration as end:
            return Ended(end.value)


@cache
def _authorities() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def trusted(base_url: str) -> ssl.SSLContext:
    """Whom a client of the bus at `base_url` trusts: the authorities that httpx knows, read once for all clients.

    For plain HTTP nobody: reading them takes longer than a call.
    """
    is_plain = base_url.lower().startswith("http:")
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else _authorities()


def trouble(error: httpx.RequestError, language: Language) -> CallError:
    """What an exception of httpx means: whether anything was sent is all that matters."""
    nothing_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
    if not isinstance(error, nothing_sent):
        return ConnectionLost(language=language)
    refused = Unreachable(language=language)
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            refused.args = (f"{refused.args[0]} TLS: {cause.verify_message}",)
            break
        cause = cause.__cause__ or cause.__context__
    return refused


def answer_of(response: httpx.Response, body: bytes = b"") -> Answer:
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)
