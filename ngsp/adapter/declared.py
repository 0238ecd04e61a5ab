"""A manifest with a back end → the functions of an adapter: ask, judge the answer, map it.

    request ─▶ call (expressions) ─▶ back end ─▶ outcomes: which answer is what ─▶ reply (expressions)

One breaker for the back end counts its failures, not its *no*. What a lost answer means depends on the service: where
a repeat does nothing twice (a query; a submission whose id the provider honours) it is *unavailable* and may be asked
again, elsewhere *unknown*.
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
from pydantic import BaseModel, ValidationError

from ngsp.adapter.backends import KINDS, backend_class
from ngsp.adapter.backends.base import Answer, Attempt, Backend, Operation, Setting
from ngsp.adapter.breaker import BreakerOpen
from ngsp.adapter.definition import (
    Adapter,
    AdapterError,
    Failed,
    Interrupted,
    RecordNotFound,
    Refused,
    ReplyFunction,
    Request,
    Serve,
    Unavailable,
)
from ngsp.adapter.manifest import EventServiceManifest, ManifestError, ServiceManifest
from ngsp.adapter.memory import Memory
from ngsp.adapter.models import Part, mistake, mistakes
from ngsp.adapter.outcomes import Kind, Rule, decide
from ngsp.mapping import Expression, MappingError, Root, Shape, Template
from ngsp.registry.texts import pointer
from ngsp.registry.yamlfiles import DocumentError, Source
from ngsp.text import Text, Wrong

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


class _Answering(Part):
    reply: Shape | None = None
    outcomes: tuple[Rule, ...] = ()
    cache_s: Expression | None = None


def declare(adapter: Adapter, source: Source) -> None:
    """Gives `adapter` its back end and a function for each service with `call`. ManifestError with every mistake."""
    reading = _Reading(adapter, source)
    if adapter.manifest.outcomes and adapter.manifest.backend is None:
        reading.wrong("/outcomes", _NO_BACKEND)
    common = reading.read(_Answering, {"outcomes": adapter.manifest.outcomes}, ANSWER_ROOT, "")
    for index, service in enumerate(adapter.manifest.services):
        if isinstance(service, EventServiceManifest):
            continue
        place = f"/services/{index}"
        if service.call is None and service.declares:
            said = next(name for name in ("reply", "outcomes", "cache_s") if name in service.model_fields_set)
            reading.wrong(f"{place}/{said}", _NO_CALL)
        elif service.call is not None and adapter.manifest.backend is None:
            reading.wrong(f"{place}/call", _NO_BACKEND)
        elif service.call is not None:
            serve = reading.function(place, service, common.outcomes if common else ())
            if serve is not None:
                adapter.service(service.service, service.version)(serve)
    if reading.mistakes:
        raise ManifestError(mistakes=reading.mistakes)
    adapter.backend = reading.backend
    if reading.backend is not None:
        adapter.breakers["backend"] = reading.backend.breaker


_NO_BACKEND = Text("Chưa có hệ thống để gọi: hãy thêm backend.", "There is no back end to call: add backend.")
_NO_CALL = Text(
    "Không có call thì không có câu trả lời: hãy thêm call, hoặc bỏ khóa này.",
    "Without call there is no answer: add call, or leave it out.",
)
_NO_ID = Text(
    "Dịch vụ nộp với effect idempotent phải gửi mã giao dịch: hãy dùng id, ví dụ headers: {Idempotency-Key: id}; "
    "nếu hệ thống không nhận mã, ghi effect: uncertain.",
    "A submission with effect idempotent must pass the transaction's id: use id, such as "
    "headers: {Idempotency-Key: id}; where the system honours none, write effect: uncertain.",
)

_NO_CACHE = Text(
    "Chỉ nhớ được câu trả lời của dịch vụ tra cứu mà call chỉ dùng payload: hãy bỏ cache_s.",
    "Only replies of a query whose call reads nothing but payload can be given again: leave cache_s out.",
)


class _Reading:
    """One manifest while it is read; what is wrong is gathered, so that all of it can be told at once.

    `kind`: the class of the back end, None where that is not known. `backend`: None where its settings are wrong.
    """

    def __init__(self, adapter: Adapter, source: Source) -> None:
        self._adapter, self._source = adapter, source
        self.mistakes: list[DocumentError] = []
        self.kind = self._kind()
        self.backend = self._backend()

    def wrong(self, place: str, text: Text) -> None:
        self.mistakes.append(mistake(self._source, place, text))

    def read(self, model: type[Part], value: Any, names: tuple[str, ...], place: str) -> Any:
        """`value`, which stands at `place`, as a `model`; None where something is wrong with it."""
        try:
            return model.model_validate(
                value, context=Setting(names, self._adapter.manifest.tables, self._adapter.folder)
            )
        except ValidationError as error:
            self.mistakes += mistakes(self._source, place, error, value)
            return None

    def _kind(self) -> type[Backend[Any, Any]] | None:
        written = self._adapter.manifest.backend
        if written is None:
            return None
        kind = written.get("kind")
        if kind in KINDS:
            return backend_class(kind)
        known = ", ".join(KINDS)
        self.wrong("/backend/kind", Text(f"Phải là một trong: {known}.", f"Must be one of: {known}."))
        return None

    def _backend(self) -> Backend[Any, Any] | None:
        if self.kind is None:
            return None
        config = self.read(self.kind.Config, self._adapter.manifest.backend, CALL_ROOT, "/backend")
        return None if config is None else self.kind(config, self._adapter.id)

    def function(self, place: str, service: ServiceManifest, common: tuple[Rule, ...]) -> Serve | None:
        """The function of the service at `place`; None where something is wrong with it. `common`: rules of all."""
        written = {
            name: getattr(service, name)
            for name in ("reply", "outcomes", "cache_s")
            if name in service.model_fields_set
        }
        call = self.read(self.kind.Call, service.call, CALL_ROOT, f"{place}/call") if self.kind else None
        answers = self.read(_Answering, written, ANSWER_ROOT, place)
        if self.kind is None or call is None or answers is None:
            return None
        if service.effect not in self.kind.effects:
            known = ", ".join(sorted(self.kind.effects))
            self.wrong(f"{place}/effect", Text(f"Phải là: {known}.", f"Must be: {known}."))
            return None
        if self.backend is None:
            return None
        passes_id = "id" in _reads([call, self.backend.config])
        if service.mode == "submission" and service.effect == "idempotent" and not passes_id:
            self.wrong(f"{place}/call", _NO_ID)
        try:
            operation = self.backend.operation(service, call)
        except Wrong as error:
            self.wrong(f"{place}/call" + pointer(error.path), error.text)
            return None
        if answers.cache_s is not None and (service.mode != "query" or not _reads(call) <= {"payload"}):
            self.wrong(f"{place}/cache_s", _NO_CACHE)
        answers = answers.model_copy(update={"outcomes": answers.outcomes + common})
        memory = Memory() if answers.cache_s is not None else None
        return Declared(self.backend, operation, service, answers, self._adapter.replies, memory)


def _reads(value: Any) -> frozenset[str]:
    """The members of the root that the expressions in `value` read."""
    if isinstance(value, Expression | Shape | Template):
        return value.reads
    if isinstance(value, BaseModel):
        below: list[Any] = [getattr(value, name) for name in type(value).model_fields]
    elif isinstance(value, dict):
        below = list(value.values())
    elif isinstance(value, list | tuple):
        below = list(value)
    else:
        return frozenset()
    return frozenset[str]().union(*map(_reads, below))


@dataclass(frozen=True, slots=True)
class Declared:
    """Serves one service from one back end."""

    backend: Backend[Any, Any]
    operation: Operation
    service: ServiceManifest
    answers: _Answering
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
            return self._replied(request, await self._asked(request, request.payload))
        known = self.memory.find(request.body)
        if known is not None:
            return known
        answer = await self._asked(request, request.payload)
        reply = self._replied(request, answer)
        body = reply if isinstance(reply, bytes) else orjson.dumps(reply)
        self.memory.keep(request.body, body, self._holds_s(request, answer))
        return body

    def _holds_s(self, request: Request, answer: Answer) -> float:
        """How long the reply holds, by what the system says; not at all where it says nothing that is a number."""
        assert self.answers.cache_s is not None
        try:
            found = self.answers.cache_s(_root(answer, request.payload, request.id))
        except MappingError:
            return 0.0
        return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else 0.0

    def _replied(self, request: Request, answer: Answer) -> object:
        payload = request.payload
        if (make := self.by_function.get(request.envelope.service)) is not None:
            return make(answer, request)
        if self.answers.reply is None:
            return answer.body
        try:
            return self.answers.reply(_root(answer, payload, request.id))
        except MappingError:
            raise self._nonsense("off-contract") from None

    async def _asked(self, request: Request, payload: Any) -> Answer:
        """The answer that is a reply; tried again while there is time and a repeat does no harm."""
        root = {
            "payload": payload,
            "id": request.id,
            "purpose": request.purpose,
            "officer": request.officer,
            "dossier": request.dossier,
            "deadline": request.deadline.isoformat(),
        }
        for left in range(self.attempts - 1, -1, -1):
            try:
                return await self._tried(request, root)
            except (Unavailable, Failed, Interrupted) as error:
                if error.code in self.backend.patient_codes:
                    raise
                if error.code != LEFT_ALONE:  # that it is left alone was said when it began
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
            except (RecordNotFound, Refused):
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
            found = decide(self.answers.outcomes, _root(answer, root["payload"], root["id"]))
        except MappingError:
            raise self._nonsense("off-contract") from None
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


def _root(answer: Answer, payload: Any, id: str) -> Root:
    return {
        "status": answer.status,
        "body": answer.body,
        "headers": answer.headers,
        "payload": payload,
        "id": id,
    }
