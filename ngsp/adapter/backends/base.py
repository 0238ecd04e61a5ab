"""What every kind of back end is: opened once, compiled to one operation for each service, behind one breaker.

A kind is a subclass of `Backend` in a module of its own. It says what it raises truthfully (see `Operation`);
`ngsp.adapter.declared` decides what that means for a query or a submission, gives up in time, tries again and counts.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Generic, Protocol, TypeVar

from pydantic import Field

from ngsp.adapter.answer import Answer as Answer
from ngsp.adapter.breaker import Breaker
from ngsp.adapter.definition import Request
from ngsp.adapter.manifest import ServiceManifest
from ngsp.adapter.models import Part
from ngsp.adapter.outcomes import Kind
from ngsp.adapter.references import Surroundings
from ngsp.mapping import Root, Scope
from ngsp.messages import Effect


@dataclass(frozen=True)
class Setting(Scope):
    """Where a configuration stands: what its expressions may name, and the manifest's folder."""

    folder: Path = Path()


@dataclass(slots=True)
class Attempt:
    """One try of one call. `root`: what the expressions of `call` see. `until`: of `time.monotonic`.

    `begun`: whether something may have been done already. An operation that can tell sets it False while nothing has
    been; what runs out of time meanwhile is then Unavailable instead of unknown.
    """

    root: Root
    until: float
    request: Request | None = None
    begun: bool = True

    @classmethod
    def for_s(cls, limit_s: float) -> Attempt:
        """One without a request, to probe."""
        return cls({}, time.monotonic() + limit_s)

    def left_s(self) -> float:
        return max(0.0, self.until - time.monotonic())


class Operation(Protocol):
    """One call of one service.

    Raises Unavailable (nothing was done), Interrupted (it may have been done: the connection was lost, or the answer
    did not come whole), Failed (an answer that is none), MappingError (the request gives no call). May be cancelled at
    any time: see `Attempt.begun`.
    """

    async def __call__(self, attempt: Attempt) -> Answer: ...


class RetrySettings(Part):
    """Tries of one call while its deadline lasts: again only where that can do nothing twice."""

    attempts: Annotated[int, Field(ge=1, le=5)] = 2
    wait_s: Annotated[float, Field(ge=0, le=10)] = 0.1


class BreakerSettings(Part):
    """`failures` in a row leave the system alone for `open_s`."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    open_s: Annotated[float, Field(gt=0, le=3600)] = 5.0


class BackendConfig(Part):
    """What every kind takes under `backend:`. Validated with a `Setting` as context."""

    kind: str
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 3.0
    """Longest time of one call, within what the request has left."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=60)] = 1.0
    connections: Annotated[int, Field(ge=1, le=1000)] = 64
    """Calls at once; the others wait for their turn within their time."""
    max_answer_bytes: Annotated[int, Field(ge=1, le=64 << 20)] = 1 << 20
    retry: RetrySettings = RetrySettings()
    breaker: BreakerSettings = BreakerSettings()


SomeConfig = TypeVar("SomeConfig", bound=BackendConfig)
SomeCall = TypeVar("SomeCall", bound=Part)


class Backend(ABC, Generic[SomeConfig, SomeCall]):
    """One provider's system. `config`: what the manifest says of it. `name`: the adapter's id, for messages.

    `Config`, `Call`: the models of `backend:` and of a service's `call:`. `effects`: those it can keep.
    """

    Config: ClassVar[type[BackendConfig]]
    Call: ClassVar[type[Part]]
    effects: ClassVar[frozenset[Effect]] = frozenset(("idempotent", "uncertain"))
    patient_codes: ClassVar[frozenset[str]] = frozenset()
    """Of Unavailable where nothing is wrong with the system: its answer takes its time."""

    def __init__(self, config: SomeConfig, name: str) -> None:
        self.config, self.name = config, name
        self.breaker = Breaker(threshold=config.breaker.failures, open_s=config.breaker.open_s)

    @abstractmethod
    async def open(self, surroundings: Surroundings) -> None:
        """Resolve references, open pools. ManifestError where the surroundings lack something. Connects to nothing."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    def operation(self, service: ServiceManifest, call: SomeCall) -> Operation:
        """The operation of one service, made before `open`. `Wrong` where `call` makes no sense for it."""

    @abstractmethod
    async def probe(self) -> None:
        """Asks the system for something harmless; raises as an Operation does."""

    def database_url(self, surroundings: Surroundings) -> str | None:
        """The database in which the effects of its `transactional` services are committed, and so their inbox too."""
        return None

    def judge(self, answer: Answer) -> tuple[Kind, str]:
        """Outcome and code of an answer that no rule of the manifest speaks of."""
        return "ok", ""

    def works(self, answer: Answer) -> bool:
        """Whether an answer that a rule calls `retry` shows a system that is well and only not done yet."""
        return True
