"""A manifest with a back end → the functions of an adapter: ask, judge the answer, map it.

    request ─▶ call (expressions) ─▶ back end ─▶ outcomes: which answer is what ─▶ reply (expressions)

One breaker for the back end counts its failures, not its *no*, nor a *not yet* by a rule of the manifest. What a lost
answer means depends on the service: where a repeat does nothing twice (a query; a submission whose id the provider
honours) it is *unavailable* and may be asked again, elsewhere *unknown*.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from ngsp.adapter.backends.base import Answer, Attempt, Backend, Operation
from ngsp.adapter.breaker import BreakerOpen
from ngsp.adapter.definition import (
    AdapterError,
    Failed,
    Interrupted,
    RecordNotFound,
    Refused,
    ReplyFunction,
    Request,
    Unavailable,
)
from ngsp.adapter.manifest import ServiceManifest
from ngsp.adapter.memory import Memory
from ngsp.adapter.models import Part
from ngsp.adapter.outcomes import Kind, Rule, decide
from ngsp.mapping import Expression, MappingError, Root, Shape

CALL_ROOT = ("payload", "id", "purpose", "officer", "dossier", "deadline")
"""What expressions in `call` may name."""
ANSWER_ROOT = ("status", "body", "headers", "payload", "id")
"""What expressions in `reply` and `outcomes` may name."""
ANSWER_MARGIN_S = 0.1
"""Left of the request's time for the answer to travel back."""
FAIR_CALL_S = 1.0
"""A call given less says nothing about the system when it runs out of time: callers in haste open no breaker."""
TIMEOUT, LEFT_ALONE = "backend-timeout", "backend-left-alone"

_ERRORS: dict[Kind, type[AdapterError]] = {
    "not-found": RecordNotFound,
    "refused": Refused,
    "failed": Failed,
    "retry": Unavailable,
}
_NO_RETRY = frozenset((TIMEOUT, LEFT_ALONE))


log = structlog.get_logger(__name__)


class _NotYet(Unavailable):
    """The system is well and said so: by a rule of the manifest it is to be asked again."""


class Answering(Part):
    reply: Shape | None = None
    outcomes: tuple[Rule, ...] = ()
    cache_s: Expression | None = None


@dataclass(frozen=True, slots=True)
class Declared:
    """Serves one service from one back end."""

    backend: Backend[Any, Any]
    operation: Operation
    service: ServiceManifest
    answers: Answering
    by_function: Mapping[str, ReplyFunction]
    """The adapter's functions that make replies, by service path."""
    memory: Memory | None = None
    """Where the manifest has `cache_s`."""

    @property
    def repeatable(self) -> bool:
        """Whether a call that was lost may be asked again: nothing is done twice, or nothing stays of it."""
        return self.service.mode == "query" or self.service.effect != "uncertain"

    @property
    def attempts(self) -> int:
        """A transaction in which a statement failed takes no second one; the whole comes again."""
        return 1 if self.service.effect == "transactional" else self.backend.config.retry.attempts

    async def __call__(self, request: Request) -> object:
        if self.memory is None:
            return self._replied(request, await self.asked(request, _asking(request)))
        known = self.memory.find(request.body)
        if known is not None:
            return known
        answer = await self.asked(request, _asking(request))
        reply = self._replied(request, answer)
        body = reply if isinstance(reply, bytes) else orjson.dumps(reply)
        self.memory.keep(request.body, body, self._holds_s(request, answer))
        return body

    def _holds_s(self, request: Request, answer: Answer) -> float:
        """How long the reply holds, by what the system says; not at all where it says nothing that is a number."""
        assert self.answers.cache_s is not None
        try:
            found = self.answers.cache_s(answered(answer, _asking(request)))
        except MappingError:
            return 0.0
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else 0.0

    def _replied(self, request: Request, answer: Answer) -> object:
        if (make := self.by_function.get(request.envelope.service)) is not None:
            return make(answer, request)
        if self.answers.reply is None:
            return answer.body
        try:
            return self.answers.reply(answered(answer, _asking(request)))
        except MappingError:
            raise self._nonsense("off-contract") from None

    async def asked(self, request: Request, root: Root) -> Answer:
        """The answer that is a reply; tried again while there is time and a repeat does no harm. `root`: what the
        expressions of the call see."""
        for left in range(self.attempts - 1, -1, -1):
            try:
                return await self._tried(request, root)
            except (Unavailable, Failed, Interrupted) as error:
                if error.code in self.backend.patient_codes:
                    raise
                if error.code != LEFT_ALONE and not isinstance(error, _NotYet):  # left alone: said when that began
                    place, kind = self.service.service, type(error).__name__
                    log.warning("a back end failed", service=place, error=kind, code=error.code, transaction=request.id)
                wait_s = self.backend.config.retry.wait_s * random.uniform(0.5, 1.5)
                again = isinstance(error, Unavailable) and error.code not in _NO_RETRY
                if not left or not again or request.remaining_s() < wait_s + FAIR_CALL_S:
                    raise
            await asyncio.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    async def _tried(self, request: Request, root: Root) -> Answer:
        """One call behind the breaker, which counts what the system failed at, not its no."""
        try:
            permit = self.backend.breaker.admit()
        except BreakerOpen:
            raise Unavailable(LEFT_ALONE) from None
        limit_s = min(self.backend.config.timeout_s, request.remaining_s() - ANSWER_MARGIN_S)
        with permit:
            try:
                answer = await self._in_time(request, root, limit_s)
                self._judge(answer, root)
            except (RecordNotFound, Refused, _NotYet):
                permit.succeeded()
                raise
            except (Unavailable, Failed, Interrupted) as error:
                if error.code in self.backend.patient_codes:
                    permit.succeeded()
                    raise
                if error.code != TIMEOUT or limit_s >= FAIR_CALL_S:
                    permit.failed()
                raise
            except MappingError:
                raise Failed("no-call") from None  # the request's fault, not the system's
            permit.succeeded()
            return answer

    async def _in_time(self, request: Request, root: Root, limit_s: float) -> Answer:
        if limit_s <= 0:
            raise Unavailable(TIMEOUT)
        attempt = Attempt(root, time.monotonic() + limit_s, request)
        try:
            async with asyncio.timeout(limit_s):
                return await self.operation(attempt)
        except TimeoutError:
            raise self._lost(TIMEOUT) if attempt.begun else Unavailable(TIMEOUT) from None
        except Interrupted as error:
            raise self._lost(error.code) from None
        except Failed as error:
            raise self._nonsense(error.code) from None

    def _judge(self, answer: Answer, root: Root) -> None:
        """Raises what an answer means that is no reply."""
        try:
            found = decide(self.answers.outcomes, answered(answer, root))
        except MappingError:
            raise self._nonsense("off-contract") from None
        if found and found[0] == "retry" and self.backend.works(answer):
            raise _NotYet(found[1])
        kind, code = found or self.backend.judge(answer)
        if kind == "unknown":
            raise self._lost(code)
        if kind != "ok":
            raise _ERRORS[kind](code)

    def _lost(self, code: str) -> AdapterError:
        """It may have been done: to ask again, where a repeat does nothing twice."""
        return Unavailable(code) if self.repeatable else Interrupted(code)

    def _nonsense(self, code: str) -> AdapterError:
        """An answer that cannot be understood: what was asked for may have been done all the same."""
        return Failed(code) if self.repeatable else Interrupted(code)


def _asking(request: Request) -> Root:
    return {
        "payload": request.payload,
        "id": request.id,
        "purpose": request.purpose,
        "officer": request.officer,
        "dossier": request.dossier,
        "deadline": request.deadline.isoformat(),
    }


def answered(answer: Answer, asking: Root) -> Root:
    """What expressions about an answer see; which of `asking`, that is settled when they are read."""
    return {**asking, "status": answer.status, "body": answer.body, "headers": answer.headers}
