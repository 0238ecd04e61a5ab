"""Answers of a back end, recorded once and replayed ever after: what a contract test runs on where the system is not.

One JSON file each in the adapter's folder `recordings/`:

    {"service": "one-stop-desk/v1", "request": {…}, "officer": "", "dossier": "",
     "answer": {"status": 200, "headers": {…}, "body": …}, "expect": {"status": "ok", "code": "", "reply": {…}}}

`expect` is what the mapping made of it when it was recorded. Of a source, `request` is the cursor and `reply` what it
gave: `{"events": […], "cursor": "…", "more": false}`. The answers stand there as they are: record test systems,
never citizens' data.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field, ValidationError

from ngsp.adapter.backends.base import Answer, Attempt, Operation
from ngsp.adapter.breaker import Breaker
from ngsp.adapter.declared import Declared
from ngsp.adapter.declared_sources import DeclaredSource
from ngsp.adapter.definition import Adapter, Failed
from ngsp.adapter.manifest import ManifestError, ServiceManifest
from ngsp.adapter.models import Part
from ngsp.messages import ReplyStatus
from ngsp.registry.texts import pointer
from ngsp.text import tr

FOLDER = "recordings"
_NEVER = 1 << 60
_PLAIN = re.compile(r"[^a-z0-9]+")


class RecordedAnswer(Part):
    status: int | str
    headers: dict[str, str] = Field(default_factory=dict)
    body: Any = None


class Expectation(Part):
    status: ReplyStatus
    code: str = ""
    reply: Any = None


class Recording(Part):
    """One answer. `service`: name/version."""

    service: Annotated[str, Field(pattern=r"^[a-z0-9-]+/v[1-9]\d{0,3}$")]
    request: Any
    officer: str = ""
    dossier: str = ""
    answer: RecordedAnswer
    expect: Expectation


def read_recordings(folder: Path) -> list[tuple[Path, Recording]]:
    """What `folder`/recordings holds, by file name. ManifestError with file and place where one is not usable."""
    found = []
    for file in sorted((folder / FOLDER).glob("*.json")):
        try:
            found.append((file, Recording.model_validate(orjson.loads(file.read_bytes()))))
        except orjson.JSONDecodeError as error:
            raise ManifestError(f"{file}:{error.lineno}: {tr('không phải JSON', 'is not JSON')}") from None
        except ValidationError as error:
            place = pointer(error.errors(include_url=False, include_input=False)[0]["loc"])
            remedy = tr("sai hoặc thiếu; hãy ghi lại bằng --record", "wrong or missing; record it anew with --record")
            raise ManifestError(f"{file}:1: {place or '/'}: {remedy}") from None
    return found


def write_recording(folder: Path, name: str, recording: Recording) -> Path:
    """Writes it as `folder`/recordings/{service}-{name}.json; an older one of the name is replaced."""
    stem = _PLAIN.sub("-", f"{recording.service}-{name}".lower()).strip("-")
    file = folder / FOLDER / f"{stem}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    document = recording.model_dump(mode="json", exclude_defaults=True)
    file.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    return file


def replaying(adapter: Adapter, recordings: Iterable[Recording]) -> Adapter:
    """`adapter` with recorded answers in the place of its back end, and with no inbox: nothing is effected.

    A request that was not recorded gets one of the answers of its service, always the same. ManifestError where a
    service has a function of the author's: there is nothing between it and the system that could be replayed.
    """
    by_service: dict[str, list[Recording]] = {}
    for recording in recordings:
        by_service.setdefault(recording.service, []).append(recording)
    services = [
        service.model_copy(update={"effect": "idempotent"}) if isinstance(service, ServiceManifest) else service
        for service in adapter.manifest.services
    ]
    copied = Adapter(adapter.manifest.model_copy(update={"services": services, "backend": None}))
    for path, service in adapter.declared().items():
        declared = adapter.function(path)
        if not isinstance(declared, Declared):
            raise ManifestError(tr(f"{path}: không có gì để phát lại", f"{path}: there is nothing to replay"))
        answers = by_service.get(f"{service.service}/{service.version}", [])
        copied.service(service.service, service.version)(replace(_replayed(declared, answers), service=service))
    for path, source in adapter.sources.items():
        if isinstance(changes := source.changes, DeclaredSource):
            asking = _replayed(changes.asking, by_service.get(path.partition("/")[2], []), "cursor")
            copied.sources[path] = replace(source, changes=replace(changes, asking=asking))
    return copied


def _replayed(declared: Declared, answers: list[Recording], asked: str = "payload") -> Declared:
    backend = copy.copy(declared.backend)
    backend.breaker = Breaker(threshold=_NEVER)
    return replace(declared, backend=backend, operation=_Replay(answers, asked))


class Recorder:
    """`adapter` with its back end, whose answers are kept: request's id, or path of the source → the last answer."""

    def __init__(self, adapter: Adapter) -> None:
        self.answers: dict[str, Answer] = {}
        self.adapter = Adapter(adapter.manifest)
        self.adapter.backend, self.adapter.folder = adapter.backend, adapter.folder
        for path, service in adapter.declared().items():
            declared = adapter.function(path)
            if isinstance(declared, Declared):
                declared = replace(declared, operation=_Recording(declared.operation, self.answers))
            self.adapter.service(service.service, service.version)(declared)
        for path, source in adapter.sources.items():
            if isinstance(changes := source.changes, DeclaredSource):
                operation = _Recording(changes.asking.operation, self.answers, path)
                changes = replace(changes, asking=replace(changes.asking, operation=operation))
                self.adapter.sources[path] = replace(source, changes=changes)


@dataclass(frozen=True, slots=True)
class _Recording:
    operation: Operation
    answers: dict[str, Answer]
    key: str = ""

    async def __call__(self, attempt: Attempt) -> Answer:
        answer = await self.operation(attempt)
        self.answers[self.key or str(attempt.root["id"])] = answer
        return answer


@dataclass(frozen=True, slots=True)
class _Replay:
    """`asked`: the member of the root that a recording's request stands for."""

    recordings: list[Recording]
    asked: str

    async def __call__(self, attempt: Attempt) -> Answer:
        if not self.recordings:
            raise Failed("no-recording")
        payload = attempt.root[self.asked]
        fitting = [recording for recording in self.recordings if recording.request == payload]
        if not fitting:
            number = hashlib.sha256(orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)).digest()[0]
            fitting = [self.recordings[number % len(self.recordings)]]
        answer = fitting[0].answer
        return Answer(answer.status, answer.body, answer.headers)
