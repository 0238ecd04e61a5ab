"""What a manifest declares, read: every mistake with its place, and a function for each service with `call`."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

from pydantic import BaseModel, ValidationError

from ngsp.adapter.backends import KINDS, backend_class
from ngsp.adapter.backends.base import Backend, Setting
from ngsp.adapter.declared import ANSWER_ROOT, CALL_ROOT, Answering, Declared
from ngsp.adapter.declared_sources import (
    EVENT_ROOT,
    ROWS,
    SOURCE_ANSWER_ROOT,
    SOURCE_CALL_ROOT,
    DeclaredSource,
    EventShape,
    SourceAnswering,
    as_query,
    written_call,
)
from ngsp.adapter.definition import Adapter, Serve
from ngsp.adapter.manifest import EventServiceManifest, ManifestError, ServiceManifest, SourceManifest
from ngsp.adapter.memory import Memory
from ngsp.adapter.models import Part, mistake, mistakes
from ngsp.adapter.outcomes import Rule
from ngsp.mapping import Expression, MappingError, Shape, Template
from ngsp.registry.texts import pointer
from ngsp.registry.yamlfiles import DocumentError, Source
from ngsp.text import Text, Wrong

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


def declare(adapter: Adapter, source: Source) -> None:
    """Gives `adapter` its back end and a function for each service with `call`. ManifestError with every mistake."""
    reading = Reading(adapter, source)
    if adapter.manifest.outcomes and adapter.manifest.backend is None:
        reading.wrong("/outcomes", _NO_BACKEND)
    common = reading.read(Answering, {"outcomes": adapter.manifest.outcomes}, ANSWER_ROOT, "")
    rules: tuple[Rule, ...] = common.outcomes if common else ()
    for index, service in enumerate(adapter.manifest.services):
        place = f"/services/{index}"
        if isinstance(service, EventServiceManifest):
            if service.source is not None and (found := reading.source(place, service, service.source, rules)):
                adapter.source(service.service, service.version, every_s=service.source.every_s)(found)
            continue
        if service.call is None and service.declares:
            said = next(name for name in ("reply", "outcomes", "cache_s") if name in service.model_fields_set)
            reading.wrong(f"{place}/{said}", _NO_CALL)
        elif service.call is not None and adapter.manifest.backend is None:
            reading.wrong(f"{place}/call", _NO_BACKEND)
        elif service.call is not None:
            serve = reading.function(place, service, rules)
            if serve is not None:
                adapter.service(service.service, service.version)(serve)
    if reading.mistakes:
        raise ManifestError(mistakes=reading.mistakes)
    adapter.backend = reading.backend
    if reading.backend is not None:
        adapter.breakers["backend"] = reading.backend.breaker


class Reading:
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
        answers = self.read(Answering, written, ANSWER_ROOT, place)
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

    def source(
        self, place: str, service: EventServiceManifest, source: SourceManifest, common: tuple[Rule, ...]
    ) -> DeclaredSource | None:
        """The source of the service at `place`; None where something is wrong with it."""
        place += "/source"
        if self.kind is None:
            if self._adapter.manifest.backend is None:
                self.wrong(f"{place}/call", _NO_BACKEND)
            return None
        fields = self.kind.Call.model_fields
        rows = (ROWS,) if ROWS in fields else ()
        written = written_call(source, fields)
        answering = source.model_dump(include={"outcomes", "items", "cursor", "more"}, exclude_unset=True)
        call = self.read(self.kind.Call, written, SOURCE_CALL_ROOT, f"{place}/call")
        answers = self.read(SourceAnswering, answering, SOURCE_ANSWER_ROOT + rows, place)
        event = self.read(EventShape, source.event, EVENT_ROOT + rows, f"{place}/event")
        if event is not None and not _is_one_of(event.type, service.events):
            known = ", ".join(service.events)
            self.wrong(f"{place}/event/type", Text(f"Phải là một trong: {known}.", f"Must be one of: {known}."))
        if self.backend is None or call is None or answers is None or event is None:
            return None
        asked = as_query(service, written)
        try:
            operation = self.backend.operation(asked, call)
        except Wrong as error:
            self.wrong(f"{place}/call" + pointer(error.path), error.text)
            return None
        asking = Declared(self.backend, operation, asked, Answering(outcomes=answers.outcomes + common), {})
        return DeclaredSource(self._adapter.key(service).path, asking, answers, event)


def _is_one_of(type: Expression, known: Container[str]) -> bool:
    """Whether it may be; what reads nothing is always the same."""
    try:
        return bool(type.reads) or type({}) in known
    except MappingError:
        return False


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
